"""The noise levels of a diffusion or flow model, and what its network's output means at each of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction", "sample", "flow"]


@dataclass(frozen=True)
class Level:
    """One noise level: x = alpha * x0 + sigma * noise. `t`: its time as the network takes it; a flow's is a float."""

    t: float
    alpha: float
    sigma: float

    @property
    def log_snr(self) -> float:
        """lambda = log(alpha / sigma) of DPM-Solver (arXiv 2211.01095); infinite where either is 0."""
        if self.sigma == 0:
            return math.inf
        return math.log(self.alpha / self.sigma) if self.alpha > 0 else -math.inf


class NoiseSchedule(ABC):
    """The levels that a model was trained on, and the kind of its network's output.

    The levels of flow models depend on the size of the picture, so they are asked for with the number of latent cells.
    """

    prediction_type: PredictionType

    @abstractmethod
    def level_at(self, ratio: float, cells: int) -> Level:
        """The level at `ratio`, 0 (clean) to 1 (noise), of the schedule, for latents of `cells` = h * w cells."""

    def levels(self, steps: int, ratio: float, cells: int) -> tuple[Level, ...]:
        """The levels of `count_steps(steps, ratio)` steps up to the encoding ratio, evenly spaced in the ratio.

        Returns ascending levels, one more than the steps. The first is where clean latents stand: its sigma is (nearly)
        0.
        """
        count = count_steps(steps, ratio)
        return tuple(self.level_at(ratio * k / count, cells) for k in range(count + 1))

    def data_and_noise(self, output: Tensor, x: Tensor, at: Level) -> tuple[Tensor, Tensor]:
        """The clean latents and the noise that the network's output at `x` of level `at` stands for.

        epsilon is the noise, sample the data, v_prediction alpha * noise - sigma * data (arXiv 2202.00512), flow
        noise - data. epsilon needs a level with alpha > 0, sample one with sigma > 0.
        """
        alpha, sigma = at.alpha, at.sigma
        if self.prediction_type == "epsilon":
            return (x - sigma * output) / alpha, output
        if self.prediction_type == "v_prediction":
            return alpha * x - sigma * output, alpha * output + sigma * x
        if self.prediction_type == "sample":
            return output, (x - alpha * output) / sigma
        total = alpha + sigma  # 1 for every level of a flow
        return (x - sigma * output) / total, (x + alpha * output) / total

    def compared(self, output: Tensor, x: Tensor, at: Level) -> Tensor:
        """What of the network's output at `x` of level `at` the difference map compares: the noise; of a flow the
        velocity, since differences of its noise vanish with alpha.
        """
        return output if self.prediction_type == "flow" else self.data_and_noise(output, x, at)[1]

    def true_compared(self, data: Tensor, noise: Tensor) -> Tensor:
        """What `compared` would be of a perfect prediction for data under this noise."""
        return noise - data if self.prediction_type == "flow" else noise


@dataclass(frozen=True)
class VariancePreservingSchedule(NoiseSchedule):
    """A table of levels with alpha^2 + sigma^2 = 1: `alphas_cumprod[t]` = alpha_t squared, for t = 0 to N - 1."""

    alphas_cumprod: tuple[float, ...]
    prediction_type: PredictionType

    def __post_init__(self) -> None:
        if self.prediction_type not in ("epsilon", "v_prediction", "sample"):
            raise ValueError(
                f"prediction_type must be epsilon, v_prediction or sample, not {self.prediction_type!r}: "
                "this model's scheduler is of a kind that DiffEdit cannot use."
            )

    @classmethod
    def from_scheduler(
        cls, scheduler: Any, prediction_type: PredictionType | None = None
    ) -> VariancePreservingSchedule:
        """The schedule of a diffusers scheduler with `alphas_cumprod` (DDIM, DPM-Solver, Euler, ...)."""
        alphas_cumprod = tuple(float(a) for a in scheduler.alphas_cumprod.double())
        return cls(alphas_cumprod, prediction_type or scheduler.config.prediction_type)

    def level(self, t: int) -> Level:
        """The level of training time t, 0 to N - 1."""
        alpha_bar = self.alphas_cumprod[t]
        return Level(t, math.sqrt(alpha_bar), math.sqrt(1.0 - alpha_bar))

    def level_at(self, ratio: float, cells: int = 0) -> Level:
        """The level at `ratio` of the training times, whatever the size of the picture."""
        return self.level(round(ratio * self._last))

    @property
    def _last(self) -> int:
        """The highest training time in use. Where nothing but noise is left, the noise tells nothing of the data."""
        last = len(self.alphas_cumprod) - 1
        return last - 1 if self.prediction_type == "epsilon" and self.alphas_cumprod[last] == 0 else last


def variance_preserving(schedule: NoiseSchedule) -> VariancePreservingSchedule:
    """The schedule as one with a table of alphas. Raises ValueError for that of a flow model."""
    if not isinstance(schedule, VariancePreservingSchedule):
        raise ValueError(
            "This is a flow model, whose levels are no table of alphas: the library's DiffEdit has no such."
        )
    return schedule


@dataclass(frozen=True)
class FlowSchedule(NoiseSchedule):
    """Rectified flow: x_s = (1 - s) * x0 + s * noise for s in [0, 1], the network's output being noise - x0.

    shift: k of s = k u / (1 + (k - 1) u), which moves evenly spaced u towards the noise; 1 leaves them (arXiv
    2403.03206, section 5.3.2). `Level.t` is 1000 s.
    """

    shift: float = 1.0
    prediction_type: PredictionType = "flow"

    def sigma(self, ratio: float, cells: int) -> float:
        """s at `ratio` of the schedule. Families whose shift depends on the size of the picture override this."""
        return self.shift * ratio / (1 + (self.shift - 1) * ratio)

    def level_at(self, ratio: float, cells: int) -> Level:
        s = self.sigma(ratio, cells)
        return Level(1000 * s, 1 - s, s)


def count_steps(steps: int, ratio: float) -> int:
    """How many of `steps` an encoding ratio in [0, 1] runs through: its rounded share, at least 1."""
    return max(1, round(steps * ratio))
