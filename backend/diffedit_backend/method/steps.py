"""What a running edit tells its caller after every network step, and how the caller stops it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from diffedit_protocol.messages import Stage
from numpy.typing import NDArray


class EditCancelled(Exception):
    """Raised by the caller's `on_step` to stop the edit; passes through the engine untouched."""


@dataclass(frozen=True)
class Step:
    """Step `step` of `total` of `stage` is done. `preview`: what the picture is becoming, (h, w, 3) uint8."""

    stage: Stage
    step: int
    total: int
    preview: NDArray[np.uint8] | None = None


OnStep = Callable[[Step], None]


def ignore(_: Step) -> None:
    """The `on_step` of a caller who does not listen."""


def after(done: int, on_step: OnStep) -> OnStep:
    """Tells steps as those that follow the first `done`."""
    return lambda step: on_step(replace(step, step=done + step.step, total=done + step.total))
