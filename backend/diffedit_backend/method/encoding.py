"""Between pictures and latents: the VAE, in tiles where it has to, and a cheap linear guess of it for previews.

How large the tiles are follows from the free memory; where that was not enough, smaller ones are tried once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from ..types import Pixels
from .memory import FREE_SHARE, DeviceMemoryError, free_memory_on, give_back
from .network import require_finite

if TYPE_CHECKING:
    from .model import LoadedModel


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


@torch.inference_mode()
def encode_picture(model: LoadedModel, pixels: Pixels) -> Tensor:
    """Latents (1, C, H/f, W/f) float32 of a picture (H, W, 3) uint8: the posterior's mode, scaled for the network.

    In tiles where the memory is small. Raises DeviceMemoryError.
    """
    picture = torch.from_numpy(pixels.copy()).to(model.device).permute(2, 0, 1)[None]
    picture = picture.to(model.vae.dtype) / 127.5 - 1
    height, width = pixels.shape[:2]

    def encoded() -> Tensor:
        return model.family.encode(model, picture)

    return in_tiles_that_fit(model.vae, model.device, height, width, encoded, model.vae_tiles).float()


@torch.inference_mode()
def decode_latents(model: LoadedModel, latents: Tensor) -> Pixels:
    """The picture (H, W, 3) uint8 of latents (1, C, h, w); in tiles where memory is small. Raises DeviceMemoryError."""
    height, width = (side * model.factor for side in latents.shape[-2:])

    def decoded() -> Tensor:
        return model.family.decode(model, latents.to(model.vae.dtype))[0]

    picture = in_tiles_that_fit(model.vae, model.device, height, width, decoded, model.vae_tiles)
    require_finite(picture, model, "the decoded picture")
    levels = (picture * 127.5 + 127.5).round_().clamp_(0, 255).to(torch.uint8)
    pixels: Pixels = levels.permute(1, 2, 0).cpu().numpy()
    return pixels


class Projection:
    """A linear map from a latent cell to its colour, fitted to one picture: no table per model needed."""

    def __init__(self, latents: Tensor, pixels: Pixels) -> None:
        """latents: (1, C, h, w); pixels: (H, W, 3) uint8 of the same picture."""
        height, width = latents.shape[-2:]
        picture = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        colours = torch.nn.functional.adaptive_avg_pool2d(picture, (height, width))[0].flatten(1).T  # (h w, 3)
        cells = _with_one(latents)  # (h w, C + 1)
        # Ridge: a plain picture leaves most directions undetermined, and a preview must not shout there.
        ridge = 1e-2 * len(cells) * torch.eye(cells.shape[1])
        ridge[-1, -1] = 0
        self._weights = torch.linalg.lstsq(cells.T @ cells + ridge, cells.T @ colours).solution

    def __call__(self, latents: Tensor) -> Tensor:
        """(3, h, w) float colours, 0 to 255, of latents (1, C, h, w)."""
        height, width = latents.shape[-2:]
        colours = _with_one(latents) @ self._weights
        return colours.T.reshape(3, height, width).clamp(0, 255)

    @property
    def nbytes(self) -> int:
        return self._weights.nbytes


def _with_one(latents: Tensor) -> Tensor:
    cells = latents[0].float().cpu().flatten(1).T
    return torch.cat((cells, torch.ones(len(cells), 1)), dim=1)
