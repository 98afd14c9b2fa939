"""Loads models: the bundled one, a diffusers folder, a single file, a hub id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .options import ModelOptions

if TYPE_CHECKING:
    from ..method.model import LoadedModel
    from .adapters import with_adapters
    from .device import use_threads
    from .load import load_model

__all__ = ["LoadedModel", "ModelOptions", "load_model", "use_threads", "with_adapters"]
_MODULES = {
    "LoadedModel": "..method.model",
    "load_model": ".load",
    "use_threads": ".device",
    "with_adapters": ".adapters",
}


def __getattr__(name: str) -> Any:
    """On demand: the catalogue and the options, which the server and the command line need, do without torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name], __name__), name)
