"""How long a stage trains, how its learning rate runs, and the checkpoint that lets it go on another day."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffedit_protocol.errors import BadInputError


@dataclass
class Budget:
    """A stage's length in steps, or in minutes of training over all its sittings.

    With steps a run is deterministic. With minutes the learning rate follows the clock, so only its data are.
    A checkpoint is due every `save_every` seconds; whatever came after the last one is done again on resuming.
    """

    steps: int | None
    minutes: float | None
    seconds_before: float = 0.0
    save_every: float = 300.0
    started: float = field(default_factory=time.monotonic)
    last_save: float = 0.0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise BadInputError(f"Give steps or minutes, not both: got steps={self.steps}, minutes={self.minutes}.")

    @property
    def seconds(self) -> float:
        """Seconds trained so far, all sittings together."""
        return self.seconds_before + time.monotonic() - self.started

    def resume_at(self, seconds: float) -> None:
        """Go on after that many seconds of earlier sittings."""
        self.seconds_before = self.last_save = seconds

    def save_due(self) -> bool:
        """Whether it is time for a checkpoint; asking takes note of it."""
        if self.seconds - self.last_save < self.save_every:
            return False
        self.last_save = self.seconds
        return True

    def progress(self, step: int) -> float:
        """Share of the budget that is spent; 1 or more when the stage is done."""
        if self.steps is not None:
            return step / self.steps if self.steps else 1.0
        assert self.minutes is not None
        return self.seconds / (60 * self.minutes)


def learning_rate(peak: float, step: int, progress: float, *, warmup: int, hold: float, floor: float = 0.02) -> float:
    """Linear warm-up over `warmup` steps, `peak` until the share `hold` of the budget, then a cosine to `floor`."""
    warm = min(1.0, (step + 1) / warmup)
    if progress <= hold:
        return peak * warm
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - hold) / (1 - hold))))
    return peak * warm * max(floor, fall)


def save_checkpoint(path: Path, **state: Any) -> None:
    """Write a checkpoint whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote, on the CPU. Raises BadInputError where there is none."""
    if not path.is_file():
        raise BadInputError(f"There is no checkpoint {path}: run the stage that writes it first.")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
