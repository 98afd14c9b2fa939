"""One step along the probability-flow ODE, in either direction: the same formulas invert and denoise."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .schedule import Level, NoiseSchedule

FreshNoise = Callable[[int], Tensor]


def ode_step(x: Tensor, data: Tensor, start: Level, end: Level) -> Tensor:
    """The exact step from `start` to `end` if the data prediction stayed as it is.

    It is DDIM (arXiv 2010.02502, eq. 12 with eta = 0) and, with an extrapolated `data`, DPM-Solver++ (arXiv
    2211.01095).
    """
    share = end.sigma / start.sigma
    return share * x + (end.alpha - share * start.alpha) * data


def stochastic_step(x: Tensor, data: Tensor, start: Level, end: Level, eta: float, fresh: Tensor) -> Tensor:
    """DDIM's step down with eta > 0 (eq. 16): some of the noise in x is replaced by `fresh` standard normal noise."""
    sigma = eta * (end.sigma / start.sigma) * math.sqrt(1 - (start.alpha / end.alpha) ** 2)
    noise = (x - start.alpha * data) / start.sigma
    return end.alpha * data + math.sqrt(end.sigma**2 - sigma**2) * noise + sigma * fresh


def noise_form_step(x: Tensor, noise: Tensor, start: Level, end: Level) -> Tensor:
    """`ode_step` written for a noise prediction: the form for the way up, where sigma starts near 0."""
    share = end.alpha / start.alpha
    return share * x + (end.sigma - share * start.sigma) * noise


def extrapolate(now: Tensor, before: Tensor, h: float, h_before: float) -> Tensor:
    """DPM-Solver++ 2M (arXiv 2211.01095, algorithm 2): the prediction in the middle of the step; h in log-SNR."""
    slope = h / (2 * h_before)
    return (1 + slope) * now - slope * before


class Solver:
    """Walks through `levels`, rising or falling; `step` has the shape that `invert` and `masked_denoise` want.

    order 1 is DDIM, 2 is DPM-Solver++ 2M. Holds the place on the way and the last prediction, so it serves one way
    only. With `eta` > 0 (falling only) `fresh(i)` gives the standard normal noise of step i.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        levels: tuple[Level, ...],
        order: int = 1,
        eta: float = 0.0,
        fresh: FreshNoise | None = None,
    ) -> None:
        if eta > 0 and fresh is None:
            raise ValueError(f"A solver with eta {eta} needs a source of fresh noise.")
        self.schedule = schedule
        self.levels = levels
        self.order = order
        self.eta = eta
        self._fresh = fresh
        self._index = 0
        self._before: Tensor | None = None
        self.data: Tensor | None = None  # the clean latents as last predicted, for previews

    def step(self, output: Tensor, _told: object, x: Tensor) -> Tensor:
        """From level number i of `levels`, where x is, to i + 1; `output`: what the network said about x."""
        start, end = self.levels[self._index], self.levels[self._index + 1]
        data, noise = self.schedule.data_and_noise(output, x, start)
        self.data = data
        rising = end.sigma > start.sigma
        now = main = noise if rising else data
        if self.order == 2 and self._before is not None:
            h_before = start.log_snr - self.levels[self._index - 1].log_snr
            main = extrapolate(now, self._before, end.log_snr - start.log_snr, h_before)
        self._before = now
        index, self._index = self._index, self._index + 1
        if rising:
            return noise_form_step(x, main, start, end)
        if self.eta > 0 and self._fresh is not None:
            return stochastic_step(x, main, start, end, self.eta, self._fresh(index))
        return ode_step(x, main, start, end)


def seeded_noise(shape: torch.Size | tuple[int, ...], seed: int, like: Tensor) -> Tensor:
    """Standard normal noise that depends on shape and seed alone, not on the device and dtype of `like`."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(like)
