"""`diffedit bench speed` on a model of random weights that takes a second."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffedit_backend.cli.program import main
from diffedit_backend.models.device import compiled_unet
from diffedit_bench.speed.models import _SHAPES
from diffedit_bench.speed.report import ratio, summary
from diffedit_bench.speed.run import Row, peak_bytes
from diffedit_bench.speed.sides import EngineSide, load_subject

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning:diffusers",
    "ignore::DeprecationWarning:diffusers",
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning",  # by torch's own compiler
)

RATIOS = {"reference_first_edit", "first_edit", "second_target", "four_variations", "mask_peak_memory"}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speed")
    arguments = ["--size", "tiny", "--steps", "5", "--pairs", "1", "--device", "cpu", "--clock", "cpu"]
    threads = torch.get_num_threads()
    assert main(["bench", "speed", "--out", str(folder), *arguments]) == 0
    torch.set_num_threads(threads)
    return json.loads((folder / "report.json").read_text()), (folder / "report.md").read_text()


def found(report, scenario, side):
    return [row for row in report["rows"] if (row["scenario"], row["side"]) == (scenario, side)]


def test_the_report_has_the_keys_that_its_readers_know(report):
    figures, _ = report
    assert set(figures) == {"ratios", "moved_threshold_ms", "rows"}
    assert set(figures["ratios"]) == RATIOS
    for name in RATIOS - {"four_variations"}:
        figure = figures["ratios"][name]
        assert set(figure) == {"value", "low", "high"}
        assert 0 < figure["low"] <= figure["value"] <= figure["high"]


def test_the_reference_mode_gives_what_the_library_gives_with_fewer_evaluations(report):
    figures, _ = report
    ours, theirs = (found(figures, "first_edit", side) for side in ("reference", "library"))
    assert [row["equal"] for row in ours] == [True]
    assert [row["evaluations"] for row in ours] == [20 + 8 + 8]
    assert [row["evaluations"] for row in theirs] == [40 + 8 + 8]


def test_the_mask_stage_needs_less_than_a_quarter_of_the_librarys_memory(report):
    figures, _ = report
    assert figures["ratios"]["mask_peak_memory"]["high"] < 0.25


def test_a_moved_threshold_costs_no_evaluation_and_its_time_is_reported(report):
    figures, _ = report
    assert figures["moved_threshold_ms"] > 0
    for scenario in ("moved_threshold", "moved_threshold_request"):
        assert {row["evaluations"] for row in found(figures, scenario, "fast")} == {0}


def test_a_second_target_costs_ours_less_than_a_first_edit_and_the_library_as_much(report):
    figures, _ = report
    evaluations = {
        (scenario, side): found(figures, scenario, side)[0]["evaluations"]
        for scenario in ("first_edit", "second_target")
        for side in ("fast", "library")
    }
    assert evaluations["second_target", "fast"] < evaluations["first_edit", "fast"]
    assert evaluations["second_target", "library"] == evaluations["first_edit", "library"]


def test_the_table_names_every_side_and_the_clock(report):
    _, text = report
    assert "processor time" in text
    for side in ("library", "reference", "paper", "fast"):
        assert f"| first edit | {side} |" in text


def test_a_ratio_is_the_median_of_its_pairs_and_none_where_there_is_nothing_to_compare():
    rows = [
        Row("first_edit", side, pair, seconds, results=1)
        for pair, (mine, theirs) in enumerate([(1.0, 2.0), (1.0, 4.0), (3.0, 4.0)])
        for side, seconds in (("fast", mine), ("library", theirs))
    ]
    rows += [Row("moved_threshold", "fast", 0, 0.002, 0)]
    assert ratio(rows, "first_edit", "fast", lambda row: row.seconds) == {"value": 0.5, "low": 0.25, "high": 0.75}
    fewer = [
        *rows,
        Row("four_variations", "fast", 0, 1.0, results=1),
        Row("four_variations", "library", 0, 2.0, results=4),
    ]
    assert summary(fewer)["ratios"]["four_variations"] is None
    assert summary(fewer)["ratios"]["second_target"] is None


def test_peak_memory_is_what_lives_at_once():
    def one_after_the_other():
        for _ in range(5):
            torch.empty(1_000_000)

    def together():
        return [torch.empty(1_000_000) for _ in range(5)]

    assert 4_000_000 <= peak_bytes(one_after_the_other, torch.device("cpu")) < 8_000_000
    assert 20_000_000 <= peak_bytes(together, torch.device("cpu")) < 24_000_000


def test_the_arithmetic_of_one_evaluation_is_counted():
    subject = load_subject("tiny", "cpu", None, False)
    assert 1e-5 < subject.tflop_per_evaluation() < 1e-3
    assert subject.peak_tflops is None


def test_an_edit_on_random_weights_of_a_flow_model_is_timed_without_a_library_side(tmp_path):
    assert (
        main(["bench", "speed", "--size", "tiny-flow", "--pairs", "1", "--device", "cpu", "--out", str(tmp_path)]) == 0
    )
    report = (tmp_path / "report.md").read_text()
    assert "random tiny-flow" in report
    assert "never knew flow models" in report
    assert "| first edit | fast |" in report


@pytest.mark.parametrize(
    ("size", "billions", "tables"),
    [("sd35-medium", 2.5, True), ("flux2-klein-4b", 3.9, False), ("z-image", 6.2, False)],
)
def test_the_shapes_have_as_many_parameters_as_the_published_models(size, billions, tables):
    """`tables`: the published count is with the table of places, which is no parameter in diffusers."""
    shape = _SHAPES[size]
    with torch.device("meta"):
        transformer, vae = shape.transformer(), shape.vae()
    numbers = sum(p.numel() for p in transformer.parameters())
    numbers += sum(b.numel() for b in transformer.buffers()) if tables else 0
    assert round(numbers / 1e9, 1) == billions
    assert sum(p.numel() for p in vae.parameters()) == {"flux2-klein-4b": 84_046_115}.get(size, 83_819_683)


def test_a_compiled_flow_model_is_timed_as_the_plain_one(tmp_path, monkeypatch):
    """torch's compiler needs minutes for what it makes quicker, so its graphs run here as they are."""
    monkeypatch.setattr(
        "diffedit_bench.speed.models.compiled_unet", lambda unet, device: compiled_unet(unet, device, "eager")
    )
    subject = load_subject("tiny-flow", "cpu", None, True)
    plain = load_subject("tiny-flow", "cpu", None, False)
    assert subject.model.compiled
    pictures = [EngineSide("fast", each).first_edit().pictures[0] for each in (subject, plain)]
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() <= 1


def test_a_cap_on_memory_is_refused_where_there_is_no_gpu(tmp_path, capsys):
    arguments = ["--size", "tiny-flow", "--pairs", "1", "--device", "cpu", "--out", str(tmp_path)]
    assert main(["bench", "speed", *arguments, "--memory-gib", "4"]) != 0
    assert "--memory-gib is for a GPU" in capsys.readouterr().err
