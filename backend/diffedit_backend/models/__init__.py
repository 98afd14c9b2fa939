"""Loads Stable Diffusion 1.x, 2.x and XL: the bundled model, a diffusers folder, a single file, a hub id."""

from __future__ import annotations

from ..method.model import LoadedModel
from .adapters import with_adapters
from .device import use_threads
from .load import load_model

__all__ = ["LoadedModel", "load_model", "use_threads", "with_adapters"]
