"""From rows to `report.json` and a table in Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from .run import SCENARIOS, Row
from .sides import Subject


def ratio(
    rows: Sequence[Row], scenario: str, side: str, value: Callable[[Row], float | None], against: str = ""
) -> dict[str, float] | None:
    """Ours over the library's: median over the pairs, the least and the greatest.

    against: the library's scenario, where it is another one. None where there is no library to compare with, or where
    one of the two gave fewer pictures.
    """
    by_pair: dict[int, dict[str, Row]] = {}
    for row in rows:
        if (row.scenario, row.side) in ((scenario, side), (against or scenario, "library")):
            by_pair.setdefault(row.pair, {})[row.side] = row
    quotients = []
    for both in by_pair.values():
        if len(both) < 2 or both[side].results != both["library"].results:
            return None
        mine, theirs = value(both[side]), value(both["library"])
        assert mine is not None
        assert theirs
        quotients.append(mine / theirs)
    if not quotients:
        return None
    return {"value": median(quotients), "low": min(quotients), "high": max(quotients)}


def seconds(row: Row) -> float | None:
    return row.seconds


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """What report.json holds."""

    def peak(row: Row) -> float | None:
        return row.peak_bytes

    moved = [row.seconds for row in rows if row.scenario == "moved_threshold" and row.seconds is not None]
    return {
        "ratios": {
            "reference_first_edit": ratio(rows, "first_edit", "reference", seconds),
            "first_edit": ratio(rows, "first_edit", "fast", seconds),
            "second_target": ratio(rows, "second_target", "fast", seconds),
            "four_variations": ratio(rows, "four_variations", "fast", seconds),
            "mask_peak_memory": ratio(rows, "mask", "reference", peak),
        },
        "moved_threshold_ms": median(moved) * 1000,
        "rows": [row.to_json() for row in rows],
    }


def write_report(folder: Path, subject: Subject, rows: Sequence[Row], clock: str) -> str:
    """Write report.json and report.md into `folder`; returns the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    report = summary(rows)
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    text = _markdown(subject, report, rows, clock)
    (folder / "report.md").write_text(text)
    return text


def _markdown(subject: Subject, report: dict[str, Any], rows: Sequence[Row], clock: str) -> str:
    height, width = subject.picture.shape[:2]
    model = subject.model
    lines = [
        f"{model.name}, {width} × {height} px, {str(model.dtype).removeprefix('torch.')}, {subject.device_name}; "
        + ("time on the wall" if clock == "wall" else "processor time"),
        "",
        "| ours over the library's | median | least | greatest |",
        "|---|---|---|---|",
    ]
    kept = ratio(rows, "second_target", "fast", seconds, against="second_target_inversion_kept")
    figures = {**report["ratios"], "second target, where the library's caller keeps the inversion": kept}
    for name, figure in figures.items():
        cells = ["-"] * 3 if figure is None else [f"{figure[key]:.3f}" for key in ("value", "low", "high")]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Moved threshold at 1024²: {report['moved_threshold_ms']:.1f} ms.",
        "",
        "| scenario | side | seconds | evaluations | pictures | stages, seconds on the wall | share of peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for scenario in (*SCENARIOS, "moved_threshold", "moved_grow_and_feather", "moved_threshold_request"):
        for side in ("library", "reference", "paper", "fast"):
            some = [row for row in rows if (row.scenario, row.side) == (scenario, side)]
            if some:
                lines.append(_line(scenario, side, some))
    lines += ["", "| peak memory of the mask stage | MiB |", "|---|---|"]
    for side in ("library", "reference", "paper", "fast"):
        peaks = [row.peak_bytes for row in rows if row.side == side and row.peak_bytes is not None]
        if peaks:
            lines.append(f"| {side} | {median(peaks) / 2**20:.1f} |")
    if not subject.has_library_side:
        kind = "SDXL" if model.is_xl else "flow models"
        lines += ["", f"The library's DiffEdit never knew {kind}, so there is nothing to compare with."]
    checked = [row.equal for row in rows if row.equal is not None]
    if checked:
        lines += ["", f"Reference mode gave the library's mask and picture in {sum(checked)} of {len(checked)} runs."]
    return "\n".join(lines) + "\n"


def _line(scenario: str, side: str, rows: Sequence[Row]) -> str:
    middle = median(row.seconds or 0.0 for row in rows)
    stages = {stage: median((row.stages or {}).get(stage, 0.0) for row in rows) for stage in (rows[0].stages or {})}
    shares = [row.share_of_peak for row in rows if row.share_of_peak is not None]
    cells = [
        scenario.replace("_", " "),
        side,
        f"{middle:.4f}",
        str(rows[0].evaluations),
        "" if rows[0].results is None else str(rows[0].results),
        ", ".join(f"{stage} {value:.3f}" for stage, value in stages.items()),
        f"{median(shares):.1%}" if shares else "",
    ]
    return f"| {' | '.join(cells)} |"
