"""Cases, scores and controls on the bundled scenes: no network runs here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from diffedit_bench.quality.cases import DEFAULT_KINDS, EditCase, bundled_cases
from diffedit_bench.quality.editors import Edited, pasted
from diffedit_bench.quality.ours import Copy, Truth
from diffedit_bench.quality.plots import sheet, strip
from diffedit_bench.quality.run import Row, RowFile, score
from diffedit_protocol.errors import BadInputError


@pytest.fixture(scope="module")
def cases() -> list[EditCase]:
    found = bundled_cases(8, 3, 64)
    return [found.load(name) for name in found.names]


def test_a_longer_run_begins_with_the_cases_of_a_shorter_one(cases: list[EditCase]) -> None:
    longer = bundled_cases(20, 3, 64)
    assert longer.names[:8] == tuple(case.name for case in cases)
    again = longer.load(longer.names[5])
    assert np.array_equal(again.source, cases[5].source)
    assert again.target_text == cases[5].target_text
    assert not np.array_equal(bundled_cases(8, 4, 64).load(longer.names[5]).source, again.source)


def test_every_kind_of_edit_takes_its_turn(cases: list[EditCase]) -> None:
    assert [case.kind for case in cases] == [*DEFAULT_KINDS, *DEFAULT_KINDS]


def test_the_true_edit_succeeds_and_the_copy_does_not(cases: list[EditCase]) -> None:
    truths = [score(case, "truth", 0.8, Truth().edit(case, 0.8)).scores for case in cases]
    copies = [score(case, "copy", 0.8, Copy().edit(case, 0.8)).scores for case in cases]
    assert np.mean([scores["success"] for scores in truths]) >= 0.9
    assert np.mean([scores["success"] for scores in copies]) <= 0.1
    assert all(scores["inside_mse"] == 0 and scores["outside_mse"] == 0 for scores in truths)
    assert all(scores["outside_exact"] == 1 and scores["iou"] == 0 and scores["auroc"] == 0.5 for scores in copies)


def test_where_a_thing_stood_the_true_edit_has_no_ghost_and_the_copy_is_one(cases: list[EditCase]) -> None:
    for case in cases:
        assert case.ground is not None
        assert case.thing is not None
        assert not (case.ground & case.thing).any()
        mask = np.full(case.source.shape[:2], 255, np.uint8)
        truth = score(case, "truth", 0.8, Edited(Truth().edit(case, 0.8).delivered, mask)).scores
        copy = score(case, "copy", 0.8, Edited(case.source, mask)).scores
        if case.kind in ("swap", "delete"):
            assert (truth["ghost"], truth["ground_mse"], truth["another_pose"]) == (0, 0, 0)
            assert copy["ghost"] == pytest.approx(1)
            assert copy["ground_mse"] == copy["uncovered_mse"]
            assert copy["another_pose"] == 0
        else:
            assert not case.ground.any()
            assert truth["ghost"] is truth["ground_mse"] is None


def test_any_seed_is_a_set_of_cases_but_a_negative_one_which_is_refused() -> None:
    case = bundled_cases(1, 90210, 64).load("swap-0000")
    assert 0 <= case.seed < 2**32
    assert not np.array_equal(case.source, bundled_cases(1, 0, 64).load("swap-0000").source)
    with pytest.raises(BadInputError, match="--seed must be 0 or more, not -1"):
        bundled_cases(1, -1, 64)


def test_one_changed_bit_outside_the_mask_is_not_exact(cases: list[EditCase]) -> None:
    case = cases[0]
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 255
    inside, outside = case.source.copy(), case.source.copy()
    inside[0, 0] ^= 1
    outside[63, 63, 2] ^= 1
    assert score(case, "x", 0.8, Edited(inside, mask)).scores["outside_exact"] == 1
    assert score(case, "x", 0.8, Edited(outside, mask)).scores["outside_exact"] == 0


def test_pasting_takes_the_damage_outside_the_mask_away(cases: list[EditCase]) -> None:
    case = cases[0]
    assert case.changed is not None
    decoded = case.source + np.uint8(1)
    mask = np.where(case.changed, np.uint8(255), np.uint8(0))
    edited = Edited(decoded, mask, decoded=decoded)
    scores = score(case, "x", 0.8, edited).scores
    assert scores["outside_before_mse"] == scores["outside_mse"] > 0
    assert scores["outside_after_mse"] == 0
    assert np.array_equal(pasted(case, edited)[~case.changed], case.source[~case.changed])


def test_a_soft_map_is_scored_apart_from_the_mask_that_was_cut_from_it(cases: list[EditCase]) -> None:
    case = cases[0]
    assert case.mask is not None
    soft_map = np.where(case.mask, np.uint8(90), np.uint8(10))
    scores = score(case, "x", 0.8, Edited(case.source, np.zeros((64, 64), np.uint8), soft_map)).scores
    assert (scores["iou"], scores["iou_best"], scores["auroc"]) == (0, 1, 1)


def test_rows_outlive_a_stop_in_the_middle_of_a_line(tmp_path: Path) -> None:
    facts = {"seed": 0, "kinds": ("swap",)}
    rows = RowFile(tmp_path, facts)
    kept = Row("swap-0000", "swap", "ours", 0.8, {"iou": 0.25, "auroc": None})
    rows.add(kept)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"case": "swap-00')
    again = RowFile(tmp_path, facts)
    assert again.rows == {kept.key: kept}
    again.add(Row("swap-0001", "swap", "ours", 0.8, {}))
    assert len(RowFile(tmp_path, facts).rows) == 2


def test_a_folder_of_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    RowFile(tmp_path, {"seed": 0})
    with pytest.raises(BadInputError, match="seed 0; this one has 1"):
        RowFile(tmp_path, {"seed": 1})


def test_strips_have_a_cell_for_everything_and_sheets_hold_all_strips(cases: list[EditCase], tmp_path: Path) -> None:
    paths = []
    for i, case in enumerate(cases[:3]):
        image = strip(case, Truth().edit(case, 0.8))
        pixels = np.asarray(image)
        cell = image.height - 14
        assert np.array_equal(pixels[14:, :cell][::2, ::2], case.source)
        assert case.target is not None
        assert np.array_equal(pixels[14:, -cell:][::2, ::2], case.target)
        paths.append(tmp_path / f"{i}.png")
        image.save(paths[-1])
    page = np.asarray(sheet(paths))
    assert page.shape[0] > 2 * image.height
    assert np.array_equal(page[: image.height, : image.width], np.asarray(strip(cases[0], Truth().edit(cases[0], 0.8))))
