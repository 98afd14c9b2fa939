"""Which device, which precision."""

from __future__ import annotations

import torch
from diffedit_protocol.errors import ModelError

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
