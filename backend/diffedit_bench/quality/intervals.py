"""Means and their 95 % intervals: percentile bootstrap over cases (Efron 1979)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95
_SEED = 20221020  # any; fixed, so that the same rows give the same report


@dataclass(frozen=True)
class Figure:
    """A value and the interval in which it would fall for other cases of the same kind."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {name: float(f"{value:.6g}") for name, value in asdict(self).items()}


def same(mean: float) -> float:
    """The figure is the mean itself."""
    return mean


def mean_figure(values: Sequence[float | None], finish: Callable[[float], float] = same) -> Figure | None:
    """`finish(mean)` over the values that are known, with its interval; None where no value is known.

    `finish` must be monotonous: `psnr` of mean squared errors, for one.
    """
    known = np.array([value for value in values if value is not None], np.float64)
    if not known.size:
        return None
    means = known[_picks(known.size)].mean(1)
    ends = sorted(finish(float(end)) for end in np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    return Figure(finish(float(known.mean())), ends[0], ends[1])


def difference_figure(
    ours: Sequence[float], theirs: Sequence[float], finish: Callable[[float], float] = same
) -> Figure | None:
    """`finish(mean of ours) - finish(mean of theirs)` on the same cases, in the same order; None without a case."""
    if not ours:
        return None
    first, second = np.array(ours, np.float64), np.array(theirs, np.float64)
    picks = _picks(first.size)
    spread = [
        finish(float(a)) - finish(float(b)) for a, b in zip(first[picks].mean(1), second[picks].mean(1), strict=True)
    ]
    low, high = np.quantile(spread, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Figure(finish(float(first.mean())) - finish(float(second.mean())), float(low), float(high))


def _picks(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(_SEED).integers(count, size=(RESAMPLES, count))
