"""Models that are larger than the device: their weights wait in the machine's memory and come when they are needed.

"model": one network at a time is on the device. "sequential": one layer at a time; slow, and needs next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate import cpu_offload
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from diffedit_protocol.errors import ModelError

if TYPE_CHECKING:
    from ..method.model import LoadedModel

NONE, MODEL, SEQUENTIAL = "none", "model", "sequential"
OFFLOADS = (NONE, MODEL, SEQUENTIAL)
# Working memory in bytes for each latent cell, by estimate from published peaks: 1.2 GB for Stable Diffusion 1 at
# 512 px (4096 cells), 4.9 GB for XL at 1024 px. Smaller batches and tiles make do with less.
_WORKING_PER_CELL = 300_000


@dataclass(frozen=True)
class Footprint:
    """Bytes of weights: on the device at most at one time, and of those that wait in the machine's memory meanwhile."""

    on_device: int
    waiting: int = 0


def bytes_of(network: Any) -> int:
    """Memory of a network's weights."""
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))


def footprint(networks: list[Any], way: str) -> Footprint:
    """What networks take where, offloaded the way that they are."""
    sizes = list(map(bytes_of, networks))
    if way == NONE:
        return Footprint(sum(sizes))
    # A network that is on the device just now needs its room in the machine's memory again when the next one comes.
    return Footprint(max(sizes) if way == MODEL else max(map(_largest_layer, networks)), sum(sizes))


def choose_offload(wish: str | None, device: torch.device, free: int, networks: list[int], cells: int) -> str:
    """The wished way, else the quickest that fits `free` bytes of the device.

    networks: bytes of each network; cells: latent cells of the model's own picture size.
    Raises ModelError for an unknown way, and for offloading on a CPU, where it would save nothing.
    """
    if wish is not None and wish not in OFFLOADS:
        raise ModelError(f"Offloading must be one of {', '.join(OFFLOADS)}, not {wish!r}.")
    if device.type != "cuda":
        if wish in (MODEL, SEQUENTIAL):
            raise ModelError(
                f"Offloading moves weights from a GPU to the machine's memory; on {device.type!r} they are there "
                "already. Leave it out."
            )
        return NONE
    if wish is not None:
        return wish
    working = cells * _WORKING_PER_CELL
    if sum(networks) + working <= free:
        return NONE
    return MODEL if max(networks) + working <= free else SEQUENTIAL


def offload(networks: list[Any], device: torch.device, way: str) -> None:
    """Have each of the networks, now in the machine's memory, come to `device` when it is called."""
    if way == SEQUENTIAL:
        for network in networks:
            cpu_offload(network, execution_device=device)
    if way == MODEL:
        for network in networks:
            others = [other for other in networks if other is not network]
            add_hook_to_module(network, _ComesAlone(device, others))


def _largest_layer(network: Any) -> int:
    layers = (layer.parameters(recurse=False) for layer in network.modules())
    return max(sum(tensor.nbytes for tensor in layer) for layer in layers)


@contextmanager
def weights_on_cpu(model: LoadedModel) -> Iterator[None]:
    """Within, an offloaded model's weights are in the machine's memory, so that layers can be added to its networks."""
    if model.offload == NONE:
        yield
        return
    for network in model.networks:
        remove_hook_from_module(network, recurse=True)
        network.to("cpu")
    try:
        yield
    finally:
        offload(model.networks, model.device, model.offload)


class _ComesAlone(ModelHook):
    """Before a network is called the others leave the device, and not sooner: a loop calls one again and again."""

    def __init__(self, device: torch.device, others: list[Any]) -> None:
        self._device = device
        self._others = others

    def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        for other in self._others:
            other.to("cpu")
        module.to(self._device)
        return args, kwargs
