"""The noise levels of a diffusion model, and what its output means at each of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Level:
    """One noise level: x = alpha * x0 + sigma * noise, at training time t."""

    t: int
    alpha: float
    sigma: float

    @property
    def log_snr(self) -> float:
        """lambda = log(alpha / sigma) of DPM-Solver (arXiv 2211.01095)."""
        return math.log(self.alpha / self.sigma)


@dataclass(frozen=True)
class NoiseSchedule:
    """A variance-preserving schedule: `alphas_cumprod[t]` = alpha_t squared, and the kind of the network's output."""

    alphas_cumprod: tuple[float, ...]
    prediction_type: str

    def __post_init__(self) -> None:
        if self.prediction_type not in ("epsilon", "v_prediction", "sample"):
            raise ValueError(
                f"prediction_type must be epsilon, v_prediction or sample, not {self.prediction_type!r}: "
                "this model's scheduler is of a kind that DiffEdit cannot use."
            )

    @classmethod
    def from_scheduler(cls, scheduler: Any, prediction_type: str | None = None) -> NoiseSchedule:
        """The schedule of a diffusers scheduler with `alphas_cumprod` (DDIM, DPM-Solver, Euler, ...)."""
        alphas_cumprod = tuple(float(a) for a in scheduler.alphas_cumprod.double())
        return cls(alphas_cumprod, prediction_type or scheduler.config.prediction_type)

    def level(self, t: int) -> Level:
        """The level of training time t, 0 to N - 1."""
        alpha_bar = self.alphas_cumprod[t]
        return Level(t, math.sqrt(alpha_bar), math.sqrt(1.0 - alpha_bar))

    def levels(self, steps: int, ratio: float) -> tuple[Level, ...]:
        """`round(steps * ratio)` (at least 1) steps up to the encoding ratio, evenly in training time.

        Returns ascending levels, one more than the steps. The first, t = 0, is where clean latents stand: its sigma is
        nearly 0.
        """
        count = max(1, round(steps * ratio))
        top = ratio * (len(self.alphas_cumprod) - 1)
        return tuple(self.level(round(top * k / count)) for k in range(count + 1))

    def data_and_noise(self, output: Tensor, x: Tensor, at: Level) -> tuple[Tensor, Tensor]:
        """The clean latents and the noise that the network's output stands for at `x` of level `at`."""
        alpha, sigma = at.alpha, at.sigma
        if self.prediction_type == "epsilon":
            return (x - sigma * output) / alpha, output
        if self.prediction_type == "v_prediction":
            return alpha * x - sigma * output, alpha * output + sigma * x
        return output, (x - alpha * output) / sigma
