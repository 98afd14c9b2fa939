"""Reports from rows whose figures are known."""

from __future__ import annotations

import json

import pytest
from diffedit_bench.quality import report as reports
from diffedit_bench.quality.report import losses, sentences
from diffedit_bench.quality.run import Row

# What issue trackers and other programs read.
KEYS = {
    "cases",
    "iou",
    "iou_best",
    "auroc",
    "boundary_f",
    "ground_psnr",
    "ghost",
    "seam",
    "success",
    "inside_psnr",
    "outside_psnr",
    "outside_exact",
    "evaluations",
    "seconds",
}


def row(case: int, editor: str, ratio: float = 0.8, **scores: float | None) -> Row:
    return Row(f"swap-{case:04d}", "swap" if case % 2 else "colour", editor, ratio, dict(scores))


def test_an_editor_has_exactly_the_promised_keys_each_with_its_interval() -> None:
    rows = [row(i, "ours", iou=i / 10, success=i % 2, inside_mse=0.01, evaluations=56, seconds=1.5) for i in range(10)]
    ours = json.loads(reports.dump(reports.build(rows, ["ours"], {})))["editors"]["ours"]
    assert ours.keys() == KEYS
    assert ours["cases"] == 10
    assert ours["iou"].keys() == {"value", "low", "high"}
    assert ours["iou"]["value"] == pytest.approx(0.45)
    assert ours["iou"]["low"] < 0.45 < ours["iou"]["high"]
    assert ours["inside_psnr"] == {"value": 20, "low": 20, "high": 20}
    assert ours["auroc"] is None


def test_figures_take_the_default_ratio_and_curves_take_all() -> None:
    rows = [row(i, "ours", ratio, success=ratio) for i in range(4) for ratio in (0.4, 0.8)]
    report = reports.build([*rows, row(0, "copy", success=0.0)], ["ours", "copy"], {})
    assert report["editors"]["ours"]["success"]["value"] == 0.8
    assert report["editors"]["ours"]["cases"] == 4
    assert [(point["ratio"], point["success"]["value"]) for point in report["curves"]["ours"]] == [
        (0.4, 0.4),
        (0.8, 0.8),
    ]
    assert "copy" not in report["curves"]


def test_each_kind_of_edit_has_its_own_figures() -> None:
    report = reports.build([row(i, "ours", iou=float(i % 2)) for i in range(6)], ["ours"], {})
    assert report["kinds"]["swap"]["ours"]["iou"]["value"] == 1
    assert report["kinds"]["colour"]["ours"]["iou"]["value"] == 0


def test_ours_is_compared_with_the_library_on_the_cases_that_both_have() -> None:
    ours = [row(i, "ours", iou=0.6) for i in range(5)]
    theirs = [row(i, "library", iou=0.5) for i in range(3)]
    difference = reports.build([*ours, *theirs], ["ours", "library"], {})["ours_minus"]["library"]["iou"]
    assert difference["value"] == pytest.approx(0.1)


def test_tables_show_intervals_and_a_dash_where_nothing_was_measured() -> None:
    rows = [row(i, "ours", iou=i / 2, seconds=2.0) for i in range(2)]
    table = reports.table(reports.build(rows, ["ours"], {})["editors"], reports.COLUMNS)
    line = table.splitlines()[2]
    assert line.startswith("| ours | 2 | 0.250 (0.000–0.500) |")
    assert "| 2.00 |" in line
    assert "| – |" in line


def test_losses_add_up_to_the_edits_that_failed() -> None:
    shares = {"truth": 1.0, "truth-vae": 0.9, "changed-mask": 0.6, "true-mask": 0.6, "ours": 0.5}
    report = {"editors": {name: {"success": {"value": share}} for name, share in shares.items()}}
    found = losses(report)
    assert sum(share for _, share in found) == pytest.approx(0.5)
    assert "Most is lost to the model and the denoising" in sentences(report)
    assert sentences({"editors": {"ours": {"success": None}}}) == ""


def test_what_no_editor_tells_apart_is_named_together() -> None:
    report = {"editors": {"truth-vae": {"success": {"value": 0.9}}, "ours": {"success": {"value": 0.5}}}}
    (autoencoder, first), (rest, second) = losses(report)
    assert (first, second) == (pytest.approx(0.1), pytest.approx(0.4))
    assert "judge" in autoencoder
    assert all(cause in rest for cause in ("the model", "the space", "the search for the mask"))
