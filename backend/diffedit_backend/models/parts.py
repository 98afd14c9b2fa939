"""The parts of a model before they are placed on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Parts:
    """diffusers' and transformers' objects. Two tokenizers and text encoders for SDXL, else one; `scheduler` has the betas."""

    unet: Any
    vae: Any
    tokenizers: tuple[Any, ...]
    text_encoders: tuple[Any, ...]
    scheduler: Any
    zero_empty_text: bool = False
