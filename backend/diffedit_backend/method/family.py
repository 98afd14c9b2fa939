"""What kinds of models do each in their own way: texts, latents, the network's call, guidance, sizes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import Tensor

from .denoise import guide
from .text_condition import TextCondition

if TYPE_CHECKING:
    import torch

    from .schedule import Level
    from .words import LearnedWords


class FamilyModel(Protocol):
    """What a family asks of a model: the part of `model.LoadedModel` that its methods read."""

    @property
    def denoiser(self) -> Any: ...
    @property
    def vae(self) -> Any: ...
    @property
    def tokenizers(self) -> tuple[Any, ...]: ...
    @property
    def text_encoders(self) -> tuple[Any, ...]: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def words(self) -> LearnedWords: ...
    @property
    def compiled(self) -> bool: ...
    @property
    def zero_empty_text(self) -> bool: ...
    @property
    def is_xl(self) -> bool: ...
    @property
    def factor(self) -> int: ...
    @property
    def scaling_factor(self) -> float: ...


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
    def factor(self, model: FamilyModel) -> int:
        """Picture px per latent cell."""

    @abstractmethod
    def multiple(self, model: FamilyModel) -> int:
        """Picture sides must be multiples of this many px."""

    @abstractmethod
    def native_size(self, model: FamilyModel) -> int:
        """The side in px of the square pictures that the model was trained on."""

    @abstractmethod
    def latent_channels(self, model: FamilyModel) -> int:
        """Channels of the latents that the network takes."""

    @abstractmethod
    def encode_text(self, model: FamilyModel, text: str) -> TextCondition:
        """The embedding of one text, in the model's precision, on its device."""

    @abstractmethod
    def words_beyond(self, model: FamilyModel, text: str) -> str:
        """The end of a text beyond the number of tokens that the model reads; mostly ""."""

    @abstractmethod
    def encode(self, model: FamilyModel, picture: Tensor) -> Tensor:
        """Latents (B, C, h, w), as the network takes them, of a picture (B, 3, H, W) in [-1, 1]: the posterior's mode.

        Both have the VAE's precision.
        """

    @abstractmethod
    def decode(self, model: FamilyModel, latents: Tensor) -> Tensor:
        """The picture (B, 3, H, W), about [-1, 1], of latents (B, C, h, w)."""

    @abstractmethod
    def forward(
        self, model: FamilyModel, network: Any, x: Tensor, level: Level, texts: Sequence[TextCondition]
    ) -> Tensor:
        """What `network`, the model's own, predicts at x (B, C, h, w) of `level` under B texts: (B, C, h, w) in the
        unit of the model's schedule.
        """

    def guide(self, unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
        """Classifier-free guidance of two predictions (B, C, h, w); 1 is the conditional one itself."""
        return guide(unconditional, conditional, scale)
