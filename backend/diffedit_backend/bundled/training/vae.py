"""Stage 1: the autoencoder, 128x128 pictures <-> 16x16x8 latents, trained mostly on 64x64 crops around the things.

Loss: squared error, absolute error, absolute error of the picture's gradients (sharp outlines), and a weak
Kullback-Leibler term. At the end every latent channel is made mean 0, standard deviation 1 by folding the whitening
into the 1x1 convolutions around the latents, so that the scaling factor in the config is 1.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from ..scenes import SIZE, Scenes
from .budget import Budget, learning_rate, load_checkpoint, save_checkpoint
from .crew import Crew

LATENT_CHANNELS = 8
WIDTHS = (16, 32, 64, 96)
CROP = 64  # px
WHOLE_PICTURES_FROM = 0.8  # share of the budget after which whole pictures are seen
PEAK_LEARNING_RATE = 2e-3
KL_WEIGHT = 5e-4
STAGE = 1  # the seed's second number
_VALIDATION_SEEDS = range(96)


def new_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(WIDTHS),
        up_block_types=("UpDecoderBlock2D",) * len(WIDTHS),
        block_out_channels=WIDTHS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=SIZE,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def to_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """(n, h, w, 3) uint8 -> (n, 3, h, w) float32 in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def train(crew: Crew, folder: Path, budget: Budget, seed: int, batch: int, resume: bool) -> None:
    """Train until the budget is spent; checkpoint `folder/vae.pt`, at the end also `folder/vae/` for diffusers."""
    torch.manual_seed(seed)
    vae = new_vae().to(crew.device)
    optimiser = torch.optim.AdamW(vae.parameters(), PEAK_LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0)
    parameters, step, path = list(vae.parameters()), 0, folder / "vae.pt"
    if resume:
        state = load_checkpoint(path)
        vae.load_state_dict(state["vae"])
        optimiser.load_state_dict(state["optimiser"])
        step, budget.seconds_before = state["step"], state["seconds"]
    scenes, last_report, last_save = Scenes(), budget.seconds, budget.seconds
    while (progress := crew.agree(budget.progress(step))) < 1:
        rng = crew.seed_step(seed, STAGE, step)
        rate = learning_rate(PEAK_LEARNING_RATE, step, progress, warmup=100, hold=0.3)
        for group in optimiser.param_groups:
            group["lr"] = rate
        whole = progress > WHOLE_PICTURES_FROM
        count = max(1, batch // 4) if whole else batch
        first = 1_000_000 + (step * crew.size + crew.rank) * batch
        pictures = to_tensor(np.stack([training_picture(scenes, first + i, rng, whole) for i in range(count)])).to(
            crew.device
        )
        with crew.autocast():
            posterior = vae.encode(pictures).latent_dist
            decoded = vae.decode(posterior.sample()).sample.float()
        loss = reconstruction_loss(decoded, pictures) + KL_WEIGHT * posterior.kl().float().mean() / pictures[0].numel()
        optimiser.zero_grad()
        loss.backward()
        crew.average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        if crew.leads and budget.seconds - last_report > 60:
            last_report = budget.seconds
            mse = F.mse_loss(decoded, pictures).item()
            quality = f"PSNR {psnr(vae):.2f} dB" if step > 500 else ""
            kl = posterior.kl().mean().item() / posterior.mean[0].numel()
            print(
                f"vae step {step} {budget.seconds / 60:.1f} min lr {rate:.1e} mse {mse:.5f} kl/dim {kl:.2f} {quality}",
                flush=True,
            )
        if crew.leads and budget.seconds - last_save > 300:
            last_save = budget.seconds
            save_checkpoint(
                path, vae=vae.state_dict(), optimiser=optimiser.state_dict(), step=step, seconds=budget.seconds
            )
    if crew.leads:
        save_checkpoint(path, vae=vae.state_dict(), optimiser=optimiser.state_dict(), step=step, seconds=budget.seconds)
        before = psnr(vae)
        whiten(vae, scenes)
        vae.save_pretrained(folder / "vae")
        figures = {
            "psnr": round(psnr(vae), 2),
            "steps": step,
            "minutes": round(budget.seconds / 60, 1),
            "crew": crew.size,
        }
        (folder / "vae.json").write_text(json.dumps(figures))
        print(f"vae done: {figures}, PSNR before whitening {before:.2f} dB", flush=True)


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


def _validation_pictures(device: torch.device) -> Tensor:
    heldout = Scenes(split="heldout")
    return to_tensor(np.stack([heldout.render(heldout.scene(seed)).pixels for seed in _VALIDATION_SEEDS])).to(device)


@torch.no_grad()
def psnr(vae: AutoencoderKL) -> float:
    """Mean peak signal-to-noise ratio in dB of 96 held-out scenes through encoder (posterior mean) and decoder."""
    pictures = _validation_pictures(vae.device)
    errors = [
        (vae.decode(vae.encode(part).latent_dist.mode()).sample.clamp(-1, 1) - part).square().mean((1, 2, 3))
        for part in pictures.split(16)
    ]
    return float((10 * torch.log10(4 / torch.cat(errors))).mean())


@torch.no_grad()
def whiten(vae: AutoencoderKL, scenes: Scenes) -> None:
    """Fold mean and standard deviation of each latent channel (512 scenes) into quant_conv and post_quant_conv."""
    latents = []
    for first in range(0, 512, 16):
        pictures = np.stack([scenes.render(scenes.scene(first + i)).pixels for i in range(16)])
        latents.append(vae.encode(to_tensor(pictures).to(vae.device)).latent_dist.mode())
    values, channels = torch.cat(latents), LATENT_CHANNELS
    mean, std = values.mean((0, 2, 3)), values.std((0, 2, 3))
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] /= std.view(-1, 1, 1, 1)
    quant.bias[:channels] = (quant.bias[:channels] - mean) / std
    quant.bias[channels:] -= 2 * std.log()  # the log variances
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= std.view(1, -1, 1, 1)
