"""The GPU side of DiffEdit for Krita: the method, the models, the server and the command line."""

from typing import Any

from diffedit_protocol import __version__

__all__ = ["DiffEditPipeline", "__version__"]


def __getattr__(name: str) -> Any:
    """`DiffEditPipeline` on demand: torch and diffusers come with the extra `backend` only."""
    if name == "DiffEditPipeline":
        from .pipeline.pipeline import DiffEditPipeline

        return DiffEditPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
