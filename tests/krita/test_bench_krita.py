"""The benchmark of Krita's main thread, run as its user runs it."""

from __future__ import annotations

import json

from diffedit_backend.cli import main


def test_the_command_measures_every_kind_of_layer_and_every_form_of_the_mask_in_a_krita_of_its_own(tmp_path, capsys):
    assert main(["bench", "krita", "--out", str(tmp_path), "--sides", "256", "--rounds", "1"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    rows = [(row["side"], row["depth"], row["profile"].partition("-")[0]) for row in report["stalls_ms"]]
    assert rows == [(256, "U8", "sRGB"), (256, "U16", "sRGB"), (256, "U16", "Rec2020")]
    assert [row["shown as"] for row in report["live_threshold"]] == ["overlay", "selection", "selectionmask"]
    assert all(row["updates a second"] > 0 for row in report["live_threshold"])
    printed = capsys.readouterr().out
    assert f"Krita {report['krita']}" in printed
    assert str(tmp_path / "report.json") in printed
