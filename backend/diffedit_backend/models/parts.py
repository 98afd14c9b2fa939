"""The parts of a model before they are placed on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .safety import SafetyChecker


@dataclass(frozen=True)
class Precisions:
    """`network`: of the denoising network and the text encoders; `vae`: of the autoencoder."""

    network: torch.dtype
    vae: torch.dtype


@dataclass(frozen=True, eq=False)
class Parts:
    """diffusers' and transformers' objects; two tokenizers and text encoders for SDXL, else one."""

    unet: Any
    vae: Any
    tokenizers: tuple[Any, ...]
    text_encoders: tuple[Any, ...]
    scheduler: Any
    zero_empty_text: bool = False
    safety: SafetyChecker | None = None
