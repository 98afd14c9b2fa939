"""Stage 1, the autoencoder, and an extra stage in which its decoder alone goes on learning.

Both see 64x64 crops, mostly with a thing in them; the autoencoder sees whole pictures at the end. Loss: squared error,
absolute error, absolute error of the picture's gradients (sharp outlines), for the autoencoder also a weak
Kullback-Leibler term. The decoder stage leaves the encoder, and so the latents that the UNet knows, as they are, and
puts a little noise on the latents, as the UNet's are never exact.

Pictures come from scenes that this process renders, or from a pool that others fill (`pool`), for a GPU.
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
from .pool import Pool
from .record import record_stage
from .rendering import Recipe, Renderers
from .scenes.scenes import Scenes
from .vae import (
    new_vae,
    psnr,
    reconstruction_loss,
    to_tensor,
    training_picture,
    validation_pictures,
    whiten,
    whitening_pictures,
)

KL_WEIGHT = 5e-4
LATENT_NOISE = 0.08  # standard deviation, on latents whose own is 1
_REPORT_EVERY = 60  # seconds
_POOL_CROP = 128  # px: crops of the pool's pictures, which are larger than the first edition's
_POOL_START = 512  # pairs that a pool has to hold before the first step


@dataclass(frozen=True)
class Plan:
    """What differs between the two stages. `number` goes into the seed; `whole_from`: share of the budget after which
    whole pictures are seen."""

    name: str
    number: int
    peak_learning_rate: float
    hold: float
    whole_from: float


@dataclass(frozen=True)
class Stock:
    """Pairs that other processes render, and the pool on the device into which they come."""

    pool: Pool
    renderers: Renderers

    def pictures(self, count: int, whole: bool) -> Tensor:
        """Crops, or a quarter as many whole pictures, after taking over what has been rendered meanwhile."""
        self.pool.take_in(self.renderers)
        size = self.pool.recipe.size
        return self.pool.pictures(max(1, count // 4) if whole else count, size if whole else min(size, _POOL_CROP))

    def many(self) -> list[Tensor]:
        """512 whole pictures, 16 at a time."""
        return [self.pool.pictures(16, self.pool.recipe.size) for _ in range(32)]


@dataclass(frozen=True, eq=False)
class StageRun:
    """One run of a stage, until its budget is spent. batch: pictures per step and worker.

    folder: of checkpoints and results. resume: go on from the checkpoint there. stock: None renders in this process.
    """

    folder: Path
    budget: Budget
    seed: int
    batch: int
    resume: bool
    stock: Stock | None = None

    @property
    def recipe(self) -> Recipe | None:
        """Of the stock's scenes."""
        return self.stock.pool.recipe if self.stock else None


VAE = Plan("vae", 1, 2e-3, 0.3, 0.8)
DECODER = Plan("decoder", 4, 1e-3, 0.2, 1.0)


def train_vae(group: DistributedGroup, run: StageRun) -> None:
    """Train the autoencoder: checkpoint `folder/vae.pt`; then, whitened, `folder/vae/` and `vae.json`."""
    torch.manual_seed(run.seed)
    vae = _placed(new_vae(run.recipe.size) if run.recipe else new_vae(), group)

    def loss(pictures: Tensor) -> Tensor:
        with group.autocast():
            posterior = vae.encode(pictures).latent_dist
            decoded = vae.decode(posterior.sample()).sample.float()
        divergence = posterior.kl().float().mean() / pictures[0].numel()
        return reconstruction_loss(decoded, pictures) + KL_WEIGHT * divergence

    step, quality = _fit(group, run, VAE, vae, list(vae.parameters()), loss)
    if group.leads:
        whiten(vae, run.stock.many() if run.stock else whitening_pictures())
        _finish(run, VAE, vae, run.folder / "vae", step, quality())


def train_decoder(group: DistributedGroup, run: StageRun) -> None:
    """Tune the decoder of `folder/vae/`: checkpoint `folder/decoder.pt`; then `vae_decoder/` and `decoder.json`."""
    vae = _placed(AutoencoderKL.from_pretrained(run.folder / "vae").float(), group)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)

    def loss(pictures: Tensor) -> Tensor:
        with group.autocast():
            with torch.no_grad():
                latents = vae.encode(pictures).latent_dist.mode()
            decoded = vae.decode(latents + LATENT_NOISE * torch.randn_like(latents)).sample.float()
        return reconstruction_loss(decoded, pictures)

    parameters = [p for p in vae.parameters() if p.requires_grad]
    step, quality = _fit(group, run, DECODER, vae, parameters, loss)
    if group.leads:
        _finish(run, DECODER, vae, run.folder / "vae_decoder", step, quality())


