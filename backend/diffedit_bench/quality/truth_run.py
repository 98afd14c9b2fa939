"""`diffedit bench quality` on the bundled scenes, whose true masks and true edits are known."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffedit_protocol import __version__
from diffedit_protocol.errors import BadInputError

from . import report as reports
from .cases import EditCase, bundled_cases
from .editors import Edited
from .report import sentences
from .roster import ALL, DEFAULT, make_editors
from .run import RowFile, run_all


class StripsOf:
    """Keeps a strip of a contact sheet for each of the first cases and every editor, as PNG files in a folder."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        self._names = names
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, case: EditCase, editor: str, edited: Edited) -> None:
        from .plots import strip

        if case.name in self._names:
            strip(case, edited).save(self.path(case.name, editor))

    def path(self, case: str, editor: str) -> Path:
        return self._folder / f"{editor}-{case}.png"

    def of(self, editor: str) -> list[Path]:
        """The strips of an editor that are there, in the cases' order."""
        return [path for name in self._names if (path := self.path(name, editor)).is_file()]


def run_with_truth(args: argparse.Namespace) -> Path:
    """Run what is missing in `--out`, write the report there, and return the path of its Markdown."""
    from diffedit_backend.models import load_model
    from diffedit_training.judge import Judge
    from diffedit_training.scenes.edition import edition

    from .run import score

    names = args.editors or DEFAULT
    curves = [name for name in names if name == "ours"] if args.curves is None else args.curves
    if unknown := [name for name in curves if name not in names]:
        raise BadInputError(f"--curves names {unknown[0]!r}, which is not among the editors: {', '.join(names)}.")
    scenes = edition(args.scenes)
    judge = Judge.load(args.judge, scenes)
    model = load_model(args.model, args.device)
    editors = make_editors(names, model)
    made_with = {
        "version": __version__,
        "model": model.name,
        "model_key": model.key,
        "picture_size": model.native_size,
        "seed": args.seed,
        "kinds": list(args.kinds),
    }
    if args.scenes != 1:
        made_with["scenes"] = args.scenes
    rows = RowFile(args.out, made_with)
    cases = bundled_cases(args.cases, args.seed, model.native_size, args.kinds, judge)
    strips = StripsOf(args.out / "strips", cases.names[: args.sheet])
    ratios = {editor.name: args.ratios for editor in editors if editor.takes_ratio and editor.name in curves}
    run_all(cases, editors, ratios, rows, score, strips)
    wanted = set(cases.names)
    facts = {
        **made_with,
        "device": str(model.device),
        "judge": {"held_out_accuracy": Judge.figures(args.judge, scenes)},
    }
    report = reports.build([row for row in rows.rows.values() if row.case in wanted], names, facts)
    (args.out / "report.json").write_text(reports.dump(report))
    return _write(args.out, report, strips, names)


def _write(out: Path, report: dict[str, Any], strips: StripsOf, names: Sequence[str]) -> Path:
    """Plots, contact sheets and `report.md`; returns the path of the last."""
    from .plots import draw_curves, draw_editors, sheet

    draw_editors(report, out / "editors.png")
    pictures = ["![figures of the editors](editors.png)"]
    if report["curves"]:
        draw_curves(report, out / "curves.png")
        pictures.append("![curves over the encoding ratio](curves.png)")
    for name in names:
        if paths := strips.of(name):
            sheet(paths).save(out / f"sheet-{name}.png")
            pictures.append(f"![edits of {name}](sheet-{name}.png)")
    path = out / "report.md"
    path.write_text("\n\n".join([*_sections(report), *pictures]) + "\n")
    return path


def _sections(report: dict[str, Any]) -> list[str]:
    accuracy = report["judge"]["held_out_accuracy"]
    judged = ", ".join(f"{name} {share:.1%}" for name, share in accuracy.items())
    sections = [
        "# Quality of edits",
        f"Model {report['model']!r} ({report['picture_size']} px) on held-out scenes, seed {report['seed']}, "
        f"encoding ratio {report['ratio']}. Intervals are 95 %, by bootstrap over the cases. Edit success is what "
        f"the bundled judge finds; it is right on held-out scenes in: {judged}. PSNR is that of the mean squared error "
        "over the cases, 100 dB for none; outside is where source and true edit agree. Editors without a soft map are "
        "given their mask for one.",
        reports.table(report["editors"], reports.COLUMNS),
        reports.table(report["details"], reports.DETAILS),
        "\n".join(f"* **{name}**: {ALL[name]}" for name in report["editors"]),
    ]
    for name, differences in report["ours_minus"].items():
        worse = _worse(differences)
        sections.append(
            f"Ours beside {name}, case by case: "
            + (f"worse in {', '.join(worse)}." if worse else "at least as good in every column.")
        )
    if limits := sentences(report):
        sections += ["## Where edits are lost", limits]
    for kind, figures in report["kinds"].items():
        sections += [f"## {kind.capitalize()}", reports.table(figures, reports.COLUMNS)]
    for name, points in report["curves"].items():
        columns = [column for column in (*reports.COLUMNS, *reports.DETAILS) if column.name in reports.CURVES]
        by_ratio = {f"{point['ratio']:g}": point for point in points}
        sections += [f"## {name} over the encoding ratio", reports.table(by_ratio, columns, "ratio")]
    return sections


def _worse(differences: dict[str, Any]) -> list[str]:
    """The columns in which the difference points the wrong way, each with the difference and its interval."""
    return [
        f"{column.title} ({found['value']:+.3g}, interval {found['low']:+.3g} to {found['high']:+.3g})"
        for column in reports.COLUMNS
        if (found := differences[column.name]) is not None and found["value"] * column.better < 0
    ]
