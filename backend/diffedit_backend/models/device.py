"""Which device, which precision, how many threads, and whether the network is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffedit_protocol.errors import ModelError

from ..method.model import LoadedModel

# Latent cells x parameters of the UNet below which a second thread brings little (a step in 0.8 of the time) and costs
# much as soon as the cores have other work: between the bundled model (2e9) and Stable Diffusion (4e12).
# `diffedit bench processor` measures it.
_WORTH_SHARING = 1e11
# Parameters from which bf16 is taken where the processor computes with it (the same benchmark): at the bundled model's
# 1e7 it gains nothing, at 6e7 a step takes 0.8 of the time, at Stable Diffusion's 1e9 0.56.
_WORTH_HALVING = 100_000_000

# The area of a native square in eighths, at up to 1:4 either way, has some 30 shapes, in a few sizes of batch. torch's
# own limit of 8 would let all further shapes run uncompiled, without a word.
_SHAPES = 128

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def choose_device(wish: str | torch.device | None) -> torch.device:
    """The wished device, else CUDA (or ROCm), else Apple's, else the CPU. Raises ModelError if the wish is not here."""
    if wish is not None:
        try:
            device = torch.device(wish)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(
                f"The device {str(wish)!r} is not available here. Leave it out to use the best one.", detail=str(error)
            ) from error
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def choose_dtype(wish: str | torch.dtype | None, device: torch.device, parameters: int = 0) -> torch.dtype:
    """The wished precision, else fp16 on a GPU. On a CPU bf16 for a model of many `parameters`, where the processor
    computes with it; else fp32: a processor that does not takes two to three times as long in half precision.
    """
    if isinstance(wish, torch.dtype):
        return wish
    if wish is not None:
        if wish not in PRECISIONS:
            raise ModelError(f"The precision must be one of {', '.join(PRECISIONS)}, not {wish!r}.")
        return PRECISIONS[wish]
    if device.type != "cpu":
        return torch.float16
    return torch.bfloat16 if parameters >= _WORTH_HALVING and computes_bf16() else torch.float32


def dtype_of_vae(dtype: torch.dtype) -> torch.dtype:
    """Of the autoencoder of a model of `dtype`: bf16 has no more bits than a picture, so it computes in fp32 then. That
    takes a few percent of an edit and leaves the bundled model's edits at 56 dB beside fp32, where bf16 leaves 52.
    """
    return torch.float32 if dtype == torch.bfloat16 else dtype


def computes_bf16() -> bool:
    """Whether this processor multiplies in bf16 itself: AVX512-BF16 or AMX. Others convert, which is slow."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def use_threads(model: LoadedModel, most: int | None = None) -> None:
    """Let torch compute in one thread where a step is too small to share, so that busy cores do not stall it; else in
    `most` threads, None for as many as there are.

    Sets the count for this process, so it is for programs to call (the worker, the command line), not for libraries.
    """
    parameters = sum(p.numel() for p in model.denoiser.parameters())
    if model.device.type == "cpu" and not worth_sharing((model.native_size // model.factor) ** 2, parameters):
        torch.set_num_threads(1)
    elif most is not None:
        torch.set_num_threads(most)


def worth_sharing(cells: int, parameters: int) -> bool:
    """Whether a step on so many latent cells by a UNet of so many parameters is quicker in several threads."""
    return cells * parameters >= _WORTH_SHARING


def compiled_unet(unet: Any, device: torch.device, backend: str | Callable[..., Any] = "inductor") -> Any:
    """The UNet, compiled when it is first called: quicker steps for a slow first run of every shape.

    torch compiles anew for every shape, and on a GPU records a CUDA graph of it, so shapes are few: batches are filled
    up to powers of two (`method.network`) and picture sides to eighths of the model's own (`LoadedModel.multiple`).
    backend: one of torch's, or a function that takes a graph.
    """
    import torch._dynamo.config as limits

    for name in ("recompile_limit", "cache_size_limit"):  # torch 2.7 and later; before
        if hasattr(limits, name):
            setattr(limits, name, max(_SHAPES, getattr(limits, name)))
    graphs = "reduce-overhead" if backend == "inductor" and device.type == "cuda" else None
    return torch.compile(unet, backend=backend, mode=graphs, dynamic=False)
