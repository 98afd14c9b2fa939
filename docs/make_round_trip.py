"""Measures the table of how-it-works.md on inversion: `.venv/bin/python docs/make_round_trip.py [RULE ...]`.

The first four sample pictures with the bundled model: inverted to strength 0.8 and edited back without words, with
everything free and no fresh noise. PSNR beside the autoencoder's own picture.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import get_args

import numpy as np
import torch
from diffedit_backend.bundled import samples, samples_folder
from diffedit_backend.imaging.area import choose_area, to_work
from diffedit_backend.imaging.files import read_picture
from diffedit_backend.method.engine import DiffEditEngine, LatentEdit, Subject
from diffedit_backend.method.settings import MethodSettings, settings_for
from diffedit_backend.method.solvers import InversionRule
from diffedit_backend.models import load_model, use_threads

STRENGTH = 0.8
PICTURES = 4


def main() -> None:
    """Print a row of the table for each rule: all of them, or those that are named."""
    model = load_model("bundled", "cpu")
    use_threads(model)
    engine = DiffEditEngine(model)
    pictures = [read_picture(samples_folder() / sample.file).pixels for sample in samples()[:PICTURES]]
    subjects = [
        Subject.of(to_work(p, choose_area(p.shape[1], p.shape[0], None, model.native_size, model.multiple)))
        for p in pictures
    ]
    for rule in sys.argv[1:] or get_args(InversionRule):
        columns = []
        for method in ("fast", "paper"):
            settings = replace(settings_for(method, "normal"), inversion_rule=rule, eta=0.0)
            columns.append(" / ".join(f"{there_and_back(engine, subject, settings):.1f}" for subject in subjects))
        print(f"| {rule} | {' | '.join(columns)} |", flush=True)


def there_and_back(engine: DiffEditEngine, subject: Subject, settings: MethodSettings) -> float:
    """PSNR in dB of the picture that comes back."""
    trajectory = engine.trajectory(subject, "", STRENGTH, settings)
    free = torch.ones(trajectory.shape[-2:])
    back = engine.edit(LatentEdit(subject, "", free, STRENGTH, 1.0, settings), trajectory)
    ours, own = (engine.decode(latents)[0].astype(np.float64) for latents in (back, trajectory[0]))
    return float(10 * np.log10(255**2 / np.mean((ours - own) ** 2)))


if __name__ == "__main__":
    main()
