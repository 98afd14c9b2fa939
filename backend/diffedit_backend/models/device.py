"""Which device, which precision."""

from __future__ import annotations

import torch
from diffedit_protocol.errors import ModelError

from .loaded import LoadedModel

# Latent cells x parameters of the UNet below which a second thread costs more than it brings: between the bundled
# model (2e9) and Stable Diffusion (4e12).
_WORTH_SHARING = 1e11

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


def choose_dtype(wish: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The wished precision, else fp16 on a GPU and fp32 on a CPU, where half precision is slower."""
    if isinstance(wish, torch.dtype):
        return wish
    if wish is not None:
        if wish not in PRECISIONS:
            raise ModelError(f"The precision must be one of {', '.join(PRECISIONS)}, not {wish!r}.")
        return PRECISIONS[wish]
    return torch.float32 if device.type == "cpu" else torch.float16


def use_threads(model: LoadedModel) -> None:
    """Let torch compute in one thread where a step is too small to share, so that busy cores do not stall it.

    Sets the count for this process, so it is for programs to call (the worker, the command line), not for libraries.
    """
    parameters = sum(p.numel() for p in model.unet.parameters())
    if model.device.type == "cpu" and (model.native_size // model.factor) ** 2 * parameters < _WORTH_SHARING:
        torch.set_num_threads(1)
