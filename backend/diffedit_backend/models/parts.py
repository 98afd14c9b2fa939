"""The parts of a model before they are placed on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .safety import SafetyChecker


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
