"""Measures the bundled model's maps and writes the figures into the pages: `.venv/bin/python docs/make_figures.py`.

Run it again when the bundled model changes (a few minutes). It writes the table of how-it-works.md and what the first
edit of first-edit.md prints. `--cases N` measures fewer scenes and writes nothing.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffedit_backend.bundled import samples, samples_folder
from diffedit_backend.editing import edit_picture
from diffedit_backend.imaging import soft_map
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.models import load_model
from diffedit_bench.quality.cases import EditCase, bundled_cases
from diffedit_bench.quality.metrics import boundary_f, iou
from diffedit_protocol.errors import NothingFoundError
from diffedit_protocol.messages import EditRequest
from tqdm import tqdm

DOCS = Path(__file__).parent
TABLE = re.compile(r"(?<=<!-- by docs/make_figures\.py -->\n).*?(?=\n\n)", re.S)
FIRST_EDIT = re.compile(r"[\d.]+% of the picture, threshold [\d.]+, \d+ evaluations, [\d.]+ s")
CASES = 200
TUNING_SEED = 77  # held-out scenes that `diffedit bench quality` does not show unless it is asked for this seed
SHARES = (0.2, 0.35, 0.5)  # of attention
LIMITS = (0.0, 1.0, 4.0, 6.0)  # latent cells; the default is measured as the first row
DEFAULT = "as it is: holes and specks below 2 cells taken away"

Score = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=CASES)
    count = parser.parse_args().cases
    torch.set_num_threads(1)
    engine = DiffEditEngine(load_model("bundled", "cpu"))
    cases = bundled_cases(count, TUNING_SEED, engine.model.native_size)
    scores: dict[str, list[Score]] = {}
    for name in tqdm(cases.names, unit="scene"):
        for row, score in measured(engine, cases.load(name)):
            scores.setdefault(row, []).append(score)
    table = "\n".join(["| | mean IoU | boundary F |", "|---|---|---|", *map(line, scores.items())])
    said = first_edit()
    print(table, said, sep="\n")
    if count == CASES:
        replace("how-it-works.md", TABLE, table)
        replace("first-edit.md", FIRST_EDIT, said)


def line(row: tuple[str, list[Score]]) -> str:
    overlap, boundaries = np.mean(row[1], axis=0)
    return f"| {row[0]} | {overlap:.3f} | {boundaries:.3f} |"


def measured(engine: DiffEditEngine, case: EditCase) -> Iterator[tuple[str, Score]]:
    """The rows of the table for one scene."""
    yield DEFAULT, score(engine, case)
    default = soft_map._LIMIT_CELLS
    try:
        for limit in LIMITS:
            soft_map._LIMIT_CELLS = limit
            engine.cache.clear()  # the soft map is kept under the settings, and this is none
            cells = f"below {limit:.0f} cell{'s' * (limit > 1)}" if limit else "left in"
            yield f"holes and specks {cells}", score(engine, case)
    finally:
        soft_map._LIMIT_CELLS = default
    engine.cache.clear()
    for share in SHARES:
        yield f"attention {share}", score(engine, case, attention=share)
    engine.cache.clear()


def score(engine: DiffEditEngine, case: EditCase, attention: float | None = None) -> Score:
    """Overlap with the true mask, and F of the boundaries, at the automatic threshold."""
    assert case.mask is not None
    request = EditRequest(case.source_text, case.target_text, task="mask", seed=case.seed, attention=attention)
    try:
        found = edit_picture(engine, request, case.source).mask >= 128
    except NothingFoundError:
        found = np.zeros_like(case.mask)
    return iou(found, case.mask), boundary_f(found, case.mask)


def first_edit() -> str:
    """The last line that the page's first command prints."""
    sample = samples()[0]
    with tempfile.TemporaryDirectory() as folder:
        words = ["--source", sample.source, "--target", sample.target, "--mask-out", f"{folder}/mask.png"]
        command = [sys.executable, "-m", "diffedit_backend.cli", "edit", str(samples_folder() / sample.file)]
        answer = subprocess.run([*command, f"{folder}/out.png", *words], check=True, capture_output=True, text=True)
    return answer.stdout.splitlines()[-1]


def replace(page: str, pattern: re.Pattern[str], text: str) -> None:
    whole = (DOCS / page).read_text(encoding="utf-8")
    changed, found = pattern.subn(lambda _: text, whole)
    if found != 1:
        sys.exit(f"{page}: {found} places for the figures, not one")
    (DOCS / page).write_text(changed, encoding="utf-8")


if __name__ == "__main__":
    main()
