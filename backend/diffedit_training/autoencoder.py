"""Stage 1, the autoencoder, and an extra stage in which its decoder alone goes on learning.

Both see 64x64 crops, mostly with a thing in them; the autoencoder sees whole pictures at the end. Loss: squared error,
absolute error, absolute error of the picture's gradients (sharp outlines), for the autoencoder also a weak
Kullback-Leibler term. The decoder stage leaves the encoder, and so the latents that the UNet knows, as they are, and
puts a little noise on the latents, as the UNet's are never exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from .budget import Budget, learning_rate, load_checkpoint, save_checkpoint
from .distributed import DistributedGroup
from .record import record_stage
from .scenes.scenes import Scenes
from .vae import new_vae, psnr, reconstruction_loss, to_tensor, training_picture, whiten

KL_WEIGHT = 5e-4
LATENT_NOISE = 0.08  # standard deviation, on latents whose own is 1
_REPORT_EVERY = 60  # seconds


@dataclass(frozen=True)
class Plan:
    """What differs between the two stages. `number` goes into the seed; `whole_from`: share of the budget after which
    whole pictures are seen."""

    name: str
    number: int
    peak_learning_rate: float
    hold: float
    whole_from: float


VAE = Plan("vae", 1, 2e-3, 0.3, 0.8)
DECODER = Plan("decoder", 4, 1e-3, 0.2, 1.0)


def train_vae(group: DistributedGroup, folder: Path, budget: Budget, seed: int, batch: int, resume: bool) -> None:
    """Train until the budget is spent: checkpoint `folder/vae.pt`; then, whitened, `folder/vae/` and `vae.json`."""
    torch.manual_seed(seed)
    vae = new_vae().to(group.device)

    def loss(pictures: Tensor) -> Tensor:
        with group.autocast():
            posterior = vae.encode(pictures).latent_dist
            decoded = vae.decode(posterior.sample()).sample.float()
        divergence = posterior.kl().float().mean() / pictures[0].numel()
        return reconstruction_loss(decoded, pictures) + KL_WEIGHT * divergence

    step = _fit(group, VAE, vae, list(vae.parameters()), loss, folder, budget, seed, batch, resume)
    if group.leads:
        whiten(vae)
        _finish(VAE.name, vae, folder / "vae", folder, seed, budget, step)


def train_decoder(group: DistributedGroup, folder: Path, budget: Budget, seed: int, batch: int, resume: bool) -> None:
    """Tune the decoder of `folder/vae/`: checkpoint `folder/decoder.pt`; then `vae_decoder/` and `decoder.json`."""
    vae = AutoencoderKL.from_pretrained(folder / "vae").float().to(group.device)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)

    def loss(pictures: Tensor) -> Tensor:
        with group.autocast():
            with torch.no_grad():
                latents = vae.encode(pictures).latent_dist.mode()
            decoded = vae.decode(latents + LATENT_NOISE * torch.randn_like(latents)).sample.float()
        return reconstruction_loss(decoded, pictures)

    parameters = [p for p in vae.parameters() if p.requires_grad]
    step = _fit(group, DECODER, vae, parameters, loss, folder, budget, seed, batch, resume)
    if group.leads:
        _finish(DECODER.name, vae, folder / "vae_decoder", folder, seed, budget, step)


def _fit(
    group: DistributedGroup,
    plan: Plan,
    vae: AutoencoderKL,
    parameters: list[torch.nn.Parameter],
    loss_of: Callable[[Tensor], Tensor],
    folder: Path,
    budget: Budget,
    seed: int,
    batch: int,
    resume: bool,
) -> int:
    """Run a stage to the end of its budget and return the number of steps, all sittings together."""
    optimiser = torch.optim.AdamW(parameters, plan.peak_learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    step, path = 0, folder / f"{plan.name}.pt"
    if resume:
        state = load_checkpoint(path)
        vae.load_state_dict(state["vae"])
        optimiser.load_state_dict(state["optimiser"])
        step = state["step"]
        budget.resume_at(state["seconds"])

    def save() -> None:
        state = {"vae": vae.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
        save_checkpoint(path, **state, seconds=budget.seconds)

    scenes, last_report = Scenes(), budget.seconds
    while (progress := group.agree(budget.progress(step))) < 1:
        rng = group.seed_step(seed, plan.number, step)
        for parameter_group in optimiser.param_groups:
            parameter_group["lr"] = learning_rate(plan.peak_learning_rate, step, progress, warmup=100, hold=plan.hold)
        numbers = _scene_numbers(plan, group, step, batch)
        pictures = _pictures(scenes, numbers, rng, whole=progress > plan.whole_from).to(group.device)
        loss = loss_of(pictures)
        optimiser.zero_grad()
        loss.backward()
        group.average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        if group.leads and budget.seconds - last_report > _REPORT_EVERY:
            last_report = budget.seconds
            quality = f"loss {loss.item():.5f} PSNR {psnr(vae):.2f} dB"
            print(f"{plan.name} step {step} {budget.seconds / 60:.1f} min {quality}", flush=True)
        if group.leads and budget.save_due():
            save()
    if group.leads:
        save()
    return step


def _scene_numbers(plan: Plan, group: DistributedGroup, step: int, batch: int) -> range:
    """Numbers of scenes that no other step, worker or stage sees."""
    first = plan.number * 500_000_000 + (step * group.size + group.rank) * batch
    return range(first, first + batch)


def _pictures(scenes: Scenes, numbers: range, rng: np.random.Generator, whole: bool) -> Tensor:
    """Crops of these scenes, or a quarter of the scenes whole, which are four times as much work each."""
    chosen = numbers[: max(1, len(numbers) // 4)] if whole else numbers
    return to_tensor(np.stack([training_picture(scenes, number, rng, whole) for number in chosen]))


def _finish(name: str, vae: AutoencoderKL, target: Path, folder: Path, seed: int, budget: Budget, step: int) -> None:
    vae.save_pretrained(target)
    figures = {"psnr": round(psnr(vae), 2), "steps": step, "minutes": round(budget.seconds / 60, 1), "seed": seed}
    record_stage(folder, name, figures)
    print(f"{name} done: {figures}", flush=True)
