"""Memory: what weights take, what a device has left, and the error where it was too little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch

FREE_SHARE = 0.8  # of the free device memory that one computation may plan with


@dataclass(frozen=True)
class Footprint:
    """Bytes of weights: on the device at most at one time, and of those that wait in the machine's memory meanwhile."""

    on_device: int
    waiting: int = 0


def bytes_of(network: Any) -> int:
    """Memory of a network's weights."""
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))


def footprint_of(networks: Sequence[Any], offload: str) -> Footprint:
    """What networks take where; `offload`: "none", "model" (one network at a time is on the device) or "sequential"
    (one layer)."""
    sizes = [bytes_of(network) for network in networks]
    if offload == "none":
        return Footprint(sum(sizes))
    # A network that is on the device just now needs its place in the machine's memory again when the next one comes.
    return Footprint(max(sizes) if offload == "model" else max(map(_largest_layer, networks)), sum(sizes))


def _largest_layer(network: Any) -> int:
    layers = (layer.parameters(recurse=False) for layer in network.modules())
    return max(sum(tensor.nbytes for tensor in layer) for layer in layers)


class DeviceMemoryError(RuntimeError):
    """The device's memory was too small even for the smallest piece tried."""


def free_bytes(device: torch.device) -> int | None:
    """Bytes that torch can still take on a GPU, its own unused reserve included; None where no one tells."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def free_memory_on(device: torch.device) -> int:
    """Bytes that are free on the device, what torch holds in reserve included; a CPU's and Apple's is the machine's."""
    free = free_bytes(device)
    return int(psutil.virtual_memory().available) if free is None else free


def give_back(device: torch.device) -> None:
    """Return torch's unused reserve to the device, so that a smaller piece finds a whole room."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
