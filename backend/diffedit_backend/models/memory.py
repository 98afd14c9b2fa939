"""How much memory a model will take."""

from __future__ import annotations

import torch

from .catalogue.folders import model_place
from .catalogue.listing import entry_of
from .device import choose_dtype
from .offload import MODEL, SEQUENTIAL, Footprint


def expected_footprint(name: str, device: torch.device, dtype: str | None, offload: str | None) -> Footprint:
    """What a model's weights will take, from the headers of its files; nothing where they are not known, as of one on
    the hub. `dtype`, `offload`: the owner's wishes. Without the second, the model is reckoned to fit the device."""
    place = model_place(name)
    if not place.exists():
        return Footprint(0)
    entry = entry_of(name, place)
    size = choose_dtype(dtype, device, entry.parameters).itemsize
    if offload in (MODEL, SEQUENTIAL):
        # A layer's size is no header's business, and small beside a network's.
        return Footprint(entry.largest_network * size if offload == MODEL else 0, entry.bytes_in_memory(size))
    return Footprint(entry.bytes_in_memory(size))


def give_back() -> None:
    """Hand what torch keeps in reserve to the device's other users."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
