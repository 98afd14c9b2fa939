"""The VAE in tiles: chosen from the free memory, and once more with smaller ones where that was not enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from .memory import FREE_SHARE, DeviceMemoryError, free_memory_on, give_back

T = TypeVar("T")
# Planes of a picture's size, in units of the first block's channels, that an autoencoder holds at its peak: the input
# (twice as wide in the decoder), the output and the normalised copy of its last residual block.
_PLANES = 6
_MOST_HALVINGS = 3  # tiles of an eighth: below, a tile sees too little of its picture


def halvings_for(vae: Any, height: int, width: int, free: int) -> int:
    """How often the sides of height x width px are halved, 0 to 3, for a tile to fit `free` bytes."""
    widths = getattr(vae.config, "block_out_channels", None)
    if widths is None:  # a video's autoencoder, which tiles in another way: whole
        return 0
    needed = _PLANES * widths[0] * height * width * vae.dtype.itemsize
    halvings = 0
    while needed > free * FREE_SHARE and halvings < _MOST_HALVINGS:
        needed, halvings = needed // 4, halvings + 1
    return halvings


@contextmanager
def tiles(vae: Any, height: int, width: int, halvings: int) -> Iterator[None]:
    """Within, the VAE works in overlapping tiles of a picture of height x width px; their borders are blended.

    The longer side, halved `halvings` times, is a tile's side. With 0 it is left as its owner set it.
    """
    if halvings == 0:
        yield
        return
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    cells = max(1, (max(height, width) // factor) >> halvings)
    kept = (vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size)
    vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size = True, cells * factor, cells
    try:
        yield
    finally:
        vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size = kept


def in_tiles_that_fit(
    vae: Any, device: torch.device, height: int, width: int, work: Callable[[], T], wish: int | None = None
) -> T:
    """`work()`, which asks the VAE about a picture of height x width px, in tiles where the whole does not fit.

    wish: this many tiles along the longer side instead: 1, 2, 4 or 8.
    Out of memory is answered once, with tiles of half the side. Raises DeviceMemoryError when they do not fit either.
    """
    halvings = halvings_for(vae, height, width, free_memory_on(device)) if wish is None else wish.bit_length() - 1
    try:
        with tiles(vae, height, width, halvings):
            return work()
    except torch.OutOfMemoryError:
        pass  # leave the handler first: the exception holds the attempt's tensors
    give_back(device)
    try:
        with tiles(vae, height, width, halvings + 1):
            return work()
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(str(error)) from error
