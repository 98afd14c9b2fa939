"""What every stage of training has come to, as a file beside the exported weights: a later run can go on from it.

`training.json` holds {"machines": [sentence, ...], "stages": [{"name", "minutes", "steps", "seed", "result"}, ...],
"curves": [[row of the journal, ...], ...]}, oldest first; of the last run also "edition" (of the scenes),
"picture_size" (px) and, where held-out scores were taken, "scores". A run that starts from an exported model takes its
record.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffedit_protocol.errors import BadInputError
from torch import Tensor

RECORD_FILE = "training.json"


_CURVE_ROWS = 12


_NAMES = {"vae": "autoencoder", "unet": "UNet and text encoder", "decoder": "decoder again"}


def take_over(exported: Path, folder: Path) -> None:
    """Begin the run in `folder` with the record of an exported model, as far as that has one."""
    if (exported / RECORD_FILE).is_file():
        shutil.copyfile(exported / RECORD_FILE, folder / RECORD_FILE)


SCORES_FILE = "scores.jsonl"


def record_score(folder: Path, row: dict[str, Any]) -> None:
    """Add a held-out score to the run's history of them."""
    with (folder / SCORES_FILE).open("a") as file:
        file.write(json.dumps(row) + "\n")


def record_stage(folder: Path, name: str, figures: dict[str, Any]) -> None:
    """Write the figures of a finished stage: `minutes`, `steps`, `seed`, and `psnr` in dB or `samples`."""
    (folder / f"{name}.json").write_text(json.dumps(figures))


def record(folder: Path) -> dict[str, Any]:
    """The record of the run in `folder` with that of the runs before it.

    Reads `machine.txt`, one or more sentences on where the run took place. Raises BadInputError without it.
    """
    if not (machine := folder / "machine.txt").is_file():
        raise BadInputError(
            f"{machine} is missing: write a sentence into it on the machine that the run took place on."
        )
    inherited = folder / RECORD_FILE
    whole: dict[str, Any] = {"machines": [], "stages": [], "curves": []}
    if inherited.is_file():
        whole = json.loads(inherited.read_text())
    whole["machines"].append(machine.read_text().strip())
    for name in ("vae", "unet", "decoder"):
        if (folder / f"{name}.json").is_file():
            figures = json.loads((folder / f"{name}.json").read_text())
            whole["stages"].append(_stage(_NAMES[name], figures))
            whole |= {key: figures[key] for key in ("edition", "picture_size") if key in figures}
    if (folder / "unet.jsonl").is_file():
        whole["curves"].append(
            _thinned([json.loads(line) for line in (folder / "unet.jsonl").read_text().splitlines()])
        )
    whole.pop("scores", None)
    if (folder / SCORES_FILE).is_file():
        whole["scores"] = [json.loads(line) for line in (folder / SCORES_FILE).read_text().splitlines()]
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


class TrainingLog:
    """Collects the losses of steps from the given state of a run on; a row is due every `every` seconds.

    Losses stay on their device until then: to ask a GPU for a number is to wait for everything that it has to do.
    """

    def __init__(self, path: Path, step: int, samples: int, seconds: float, every: float = 60.0) -> None:
        self.path, self.every = path, every
        self._restart(step, samples, seconds)

    def _restart(self, step: int, samples: int, seconds: float) -> None:
        self.step, self.samples, self.seconds = step, samples, seconds
        self._losses: list[dict[str, Tensor]] = []

    def add(self, losses: dict[str, Tensor], step: int, samples: int, seconds: float, extra: dict[str, Any]) -> None:
        """Take in the losses of a step (see `denoiser.step_losses`); write a row with `extra` when one is due."""
        self._losses.append({name: value.detach() for name, value in losses.items()})
        if seconds - self.seconds < self.every:
            return
        means = {
            name: round(float(torch.stack([each[name] for each in self._losses]).double().mean()), 4)
            for name in ("velocity", "class_map")
        }
        quarter, error = torch.cat([each["quarters"] for each in self._losses], 1).cpu().numpy()
        quarters = np.zeros((2, 4))  # sums and counts of the error, by quarter of the timesteps
        np.add.at(quarters, (0, quarter.astype(int)), error)
        np.add.at(quarters, (1, quarter.astype(int)), 1)
        row = {
            "step": step,
            "minutes": round(seconds / 60, 2),
            "samples": samples,
            "samples_per_second": round((samples - self.samples) / (seconds - self.seconds), 1),
            **means,
            "by_timestep": (quarters[0] / quarters[1].clip(1)).round(3).tolist(),
            **extra,
        }
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)
        self._restart(step, samples, seconds)