def _placed(vae: AutoencoderKL, group: DistributedGroup) -> AutoencoderKL:
    """On the group's device, in the memory format in which its convolutions are fastest."""
    vae = vae.to(group.device)
    return vae if group.device.type == "cpu" else vae.to(memory_format=torch.channels_last)


def _fit(
    group: DistributedGroup,
    run: StageRun,
    plan: Plan,
    vae: AutoencoderKL,
    parameters: list[torch.nn.Parameter],
    loss_of: Callable[[Tensor], Tensor],
) -> tuple[int, Callable[[], float]]:
    """Run a stage to the end of its budget; return the number of steps, all sittings together, and what measures the
    PSNR on held-out scenes.
    """
    budget, stock = run.budget, run.stock
    optimiser = torch.optim.AdamW(parameters, plan.peak_learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    step, path = 0, run.folder / f"{plan.name}.pt"
    if run.resume:
        state = load_checkpoint(path)
        vae.load_state_dict(state["vae"])
        optimiser.load_state_dict(state["optimiser"])
        step = state["step"]
        budget.resume_at(state["seconds"])

    def save() -> None:
        state = {"vae": vae.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
        save_checkpoint(path, **state, seconds=budget.seconds)

    scenes, last_report, last_step = Scenes(), budget.seconds, step
    recipe = run.recipe
    held_out = validation_pictures(recipe.edition, recipe.size) if recipe else validation_pictures()
    if stock:
        stock.pool.fill(stock.renderers, _POOL_START)
    while (progress := group.agree(budget.progress(step))) < 1:
        rng = group.seed_step(run.seed, plan.number, step)
        for parameter_group in optimiser.param_groups:
            parameter_group["lr"] = learning_rate(plan.peak_learning_rate, step, progress, warmup=100, hold=plan.hold)
        whole = progress > plan.whole_from
        if stock:
            pictures = stock.pictures(run.batch, whole)
        else:
            numbers = _scene_numbers(plan, group, step, run.batch)
            pictures = _pictures(scenes, numbers, rng, whole).to(group.device)
        loss = loss_of(pictures)
        optimiser.zero_grad()
        loss.backward()
        group.average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        if group.leads and budget.seconds - last_report > _REPORT_EVERY:
            speed = (step - last_step) * run.batch / (budget.seconds - last_report)
            quality = f"loss {loss.item():.5f} PSNR {psnr(vae, held_out):.2f} dB, {speed:.0f} pictures/s"
            print(
                f"{plan.name} step {step} {budget.seconds / 60:.1f} min {quality}{group.memory_sentence()}", flush=True
            )
            last_report, last_step = budget.seconds, step
        if group.leads and budget.save_due():
            save()
    if group.leads:
        save()
    return step, lambda: psnr(vae, held_out)


def _scene_numbers(plan: Plan, group: DistributedGroup, step: int, batch: int) -> range:
    """Numbers of scenes that no other step, worker or stage sees."""
    first = plan.number * 500_000_000 + (step * group.size + group.rank) * batch
    return range(first, first + batch)


def _pictures(scenes: Scenes, numbers: range, rng: np.random.Generator, whole: bool) -> Tensor:
    """Crops of these scenes, or a quarter of the scenes whole, which are four times as much work each."""
    chosen = numbers[: max(1, len(numbers) // 4)] if whole else numbers
    return to_tensor(np.stack([training_picture(scenes, number, rng, whole) for number in chosen]))


def _finish(run: StageRun, plan: Plan, vae: AutoencoderKL, target: Path, step: int, quality: float) -> None:
    """Write the trained network to `target` and the run's figures to the record; quality: PSNR in dB."""
    vae.save_pretrained(target)
    minutes = round(run.budget.seconds / 60, 1)
    figures = {"psnr": round(quality, 2), "steps": step, "minutes": minutes, "seed": run.seed}
    record_stage(run.folder, plan.name, figures)
    print(f"{plan.name} done: {figures}", flush=True)
