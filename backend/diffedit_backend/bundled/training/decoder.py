"""An extra stage: the decoder alone goes on learning. The encoder, and so the latents that the UNet knows, stay.

It sees latents with a little noise on them, as the UNet's are never exact.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from ..scenes import Scenes
from .budget import Budget, learning_rate, load_checkpoint, save_checkpoint
from .crew import Crew
from .vae import psnr, reconstruction_loss, to_tensor, training_picture

PEAK_LEARNING_RATE = 1e-3
LATENT_NOISE = 0.08  # standard deviation, of latents whose own is 1
STAGE = 4  # the seed's second number


def train(crew: Crew, folder: Path, budget: Budget, seed: int, batch: int, resume: bool) -> None:
    """Tune `folder/vae/` into `folder/vae_decoder/`; checkpoint `folder/decoder.pt`."""
    vae = AutoencoderKL.from_pretrained(folder / "vae").to(crew.device)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    parameters = [p for p in vae.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, PEAK_LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0)
    step, path = 0, folder / "decoder.pt"
    if resume:
        state = load_checkpoint(path)
        vae.load_state_dict(state["vae"])
        optimiser.load_state_dict(state["optimiser"])
        step, budget.seconds_before = state["step"], state["seconds"]
    scenes, last_report = Scenes(), budget.seconds
    if crew.leads:
        print(f"decoder: PSNR {psnr(vae):.2f} dB at first", flush=True)
    while (progress := crew.agree(budget.progress(step))) < 1:
        rng = crew.seed_step(seed, STAGE, step)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(PEAK_LEARNING_RATE, step, progress, warmup=50, hold=0.2)
        first = 2_000_000_000 + (step * crew.size + crew.rank) * batch
        crops = [training_picture(scenes, first + i, rng, whole=False) for i in range(batch)]
        pictures = to_tensor(np.stack(crops)).to(crew.device)
        with crew.autocast():
            with torch.no_grad():
                latents = vae.encode(pictures).latent_dist.mode()
            decoded = vae.decode(latents + LATENT_NOISE * torch.randn_like(latents)).sample.float()
        optimiser.zero_grad()
        reconstruction_loss(decoded, pictures).backward()
        crew.average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        if crew.leads and budget.seconds - last_report > 60:
            last_report = budget.seconds
            print(f"decoder step {step} {budget.seconds / 60:.1f} min PSNR {psnr(vae):.2f} dB", flush=True)
            save_checkpoint(
                path, vae=vae.state_dict(), optimiser=optimiser.state_dict(), step=step, seconds=budget.seconds
            )
    if crew.leads:
        save_checkpoint(path, vae=vae.state_dict(), optimiser=optimiser.state_dict(), step=step, seconds=budget.seconds)
        vae.save_pretrained(folder / "vae_decoder")
        figures = {
            "psnr": round(psnr(vae), 2),
            "steps": step,
            "minutes": round(budget.seconds / 60, 1),
            "crew": crew.size,
        }
        (folder / "decoder.json").write_text(json.dumps(figures))
        print(f"decoder done: {figures}", flush=True)
