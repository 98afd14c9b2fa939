"""A model in memory, ready to predict: the networks of the library as they are, and the facts that the method needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from .family import ModelFamily
from .memory import Footprint, footprint_of
from .schedule import NoiseSchedule
from .stable_diffusion import StableDiffusion
from .words import LearnedWords

DEFAULT_GUIDANCE = 7.5  # the paper's setting for Stable Diffusion
Offload = Literal["none", "model", "sequential"]


class SafetyCheck(Protocol):
    """Looks at results before they are shown. Some models of Stable Diffusion 1 come with one."""

    @property
    def nbytes(self) -> int:
        """Memory of its weights."""
        ...

    def flags(self, pixels: NDArray[np.uint8]) -> bool:
        """Whether the picture (H, W, 3) uint8 is to be kept back."""
        ...


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """Networks on their device. Sizes, factor and channels are read from the configs: nothing is known in advance.

    tokenizers, text_encoders: one pair for Stable Diffusion 1 and 2, two for XL. key: names the weights, for caches.
    zero_empty_text: whether the empty text stands for zeros instead of for its embedding (SDXL base).
    words: those of textual inversions. safety: None where the model has no checker or its owner switched it off.
    offload: "none", "model" or "sequential". `device` is where the networks compute, not where they wait.
    vae_tiles: into how many tiles the VAE cuts a picture's longer side, None for as many as the free memory asks for.
    denoiser: the network that predicts: a UNet, or a transformer in the families of flow models.
    few_steps: steps that a distilled model (LCM, Turbo, Lightning, Hyper) was made for, 0 for a base model. Distilled
    models invert badly, so the default method edits them without inversion (see `settings.settings_for`).
    steps: of the default method at normal quality, None for the method's own.
    remark: what an artist should know of this model, "" when nothing.
    """

    name: str
    key: str
    denoiser: Any
    vae: Any
    tokenizers: tuple[Any, ...]
    text_encoders: tuple[Any, ...]
    schedule: NoiseSchedule
    device: torch.device
    dtype: torch.dtype
    guidance: float = DEFAULT_GUIDANCE
    zero_empty_text: bool = False
    compiled: bool = False
    words: LearnedWords = field(default_factory=LearnedWords)
    safety: SafetyCheck | None = None
    offload: Offload = "none"
    vae_tiles: int | None = None
    few_steps: int = 0
    steps: int | None = None
    remark: str = ""
    family: ModelFamily = field(default_factory=StableDiffusion)

    @property
    def networks(self) -> list[Any]:
        """All that an edit needs; a safety checker is none of them."""
        return [self.denoiser, self.vae, *self.text_encoders]

    @property
    def footprint(self) -> Footprint:
        """Memory of the weights on the device and, where they are offloaded, in the machine; the checker's included."""
        networks = footprint_of(self.networks, self.offload)
        checker = self.safety.nbytes if self.safety is not None else 0
        if self.offload == "none":
            return Footprint(networks.on_device + checker)
        return Footprint(networks.on_device, networks.waiting + checker)

    @property
    def is_xl(self) -> bool:
        """Whether the UNet wants pooled text and time ids beside the token embeddings."""
        return getattr(self.denoiser.config, "addition_embed_type", None) == "text_time"

    @property
    def factor(self) -> int:
        """Picture px per latent cell."""
        return self.family.factor(self)

    @property
    def multiple(self) -> int:
        """Picture sides must be multiples of this many px."""
        return self.family.multiple(self)

    @property
    def native_size(self) -> int:
        """The side in px of the square pictures that the model was trained on."""
        return self.family.native_size(self)

    @property
    def latent_channels(self) -> int:
        return self.family.latent_channels(self)

    @property
    def scaling_factor(self) -> float:
        """Latents that the UNet sees = the VAE's latents times this."""
        return float(self.vae.config.scaling_factor)
