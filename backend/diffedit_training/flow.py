"""From v-prediction to rectified flow: what a flow model takes over from the model that its training starts from.

Both paths hold the same information: with s = sigma / (alpha + sigma), x_s = (1 - s) x0 + s n is x_t / (alpha + sigma),
and n - x0 = (alpha + sigma) (v + (sigma - alpha) x_s). So a v-prediction model tells the velocity of a flow up to its
own highest level, and its conditional mean teaches with less variance than one drawn noise.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

Prediction = Literal["v_prediction", "flow"]

_FIT_STEPS, _FIT_RATE = 1500, 2e-3  # of the time embedding; takes seconds


def new_scheduler(prediction: Prediction = "v_prediction") -> DDIMScheduler | FlowMatchEulerDiscreteScheduler:
    """Stable Diffusion's noise schedule for v-prediction; rectified flow's without a
    shift, since the pictures are small."""
    if prediction == "flow":
        return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )


def scheduler_of(folder: Path) -> DDIMScheduler | FlowMatchEulerDiscreteScheduler:
    """The scheduler of an exported model of either prediction."""
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    flow = config["_class_name"] == FlowMatchEulerDiscreteScheduler.__name__
    return (FlowMatchEulerDiscreteScheduler if flow else DDIMScheduler).from_pretrained(folder / "scheduler")


@dataclass(frozen=True)
class NoiseLevels:
    """`alpha` and `sigma`, (1000,) float32: x_t = alpha x0 + sigma n at training time t; `prediction` is what the UNet
    learns there: alpha n - sigma x0 (v-prediction, arXiv 2202.00512) or n - x0 (rectified flow).
    """

    alpha: Tensor
    sigma: Tensor
    prediction: Prediction

    @classmethod
    def of(cls, prediction: Prediction) -> NoiseLevels:
        """Flow's level t is sigma = (t + 1) / 1000, which the UNet is given as the time t + 1."""
        if prediction == "flow":
            sigma = torch.arange(1, 1001) / 1000
            return cls(1 - sigma, sigma, prediction)
        alphas = _alphas_cumprod()
        return cls(alphas.sqrt(), (1 - alphas).sqrt(), prediction)

    def to(self, device: torch.device) -> NoiseLevels:
        return replace(self, alpha=self.alpha.to(device), sigma=self.sigma.to(device))

    def times(self, timesteps: Tensor) -> Tensor:
        """What the UNet is given as the time of each of the timesteps, 0 to 999."""
        return timesteps + 1 if self.prediction == "flow" else timesteps

    def velocity(self, clean: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return noise - clean if self.prediction == "flow" else alpha * noise - sigma * clean


def _alphas_cumprod() -> Tensor:
    scheduler = new_scheduler()
    assert isinstance(scheduler, DDIMScheduler)
    return scheduler.alphas_cumprod


class FlowTeacher:
    """A frozen v-prediction UNet and text encoder, asked for the velocity of rectified flow."""

    def __init__(self, unet: Any, text_encoder: nn.Module) -> None:
        self.unet: Any = copy.deepcopy(unet).eval().requires_grad_(False)
        self.text_encoder: Any = copy.deepcopy(text_encoder).eval().requires_grad_(False)
        for module in self.unet.modules():
            module._forward_hooks.clear()  # those of the student collect its features
        levels = NoiseLevels.of("v_prediction")
        alpha, sigma = levels.alpha, levels.sigma
        self.sigmas: Tensor = sigma / (alpha + sigma)  # the flow's level of each training time, ascending
        self._scale, self._slope = alpha + sigma, sigma - alpha

    def time(self, sigma: Tensor) -> Tensor:
        """The training time (fractional, float32) whose level is the flow's `sigma`; ends are clamped."""
        upper = torch.searchsorted(self.sigmas, sigma).clamp(1, len(self.sigmas) - 1)
        low, high = self.sigmas[upper - 1], self.sigmas[upper]
        return upper - 1 + ((sigma - low) / (high - low)).clamp(0, 1)

    @torch.no_grad()
    def corrected(self, drawn: Tensor, noisy: Tensor, sigma: Tensor, token_ids: Tensor) -> Tensor:
        """The teacher's velocity at `noisy` (n, C, h, w) of levels `sigma` (n, 1, 1, 1), and `drawn` for the rows above
        its highest level.
        """
        level = sigma.flatten()
        at = self.time(level)
        scale, slope = (_between(values, at).view_as(sigma) for values in (self._scale, self._slope))
        states = self.text_encoder(token_ids).last_hidden_state
        v = self.unet(scale * noisy, at, states).sample.float()
        return torch.where(sigma <= self.sigmas[-1], scale * (v + slope * noisy), drawn)


def _between(values: Tensor, at: Tensor) -> Tensor:
    """`values` (N,) at fractional indices, linearly interpolated."""
    low = at.long().clamp(max=len(values) - 2)
    return values[low] + (at - low) * (values[low + 1] - values[low])


def refit_time_embedding(unet: Any, teacher: FlowTeacher) -> None:
    """Have the embedding of the flow's time 1000 s be that of the teacher's time of the same level."""
    sigma = torch.arange(1, 1001) / 1000
    with torch.no_grad():
        wanted = teacher.unet.time_embedding(teacher.unet.time_proj(teacher.time(sigma)))
        embedded = unet.time_proj(1000 * sigma)
    optimiser = torch.optim.Adam(unet.time_embedding.parameters(), _FIT_RATE)
    for _ in range(_FIT_STEPS):
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(unet.time_embedding(embedded), wanted).backward()
        optimiser.step()
    optimiser.zero_grad()
