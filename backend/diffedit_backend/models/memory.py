"""How much memory there is for models, and how much a model will take."""

from __future__ import annotations

import psutil
import torch

from ..diffedit.memory import free_bytes as free_on_gpu
from ..library.folders import model_place
from ..library.listing import entry_of


def free_bytes(device: torch.device) -> int:
    """Bytes that are free on the device, what torch holds in reserve included; a CPU's and Apple's is the machine's."""
    free = free_on_gpu(device)
    return int(psutil.virtual_memory().available) if free is None else free


def expected_bytes(name: str, dtype: torch.dtype) -> int:
    """Bytes of a model's weights, from the headers of its files; 0 where they are not known, as of one on the hub."""
    place = model_place(name)
    return entry_of(name, place).bytes_in_memory(dtype.itemsize) if place.exists() else 0


def give_back() -> None:
    """Hand what torch keeps in reserve to the device's other users."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
