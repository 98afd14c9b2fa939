"""The UNet compiled: quicker steps for a slow first run of every shape.

torch compiles anew for every shape, and on a GPU records a CUDA graph of it, so shapes are few: batches are filled up
to powers of two (`diffedit.network`) and picture sides to eighths of the model's own (`LoadedModel.multiple`). The
timestep goes in as a tensor, since a number would be a constant of the compiled code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

# The area of a native square in eighths, at up to 1:4 either way, has some 30 shapes, in a few sizes of batch. torch's
# own limit of 8 would let all further shapes run uncompiled, without a word.
_SHAPES = 128


def compiled_unet(unet: Any, device: torch.device, backend: str | Callable[..., Any] = "inductor") -> Any:
    """The UNet, compiled when it is first called. `backend`: one of torch's, or a function that takes a graph."""
    import torch._dynamo.config as limits

    for name in ("recompile_limit", "cache_size_limit"):  # torch 2.7 and later; before
        if hasattr(limits, name):
            setattr(limits, name, max(_SHAPES, getattr(limits, name)))
    graphs = "reduce-overhead" if backend == "inductor" and device.type == "cuda" else None
    return torch.compile(unet, backend=backend, mode=graphs, dynamic=False)
