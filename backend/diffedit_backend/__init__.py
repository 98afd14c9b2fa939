"""The GPU side of DiffEdit for Krita: the method, the models, the server and the command line.

Its front door are `load_model`, `edit_picture` and `DiffEditPipeline`. They are imported on demand, since torch and
diffusers come with the extra `backend` only and the server process does without them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from diffedit_protocol import __version__

if TYPE_CHECKING:
    from .editing import edit_picture, paste
    from .method.engine import DiffEditEngine
    from .models import load_model
    from .pipeline.pipeline import DiffEditPipeline

__all__ = ["DiffEditEngine", "DiffEditPipeline", "__version__", "edit_picture", "load_model", "paste"]

_HOMES = {
    "DiffEditEngine": ".method.engine",
    "DiffEditPipeline": ".pipeline.pipeline",
    "edit_picture": ".editing",
    "load_model": ".models",
    "paste": ".editing",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
