"""The training curve: mean losses about once a minute, printed and appended to a JSONL file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

_EVERY = 60  # seconds


class Journal:
    """Collects the losses of steps from the given state of a run on."""

    def __init__(self, path: Path, step: int, samples: int, seconds: float) -> None:
        self.path = path
        self._restart(step, samples, seconds)

    def _restart(self, step: int, samples: int, seconds: float) -> None:
        self.step, self.samples, self.seconds = step, samples, seconds
        self.sums = np.zeros(2)
        self.quarters = np.zeros((2, 4))  # sums and counts of the error, by quarter of the timesteps

    def note(self, losses: dict[str, Tensor], step: int, samples: int, seconds: float, extra: dict[str, Any]) -> None:
        """Take in the losses of a step (see `unet.step_losses`); write a row with `extra` when one is due."""
        self.sums += [losses["velocity"].item(), losses["class_map"].item()]
        quarter, error = losses["quarters"].cpu().numpy()
        np.add.at(self.quarters, (0, quarter.astype(int)), error)
        np.add.at(self.quarters, (1, quarter.astype(int)), 1)
        if seconds - self.seconds < _EVERY:
            return
        velocity, class_map = (self.sums / (step - self.step)).round(4).tolist()
        row = {
            "step": step,
            "minutes": round(seconds / 60, 2),
            "samples": samples,
            "samples_per_second": round((samples - self.samples) / (seconds - self.seconds), 1),
            "velocity": velocity,
            "class_map": class_map,
            "by_timestep": (self.quarters[0] / self.quarters[1].clip(1)).round(3).tolist(),
            **extra,
        }
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)
        self._restart(step, samples, seconds)
