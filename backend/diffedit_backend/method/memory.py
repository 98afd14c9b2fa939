"""How much memory a device has left, and what is said when it was too little."""

from __future__ import annotations

import psutil
import torch

FREE_SHARE = 0.8  # of the free device memory that one computation may plan with


class OutOfMemory(RuntimeError):
    """The device's memory was too small even for the smallest piece tried."""


def free_bytes(device: torch.device) -> int | None:
    """Bytes that torch can still take on a GPU, its own unused reserve included; None where no one tells."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def room_on(device: torch.device) -> int:
    """Bytes that are free on the device, what torch holds in reserve included; a CPU's and Apple's is the machine's."""
    free = free_bytes(device)
    return int(psutil.virtual_memory().available) if free is None else free


def give_back(device: torch.device) -> None:
    """Return torch's unused reserve to the device, so that a smaller piece finds a whole room."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
