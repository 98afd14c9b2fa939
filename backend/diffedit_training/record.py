"""What every stage of training has come to, as a file beside the exported weights: a later run can go on from it.

`training.json` holds {"machines": [sentence, ...], "stages": [{"name", "minutes", "steps", "seed", "result"}, ...],
"curves": [[row of the journal, ...], ...]}, oldest first. A run that starts from an exported model takes its record.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

RECORD_FILE = "training.json"


_CURVE_ROWS = 12


_NAMES = {"vae": "autoencoder", "unet": "UNet and text encoder", "decoder": "decoder again"}


def take_over(exported: Path, folder: Path) -> None:
    """Begin the run in `folder` with the record of an exported model, as far as that has one."""
    if (exported / RECORD_FILE).is_file():
        shutil.copyfile(exported / RECORD_FILE, folder / RECORD_FILE)


def record_stage(folder: Path, name: str, figures: dict[str, Any]) -> None:
    """Write the figures of a finished stage: `minutes`, `steps`, `seed`, and `psnr` in dB or `samples`."""
    (folder / f"{name}.json").write_text(json.dumps(figures))


def record(folder: Path) -> dict[str, list[Any]]:
    """The record of the run in `folder` with that of the runs before it.

    Reads `machine.txt`, one or more sentences on where the run took place. Raises FileNotFoundError without it.
    """
    inherited = folder / RECORD_FILE
    whole: dict[str, list[Any]] = {"machines": [], "stages": [], "curves": []}
    if inherited.is_file():
        whole = json.loads(inherited.read_text())
    whole["machines"].append((folder / "machine.txt").read_text().strip())
    for name in ("vae", "unet", "decoder"):
        if (folder / f"{name}.json").is_file():
            whole["stages"].append(_stage(_NAMES[name], json.loads((folder / f"{name}.json").read_text())))
    if (folder / "unet.jsonl").is_file():
        whole["curves"].append(
            _thinned([json.loads(line) for line in (folder / "unet.jsonl").read_text().splitlines()])
        )
    return whole


def _stage(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    result = f"PSNR {figures['psnr']} dB on held-out scenes" if "psnr" in figures else f"{figures['samples']} samples"
    return {"name": name, **{key: figures[key] for key in ("minutes", "steps", "seed")}, "result": result}


def _thinned(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """About a dozen rows of a journal, its last one among them, with what a card shows of each."""
    chosen = curve[:: max(1, len(curve) // _CURVE_ROWS)]
    if chosen[-1] is not curve[-1]:
        chosen.append(curve[-1])
    return [{key: row[key] for key in ("minutes", "samples", "velocity", "by_timestep")} for row in chosen]


_EVERY = 60  # seconds


class TrainingLog:
    """Collects the losses of steps from the given state of a run on."""

    def __init__(self, path: Path, step: int, samples: int, seconds: float) -> None:
        self.path = path
        self._restart(step, samples, seconds)

    def _restart(self, step: int, samples: int, seconds: float) -> None:
        self.step, self.samples, self.seconds = step, samples, seconds
        self.sums = np.zeros(2)
        self.quarters = np.zeros((2, 4))  # sums and counts of the error, by quarter of the timesteps

    def add(self, losses: dict[str, Tensor], step: int, samples: int, seconds: float, extra: dict[str, Any]) -> None:
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
