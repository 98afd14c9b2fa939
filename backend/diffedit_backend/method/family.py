"""What kinds of models do each in their own way: texts, latents, the network's call, guidance, sizes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from .denoise import guide
from .text_condition import TextCondition

if TYPE_CHECKING:
    from .model import LoadedModel
    from .schedule import Level


class ModelFamily(ABC):
    """The conventions of one family of models. It holds no weights: those are the model's, whose family it is.

    name: as sentences call it. same_text_length: whether the embeddings of all texts have the same number of tokens.
    attention: whether its network has cross-attention layers that tell where it looks for a word.
    weighting: whether words of a text can be weighted.
    """

    name: ClassVar[str]
    same_text_length: ClassVar[bool] = True
    attention: ClassVar[bool] = False
    weighting: ClassVar[bool] = False

    @abstractmethod
    def factor(self, model: LoadedModel) -> int:
        """Picture px per latent cell."""

    @abstractmethod
    def multiple(self, model: LoadedModel) -> int:
        """Picture sides must be multiples of this many px."""

    @abstractmethod
    def native_size(self, model: LoadedModel) -> int:
        """The side in px of the square pictures that the model was trained on."""

    @abstractmethod
    def latent_channels(self, model: LoadedModel) -> int:
        """Channels of the latents that the network takes."""

    @abstractmethod
    def encode_text(self, model: LoadedModel, text: str) -> TextCondition:
        """The embedding of one text, in the model's precision, on its device."""

    @abstractmethod
    def words_beyond(self, model: LoadedModel, text: str) -> str:
        """The end of a text beyond the number of tokens that the model reads; mostly ""."""

    @abstractmethod
    def encode(self, model: LoadedModel, picture: Tensor) -> Tensor:
        """Latents (B, C, h, w), as the network takes them, of a picture (B, 3, H, W) in [-1, 1]: the posterior's mode.

        Both have the VAE's precision.
        """

    @abstractmethod
    def decode(self, model: LoadedModel, latents: Tensor) -> Tensor:
        """The picture (B, 3, H, W), about [-1, 1], of latents (B, C, h, w)."""

    @abstractmethod
    def forward(
        self, model: LoadedModel, network: Any, x: Tensor, level: Level, texts: Sequence[TextCondition]
    ) -> Tensor:
        """What `network`, the model's own, predicts at x (B, C, h, w) of `level` under B texts: (B, C, h, w) in the
        unit of the model's schedule.
        """

    def guide(self, unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
        """Classifier-free guidance of two predictions (B, C, h, w); 1 is the conditional one itself."""
        return guide(unconditional, conditional, scale)
