"""Models that are larger than the device: their weights wait in the machine's memory and come when they are needed.

"model": one network at a time is on the device. "sequential": one layer at a time; slow, and needs next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import torch
from accelerate import cpu_offload
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from diffedit_protocol.errors import ModelError

from ..method.memory import Footprint
from ..method.model import LoadedModel, Offload
from .catalogue.folders import model_path
from .catalogue.listing import entry_of
from .device import choose_device, choose_dtype
from .options import ModelOptions

# Working memory in bytes for each latent cell, by estimate from published peaks: 1.2 GB for Stable Diffusion 1 at
# 512 px (4096 cells), 4.9 GB for XL at 1024 px. Smaller batches and tiles make do with less.
_WORKING_PER_CELL = 300_000


def expected_footprint(name: str, options: ModelOptions) -> Footprint:
    """What a model's weights will take, from the headers of its files; 0 where they are not known, as of one on the
    hub. Where `options` do not say how to offload, the model is taken to fit the device."""
    place = model_path(name)
    if not place.exists():
        return Footprint(0)
    entry = entry_of(name, place)
    size = choose_dtype(options.precision, choose_device(options.device), entry.parameters).itemsize
    if options.offload in ("model", "sequential"):
        # No header says how large a layer is, and it is small beside a network.
        on_device = entry.largest_network * size if options.offload == "model" else 0
        return Footprint(on_device, entry.bytes_in_memory(size))
    return Footprint(entry.bytes_in_memory(size))


def choose_offload(
    wish: Offload | None,
    device: torch.device,
    free: int,
    networks: Sequence[int],
    cells: int,
    encoders: Sequence[int] = (),
) -> Offload:
    """The wished way, else the quickest that fits `free` bytes of the device.

    networks: bytes of each network that computes on latents or pictures; cells: latent cells of the model's own picture
    size. encoders: bytes of each text encoder, which needs little beside its weights.
    Raises ModelError for an unknown way, and for offloading on a CPU, where it would save nothing.
    """
    if wish is not None and wish not in get_args(Offload):
        raise ModelError(f"Offloading must be one of {', '.join(get_args(Offload))}, not {wish!r}.")
    if device.type != "cuda":
        if wish in ("model", "sequential"):
            raise ModelError(
                f"Offloading moves weights from a GPU to the machine's memory; on {device.type!r} they are there "
                "already. Leave it out."
            )
        return "none"
    if wish is not None:
        return wish
    working = cells * _WORKING_PER_CELL
    if sum(networks) + sum(encoders) + working <= free:
        return "none"
    return "model" if max(max(networks) + working, max(encoders, default=0)) <= free else "sequential"


def offload(networks: list[Any], device: torch.device, way: Offload) -> None:
    """Have each of the networks, now in the machine's memory, come to `device` when it is called."""
    if way == "sequential":
        for network in networks:
            cpu_offload(network, execution_device=device)
    if way == "model":
        for network in networks:
            others = [other for other in networks if other is not network]
            add_hook_to_module(network, _ComesAlone(device, others))


@contextmanager
def weights_on_cpu(model: LoadedModel) -> Iterator[None]:
    """Within, an offloaded model's weights are in the machine's memory, so that layers can be added to its networks."""
    if model.offload == "none":
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
