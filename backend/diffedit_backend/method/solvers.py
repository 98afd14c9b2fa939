"""One step along the probability-flow ODE, in either direction: the same formulas invert and denoise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .inversion import Predict
from .schedule import Level, NoiseSchedule

FreshNoise = Callable[[int], Tensor]
# Where a step up from level i to i + 1 evaluates the network:
#   "start":   at x_i and level i.
#   "arrival": at x_i and level i + 1; the output is converted with alpha and sigma of level i + 1.
#   "library": at x_i and level i + 1; converted with those of level i, as diffusers' DDIMInverseScheduler does.
#   "uni":     at level i + 1 and at x_i moved there by the prediction before (Uni-Inv, arXiv 2504.13109).
InversionRule = Literal["start", "arrival", "library", "uni"]


def ode_step(x: Tensor, data: Tensor, start: Level, end: Level) -> Tensor:
    """The exact step from `start` to `end` if the data prediction stayed as it is.

    It is DDIM (arXiv 2010.02502, eq. 12 with eta = 0) and, with an extrapolated `data`, DPM-Solver++ (arXiv
    2211.01095); for a flow it is Euler's step.
    """
    share = end.sigma / start.sigma
    return share * x + (end.alpha - share * start.alpha) * data


def stochastic_step(x: Tensor, data: Tensor, start: Level, end: Level, eta: float, fresh: Tensor) -> Tensor:
    """DDIM's step down with eta > 0 (eq. 16): some of the noise in x is replaced by `fresh` standard normal noise.

    Its share is written by the levels' signal-to-noise ratios, so that it holds for flows too.
    """
    sigma = eta * end.sigma * math.sqrt(max(0.0, 1 - (end.sigma * start.alpha / (start.sigma * end.alpha)) ** 2))
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


@dataclass(frozen=True)
class Stochastic:
    """Fresh noise on the way down: `eta` of DDIM's eq. 16, and the standard normal noise `fresh(i)` of step i."""

    eta: float
    fresh: FreshNoise


@dataclass(frozen=True)
class _Evaluation:
    """Where one step evaluates the network: at `x`, given `level`; its output is converted at level `converted`."""

    x: Tensor
    level: Level
    converted: Level


class Solver:
    """Walks through `levels`, rising or falling: `invert` and `masked_denoise` take its `evaluated` and `step`.

    order: 1 is DDIM (Euler for flows), 2 is DPM-Solver++ 2M, whose steps are of order 1 where a log-SNR is infinite
    (flows' ends, a zero terminal SNR) and which knows the rule "start" alone.
    rule: of a rising way, see `InversionRule`; for an aligned falling way that of the inversion.
    aligned: the latents of `levels` (T + 1, ..., C, h, w) as an inversion of order 1 left them. Each step down then
    evaluates at x + (z_end - z_start), so that under the inversion's text it takes back the inversion's step exactly
    (DirectEdit's alignment, for every kind of prediction).
    It holds the place on the way and the last prediction, so it serves one way only.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        levels: tuple[Level, ...],
        order: int = 1,
        rule: InversionRule = "start",
        stochastic: Stochastic | None = None,
        aligned: Tensor | None = None,
    ) -> None:
        if order == 2 and (rule != "start" or aligned is not None):
            raise ValueError(f"Order 2 goes with the rule 'start' and no alignment; the rule is {rule!r}.")
        if rule == "uni" and aligned is not None:
            raise ValueError("The inversion 'uni' moves its samples, so no edit can be aligned to it.")
        self.schedule = schedule
        self.levels = levels
        self.order = order
        self.rule = rule
        self._stochastic = stochastic
        self._aligned = aligned
        self._index = 0
        self._before: Tensor | None = None
        self._evaluation: _Evaluation | None = None
        self.data: Tensor | None = None  # the clean latents as last predicted, for previews

    def evaluated(self, predict: Predict) -> Predict:
        """`predict` at the sample and level that the rule asks for, as a function of (x, anything)."""

        def at_rule_point(x: Tensor, _level: object) -> Tensor:
            point = self._point(x, predict)
            self._evaluation = point
            return predict(point.x, point.level)

        return at_rule_point

    def step(self, output: Tensor, _level: object, x: Tensor) -> Tensor:
        """From level number i of `levels`, where x is, to i + 1; `output`: the network's, as `evaluated` asked."""
        start, end = self._ends
        point = self._evaluation or _Evaluation(x, start, start)
        self._evaluation = None
        self.data, noise = self.schedule.data_and_noise(output, point.x, point.converted)
        index, self._index = self._index, self._index + 1
        if end.sigma > start.sigma:
            return noise_form_step(x, self._extrapolated(noise, index, end), start, end)
        if point.x is not x:  # aligned: the noise is the step's, and the data what it makes of x
            self.data = (x - start.sigma * noise) / start.alpha
        data = self._extrapolated(self.data, index, end)
        if self._stochastic is not None and self._stochastic.eta > 0:
            return stochastic_step(x, data, start, end, self._stochastic.eta, self._stochastic.fresh(index))
        return ode_step(x, data, start, end)

    def steps_up(self, output: Tensor, x: Tensor, between: Sequence[Level]) -> list[Tensor]:
        """As `step` on a rising way by the rule "start", with x at each level of `between` on the way before that at
        the end: by the same prediction, so for nothing.
        """
        start, end = self._ends
        _, noise = self.schedule.data_and_noise(output, x, start)
        before, index = self._before, self._index
        reached = []
        for level in (*between, end):
            self._before = before
            reached.append(noise_form_step(x, self._extrapolated(noise, index, level), start, level))
        self._index += 1
        return reached

    @property
    def _ends(self) -> tuple[Level, Level]:
        return self.levels[self._index], self.levels[self._index + 1]

    def _point(self, x: Tensor, predict: Predict) -> _Evaluation:
        start, end = self._ends
        if end.sigma <= start.sigma:
            if self._aligned is None or start.alpha == 0:
                return _Evaluation(x, start, start)
            moved = x + (self._aligned[self._index + 1] - self._aligned[self._index])
            return self._by_rule(moved, low=end, high=start)
        if self.rule != "uni":
            return self._by_rule(x, low=start, high=end)
        if self._before is None:
            self._before = self.schedule.data_and_noise(predict(x, end), x, end)[1]
        return _Evaluation(noise_form_step(x, self._before, start, end), end, end)

    def _by_rule(self, x: Tensor, low: Level, high: Level) -> _Evaluation:
        """`x` of level `low`, a step away from `high`."""
        if self.rule == "start":
            return _Evaluation(x, low, low)
        return _Evaluation(x, high, high if self.rule == "arrival" else low)

    def _extrapolated(self, now: Tensor, index: int, end: Level) -> Tensor:
        """The prediction for the step from level `index` to `end`: at order 2 that of its middle, where log-SNRs are
        finite.
        """
        before, self._before = self._before, now
        if self.order == 1 or before is None:
            return now
        last, start, there = (level.log_snr for level in (*self.levels[index - 1 : index + 1], end))
        if not all(map(math.isfinite, (last, start, there))):
            return now
        return extrapolate(now, before, there - start, start - last)


def seeded_noise(shape: torch.Size | tuple[int, ...], seed: int, like: Tensor) -> Tensor:
    """Standard normal noise that depends on shape and seed alone, not on the device and dtype of `like`."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(like)
