"""Between pictures and latents: the VAE, and a cheap linear guess of it for previews."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..types import Pixels
from .network import require_finite
from .tiling import in_tiles_that_fit

if TYPE_CHECKING:
    from .model import LoadedModel


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
