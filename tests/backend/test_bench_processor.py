"""`diffedit bench processor`: a step in each precision, what is chosen by default, what a precision does to edits."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch
from diffedit_backend.cli.program import main
from diffedit_bench.processor.run import StepTime, compare_edits, table, time_steps


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_every_precision_is_timed_in_one_thread_and_in_all_and_the_default_is_marked(two_threads: None) -> None:
    rows = time_steps("tiny", ("fp32", "bf16"), rounds=1)
    assert [(row.precision, row.threads) for row in rows] == [("fp32", 1), ("fp32", 2), ("bf16", 1), ("bf16", 2)]
    assert [row.chosen for row in rows] == [True, False, False, False]
    assert rows[0].weights == 2 * rows[2].weights > 0
    assert torch.get_num_threads() == 2
    assert all(row.seconds >= row.least_seconds > 0 for row in rows)


def test_in_bf16_the_bundled_models_edit_is_that_in_fp32_but_for_what_no_one_sees() -> None:
    found = compare_edits("bf16", scenes=1)
    assert 0.95 < found.mask_iou[1] < 1.01
    assert 40 < found.psnr[1] < 99
    assert found.true_iou[1] == pytest.approx(found.true_iou[0], abs=0.05)


def test_the_command_tells_its_figures_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--size", "bundled", "--precision", "fp32", "--rounds", "1", "--scenes", "1", "--json"]
    assert main(["bench", "processor", *arguments]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert [(row["size"], row["precision"]) for row in reported["steps"]] == [("bundled", "fp32")] * len(
        reported["steps"]
    )
    assert reported["edits"] == []
    assert "cores" in reported["processor"]


def test_the_table_compares_within_a_size_and_stars_the_default() -> None:
    steps = [
        StepTime("bundled", "fp32", 1, 0.03, 0.02, 0.02, 30_000_000, True),
        StepTime("sd15", "fp32", 1, 11.0, 10.0, 10.0, 3_400_000_000, False),
        StepTime("sd15", "bf16", 1, 6.5, 6.0, 6.0, 1_700_000_000, True),
    ]
    reported = table("a processor", steps, [])
    assert "| bundled * | fp32 | 1 | 30 MB | 30 ms | 20 ms | 1.00 | 20 ms |" in reported
    assert "| sd15 * | bf16 | 1 | 1700 MB | 6500 ms | 6000 ms | 0.60 | 6000 ms |" in reported
