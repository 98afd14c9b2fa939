"""The levels of a flow model, spaced as diffusers' FlowMatchEulerDiscreteScheduler spaces them for its pipeline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from ..method.schedule import Level, NoiseSchedule, PredictionType, count_steps

# static: one shift k for every size. linear: mu grows with the number of tokens. flux2: with tokens and steps.
ShiftRule = Literal["static", "linear", "flux2"]


@dataclass(frozen=True)
class ShiftedSchedule(NoiseSchedule):
    """Rectified flow with the levels s of evenly spaced u, moved towards the noise: k u / (1 + (k - 1) u), k = e^mu
    where it depends on the picture (time_shift_type "linear": k = mu).

    shift: k of the rule "static". mu_range, token_range: mu rises linearly between the two numbers of tokens.
    exponential: whether k is e^mu. terminal: the tail is stretched so that the lowest level above 0 is this, 0 leaves
    it. lowest: the lowest u above 0; None is 1 / steps. cells_per_token: latent cells that the network takes as one.
    """

    rule: ShiftRule
    shift: float = 1.0
    mu_range: tuple[float, float] = (0.5, 1.15)
    token_range: tuple[int, int] = (256, 4096)
    exponential: bool = True
    terminal: float = 0.0
    lowest: float | None = None
    cells_per_token: int = 1
    prediction_type: PredictionType = "flow"

    @classmethod
    def from_scheduler(
        cls, scheduler: Any, *, dynamic: ShiftRule = "linear", spaces_itself: bool = False, cells_per_token: int = 4
    ) -> ShiftedSchedule:
        """The schedule of a FlowMatchEulerDiscreteScheduler.

        dynamic: the rule where it shifts by the picture's size. spaces_itself: whether the pipeline leaves the spacing
        to the scheduler, which then goes down to its own lowest level, shifted twice (Stable Diffusion 3).
        """
        config = scheduler.config
        shifts_by_size = bool(config.use_dynamic_shifting)
        return cls(
            rule=dynamic if shifts_by_size else "static",
            shift=float(config.shift),
            mu_range=(float(config.base_shift or 0.5), float(config.max_shift or 1.15)),
            token_range=(int(config.base_image_seq_len or 256), int(config.max_image_seq_len or 4096)),
            exponential=config.time_shift_type == "exponential",
            terminal=float(config.shift_terminal or 0.0),
            lowest=float(scheduler.sigma_min) if spaces_itself else None,
            cells_per_token=cells_per_token,
        )

    def levels(self, steps: int, ratio: float, cells: int) -> tuple[Level, ...]:
        """The lowest `count_steps(steps, ratio)` of the `steps` that text-to-image takes, ascending from clean.

        The grid is the same for every ratio, so that trajectories of a lower ratio are the beginning of higher ones.
        """
        lowest = 1 / steps if self.lowest is None else self.lowest
        even = [lowest + (1 - lowest) * k / (steps - 1) for k in range(steps)] if steps > 1 else [1.0]
        sigmas = [0.0, *self._sigmas(even, steps, cells)]
        return tuple(_level(s) for s in sigmas[: count_steps(steps, ratio) + 1])

    def level_at(self, ratio: float, cells: int) -> Level:
        """The level s = `ratio` itself: what is no step of a walk needs no spacing."""
        return _level(ratio)

    def _sigmas(self, even: list[float], steps: int, cells: int) -> list[float]:
        k = self._shift_for(steps, cells // self.cells_per_token)
        shifted = [k * u / (1 + (k - 1) * u) for u in even]
        if self.terminal:
            stretch = (1 - self.terminal) / (1 - shifted[0]) if shifted[0] < 1 else 1.0
            shifted = [1 - (1 - s) * stretch for s in shifted]
        return shifted

    def _shift_for(self, steps: int, tokens: int) -> float:
        if self.rule == "static":
            return self.shift
        if self.rule == "flux2":
            mu = empirical_mu(tokens, steps)
        else:
            (few, many), (low, high) = self.token_range, self.mu_range
            mu = low + (high - low) * (tokens - few) / (many - few)
        return math.exp(mu) if self.exponential else mu


def empirical_mu(tokens: int, steps: int) -> float:
    """FLUX.2's mu: linear in the tokens, and below 4300 of them in the steps too (fitted at 10 and at 200 steps)."""
    at_200 = 0.00016927 * tokens + 0.45666666
    if tokens > 4300:
        return at_200
    slope = (at_200 - (8.73809524e-05 * tokens + 1.89833333)) / 190
    return at_200 + slope * (steps - 200)


def _level(s: float) -> Level:
    return Level(1000 * s, 1 - s, s)
