"""The autoencoder, pictures <-> latents of an eighth of their side: what it is, what it sees, how it is measured and
whitened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from .scenes.edition import FIRST, Edition
from .scenes.scenes import SIZE, Scenes

LATENT_CHANNELS = 8
WIDTHS = (16, 32, 64, 96)
CROP = 64  # px
_VALIDATION_SEEDS = range(96)


def new_vae(size: int = SIZE) -> AutoencoderKL:
    """An untrained one that says that it is for pictures of `size` px."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(WIDTHS),
        up_block_types=("UpDecoderBlock2D",) * len(WIDTHS),
        block_out_channels=WIDTHS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=size,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def to_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """(n, h, w, 3) uint8 -> (n, 3, h, w) float32 in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def training_picture(scenes: Scenes, seed: int, rng: np.random.Generator, whole: bool) -> NDArray[np.uint8]:
    """A whole scene, or a crop of one that mostly has a thing in it."""
    scene = scenes.scene(seed)
    pixels = scenes.render(scene).pixels
    if whole:
        return pixels
    x, y = rng.uniform(0, 1, 2)
    if scene.things and rng.random() < 0.8:
        thing = scene.things[rng.integers(len(scene.things))]
        x, y = np.array((thing.x, thing.y)) + rng.uniform(-0.5, 0.5, 2) * thing.scale
    left, top = (int(np.clip(round(v * SIZE - CROP / 2), 0, SIZE - CROP)) for v in (x, y))
    return pixels[top : top + CROP, left : left + CROP]


def reconstruction_loss(decoded: Tensor, pictures: Tensor) -> Tensor:
    """Squared + 0.15 x absolute + 0.1 x absolute error of horizontal and vertical differences. Values in -1..1."""
    edges = F.l1_loss(decoded.diff(dim=-1), pictures.diff(dim=-1)) + F.l1_loss(
        decoded.diff(dim=-2), pictures.diff(dim=-2)
    )
    return F.mse_loss(decoded, pictures) + 0.15 * F.l1_loss(decoded, pictures) + 0.1 * edges


@lru_cache(maxsize=2)
def validation_pictures(edition: Edition = FIRST, size: int = SIZE) -> Tensor:
    """96 held-out scenes, (96, 3, size, size) float32 in -1..1."""
    heldout = Scenes(size, "heldout", edition)
    return to_tensor(np.stack([heldout.render(heldout.scene(seed)).pixels for seed in _VALIDATION_SEEDS]))


@torch.no_grad()
def psnr(vae: AutoencoderKL, pictures: Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB of pictures through encoder (posterior mean) and decoder."""
    errors = []
    for part in pictures.split(16):
        part = part.to(vae.device)
        decoded = vae.decode(vae.encode(part).latent_dist.mode()).sample.clamp(-1, 1)
        errors.append((decoded - part).square().mean((1, 2, 3)))
    return float((10 * torch.log10(4 / torch.cat(errors))).mean())


def whitening_pictures() -> Iterator[Tensor]:
    """512 scenes of the first edition, 16 at a time."""
    scenes = Scenes()
    for first in range(0, 512, 16):
        yield to_tensor(np.stack([scenes.render(scenes.scene(first + i)).pixels for i in range(16)]))


@torch.no_grad()
def whiten(vae: AutoencoderKL, pictures: Iterable[Tensor]) -> None:
    """Fold mean and standard deviation of each latent channel, over these pictures, into quant_conv and
    post_quant_conv.
    """
    latents = [vae.encode(part.to(vae.device)).latent_dist.mode() for part in pictures]
    values, channels = torch.cat(latents), LATENT_CHANNELS
    mean, std = values.mean((0, 2, 3)), values.std((0, 2, 3))
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] /= std.view(-1, 1, 1, 1)
    quant.bias[:channels] = (quant.bias[:channels] - mean) / std
    quant.bias[channels:] -= 2 * std.log()  # the log variances
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= std.view(1, -1, 1, 1)
