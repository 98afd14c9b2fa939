"""The rows of a run: a line of JSON per case, editor and encoding ratio, in a file that a stopped run goes on with; and
from one edit of a case with known truth to one row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diffedit_protocol.errors import BadInputError
from tqdm import tqdm

from .cases import Cases, EditCase, Picture, Region
from .editors import DEFAULT_RATIO, Edited, Editor, pasted
from .metrics import another_pose, auroc, best_iou, boundary_f, iou, mse, seam, ssim_map, still_showing

Key = tuple[str, str, float]


@dataclass(frozen=True)
class Row:
    """What one edit scored; `scores` by name, None where the case has no truth to ask."""

    case: str
    kind: str
    editor: str
    ratio: float
    scores: dict[str, float | None]

    @property
    def key(self) -> Key:
        return self.case, self.editor, self.ratio


class RowFile:
    """`rows.jsonl` of a folder, and beside it `run.json`: what the rows were made with, which must not change on the
    way.
    """

    def __init__(self, folder: Path, made_with: dict[str, Any]) -> None:
        """Open or begin a run. Raises BadInputError when the folder holds a run that was made with anything else."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path, facts = folder / "rows.jsonl", folder / "run.json"
        if facts.is_file():
            _check_same(folder, json.loads(facts.read_text()), made_with)
        else:
            facts.write_text(json.dumps(made_with, indent=2) + "\n")
        self.rows = {row.key: row for row in self._read()}

    def _read(self) -> Iterator[Row]:
        """The rows so far. A last line that was cut off by a stop in the middle of writing is taken away."""
        if not self.path.is_file():
            return
        whole, _, cut_off = self.path.read_text().rpartition("\n")
        if cut_off:
            self.path.write_text(whole + "\n" if whole else "")
        for line in whole.splitlines():
            yield Row(**json.loads(line))

    def add(self, row: Row) -> None:
        """Append a row and keep it."""
        self.rows[row.key] = row
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def _check_same(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    now = json.loads(json.dumps(now))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise BadInputError(
                f"{folder} holds a run with {name} {before.get(name)!r}; this one has {now.get(name)!r}. "
                "Choose another --out, or remove the folder."
            )


ScoreEdit = Callable[[EditCase, str, float, Edited], Row]


OnEdit = Callable[[EditCase, str, Edited], None]


def run_all(
    cases: Cases,
    editors: Sequence[Editor],
    ratios: dict[str, Sequence[float]],
    rows: RowFile,
    score: ScoreEdit,
    on_edit: OnEdit,
) -> None:
    """Do what `rows` does not hold yet. `ratios` names, by editor, encoding ratios beside the default one.

    The default ratio comes first, so that its cost is that of a first edit. `on_edit` sees the edits at the default
    ratio.
    """
    wanted = [(editor, ratio) for editor in editors for ratio in (DEFAULT_RATIO, *ratios.get(editor.name, ()))]
    missing = {
        name: todo
        for name in cases.names
        if (todo := [(editor, ratio) for editor, ratio in wanted if (name, editor.name, ratio) not in rows.rows])
    }
    total = len(cases) * len(wanted)
    left = sum(map(len, missing.values()))
    with tqdm(total=total, initial=total - left, unit="edit", desc="bench quality") as bar:
        for name, todo in missing.items():
            case = cases.load(name)
            for editor, ratio in todo:
                bar.set_postfix_str(f"{name} {editor.name} r={ratio:g}", refresh=False)
                edited = editor.edit(case, ratio)
                if ratio == DEFAULT_RATIO:
                    on_edit(case, editor.name, edited)
                rows.add(score(case, editor.name, ratio, edited))
                bar.update()


_HALF = 128  # of 255: soft masks count as masks from here on


def score(case: EditCase, editor: str, ratio: float, edited: Edited) -> Row:
    """All numbers of one edit.

    Masks are compared with the true mask. "inside" is where source and true edit differ, "outside" the rest: there
    the picture is compared with the source, as delivered, as decoded ("before" pasting) and as pasted ("after"),
    whichever of these the editor delivers. "ground" is where the true edit shows ground that a thing covered: "ground"
    scores look there inside of the editor's mask, but not where the new thing stands in another pose; "uncovered" also
    where the mask missed. "outside_exact" asks every pixel of the delivered picture where the
    editor's own mask is 0.
    """
    scores: dict[str, float | None] = {
        "outside_exact": float(np.array_equal(edited.delivered[edited.mask == 0], case.source[edited.mask == 0])),
        "area": float((edited.mask >= _HALF).mean()),
        "evaluations": edited.evaluations,
        "seconds": edited.seconds,
        "cpu_seconds": edited.cpu_seconds,
    }
    if case.succeeds is not None:
        scores["success"] = float(case.succeeds(edited.delivered))
    if case.mask is not None:
        soft_map = edited.mask if edited.soft_map is None else edited.soft_map
        scores["iou"] = iou(edited.mask >= _HALF, case.mask)
        scores["iou_best"] = best_iou(soft_map, case.mask)
        scores["auroc"] = auroc(soft_map, case.mask)
        scores["boundary_f"] = boundary_f(edited.mask >= _HALF, case.mask)
    if case.target is not None and case.changed is not None:
        scores |= _picture_scores("inside", edited.delivered, case.target, case.changed)
        scores |= _picture_scores("outside", edited.delivered, case.source, ~case.changed)
        if edited.decoded is not None:
            scores |= _picture_scores("outside_before", edited.decoded, case.source, ~case.changed)
            scores |= _picture_scores("outside_after", pasted(case, edited), case.source, ~case.changed)
        scores["seam"] = seam(edited.delivered, case.target, edited.mask >= _HALF)
    if case.target is not None and case.ground is not None and case.thing is not None:
        scores |= _ground_scores(case, edited, case.target, case.ground, case.thing)
    return Row(case.name, case.kind, editor, ratio, scores)


def _ground_scores(
    case: EditCase, edited: Edited, target: Picture, ground: Region, thing: Region
) -> dict[str, float | None]:
    excused = another_pose(edited.delivered, case.source, target, thing, ground)
    uncovered = ground & ~excused
    found = uncovered & (edited.mask >= _HALF)
    showing = still_showing(edited.delivered, case.source, target, uncovered) if uncovered.any() else None
    share, correlation = showing if showing is not None else (None, None)
    return {
        "ground_mse": mse(edited.delivered, target, found),
        "uncovered_mse": mse(edited.delivered, target, uncovered),
        "another_pose": float(excused.sum() / ground.sum()) if ground.any() else None,
        "ghost": share,
        "ghost_correlation": correlation,
    }


def _picture_scores(name: str, picture: Picture, truth: Picture, region: Region) -> dict[str, float | None]:
    similarity = ssim_map(picture, truth)
    return {
        f"{name}_mse": mse(picture, truth, region),
        f"{name}_ssim": float(similarity[region].mean()) if region.any() else None,
    }
