"""Metrics and intervals against cases whose answer is known, or against a second way to compute it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from diffedit_bench.quality import metrics
from diffedit_bench.quality.report import difference_figure, mean_figure
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

PLANES = hnp.arrays(np.uint8, (6, 5))
REGIONS = hnp.arrays(np.bool_, (6, 5))
# A busy machine draws examples slowly; how fast is not what is tested.
UNTIMED = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)


def square(size: int, top: int, left: int, side: int) -> NDArray[np.bool_]:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


@UNTIMED
@given(PLANES, REGIONS)
def test_auroc_is_the_share_of_pixel_pairs_in_the_right_order(
    soft_map: NDArray[np.uint8], truth: NDArray[np.bool_]
) -> None:
    inside, outside = soft_map[truth].astype(int), soft_map[~truth].astype(int)
    if not (inside.size and outside.size):
        assert metrics.auroc(soft_map, truth) is None
        return
    difference = inside[:, None] - outside[None]
    assert metrics.auroc(soft_map, truth) == pytest.approx(((difference > 0) + 0.5 * (difference == 0)).mean())


@UNTIMED
@given(PLANES, REGIONS)
def test_the_best_iou_is_the_highest_over_all_thresholds(soft_map: NDArray[np.uint8], truth: NDArray[np.bool_]) -> None:
    if truth.any():
        tried = max(metrics.iou(soft_map >= level, truth) for level in range(1, 256))
        assert metrics.best_iou(soft_map, truth) == pytest.approx(tried)


def test_the_lowest_and_the_highest_threshold_are_tried_too() -> None:
    truth = square(8, 2, 2, 3)
    assert metrics.best_iou(truth.astype(np.uint8), truth) == 1
    assert metrics.best_iou(np.where(truth, np.uint8(255), np.uint8(254)), truth) == 1


def test_iou_of_squares_that_share_a_third_of_their_union() -> None:
    assert metrics.iou(square(20, 0, 0, 10), square(20, 0, 5, 10)) == pytest.approx(1 / 3)
    assert metrics.iou(square(4, 0, 0, 0), square(4, 0, 0, 0)) == 1


def test_boundaries_count_as_met_up_to_two_px_and_not_beyond() -> None:
    truth = square(40, 10, 10, 16)
    assert metrics.boundary_f(square(40, 10, 12, 16), truth) == 1
    assert metrics.boundary_f(square(40, 13, 13, 16), truth) < 0.7
    assert metrics.boundary_f(square(40, 0, 0, 0), truth) == 0


def test_the_border_of_the_picture_is_no_boundary() -> None:
    everything = np.ones((12, 12), bool)
    assert metrics.boundary_f(everything, square(12, 4, 4, 3)) == 0
    assert metrics.boundary_f(everything, everything) == 1
    left, more = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    left[:, :5], more[:, :15] = True, True
    assert metrics.boundary_f(left, more) == 0


def test_psnr_asks_the_region_alone() -> None:
    black, grey = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    grey[:4] = 51  # 0.2 of full scale
    top = np.zeros((8, 8), bool)
    top[:4] = True
    assert metrics.psnr(metrics.mse(black, grey, top) or 0) == pytest.approx(-20 * math.log10(0.2))
    assert metrics.psnr(metrics.mse(black, grey, ~top) or 0) == metrics.PSNR_OF_EQUAL
    assert metrics.mse(black, grey, np.zeros((8, 8), bool)) is None


@UNTIMED
@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_the_mean_lies_in_its_interval(values: list[float]) -> None:
    figure = mean_figure(values)
    assert figure is not None
    assert figure.low - 1e-9 <= figure.value <= figure.high + 1e-9


def test_intervals_hold_the_true_mean_about_as_often_as_they_promise() -> None:
    rng = np.random.default_rng(0)
    figures = [mean_figure(rng.normal(0.5, 0.2, 60).tolist()) for _ in range(200)]
    held = np.mean([figure.low <= 0.5 <= figure.high for figure in figures if figure])
    assert 0.90 <= held <= 0.99


def test_a_figure_of_a_finished_mean_keeps_low_below_high() -> None:
    figure = mean_figure([0.01, 0.02, 0.04], metrics.psnr)
    assert figure is not None
    assert figure.low < figure.value < figure.high
    assert figure.value == pytest.approx(metrics.psnr(0.07 / 3))


def test_unknown_values_are_left_out_and_all_unknown_is_no_figure() -> None:
    figure = mean_figure([None, 0.25, None, 0.75])
    assert figure is not None
    assert figure.value == 0.5
    assert mean_figure([None, None]) is None


def test_a_difference_on_the_same_cases_is_surer_than_two_means() -> None:
    rng = np.random.default_rng(1)
    theirs = rng.uniform(0, 1, 100)
    ours = theirs + 0.05
    found = difference_figure(ours.tolist(), theirs.tolist())
    alone = mean_figure(ours.tolist())
    assert found is not None
    assert alone is not None
    assert found.low == pytest.approx(0.05)
    assert found.high - found.low < (alone.high - alone.low) / 100


def flat(size: int, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.full((size, size, 3), colour, np.uint8)


GROUND, OLD, NEW = (60, 160, 60), (200, 40, 40), (40, 40, 220)


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_the_ghost_is_the_share_of_the_old_thing_that_still_shows_and_its_correlation_knows_no_strength(
    strength: float,
) -> None:
    region = square(16, 4, 4, 8)
    source, target = flat(16, OLD), flat(16, GROUND)
    picture = np.rint(target + strength * (source.astype(float) - target)).astype(np.uint8)
    found = metrics.still_showing(picture, source, target, region)
    assert found is not None
    assert found[0] == pytest.approx(strength, abs=0.01)
    assert found[1] == pytest.approx(1.0 if strength else 0.0, abs=0.01)
    assert metrics.still_showing(picture, target, target, region) is None


def test_a_new_thing_in_another_pose_is_excused_and_neither_a_ghost_nor_what_stands_apart() -> None:
    thing, ground = square(24, 8, 8, 6), square(24, 0, 0, 24) & ~square(24, 8, 8, 6)
    source, target = flat(24, OLD), flat(24, GROUND)
    target[thing] = NEW
    picture = target.copy()
    picture[8:14, 14:18] = NEW  # the thing is wider than the true one
    picture[20:23, 20:23] = NEW  # another, apart from it
    picture[14:18, 8:14] = (130, 100, 50)  # a ghost: half old, half ground
    picture[2:6, 2:6] = OLD
    excused = metrics.another_pose(picture, source, target, thing, ground)
    assert np.array_equal(excused, _box(24, 8, 14, 14, 18))
    assert not metrics.another_pose(source, source, target, thing, ground).any()


def _box(size: int, top: int, bottom: int, left: int, right: int) -> NDArray[np.bool_]:
    box = np.zeros((size, size), bool)
    box[top:bottom, left:right] = True
    return box


def test_the_seam_is_the_step_across_the_masks_border_beyond_the_true_edits_own() -> None:
    mask = square(12, 3, 3, 5)
    target = flat(12, GROUND)
    picture = target.copy()
    picture[mask] += np.uint8(10)
    assert metrics.seam(target, target, mask) == 0
    assert metrics.seam(picture, target, mask) == pytest.approx(10)
    target[mask] += np.uint8(30)  # the true edit has a step of its own
    assert metrics.seam(picture, target, mask) == pytest.approx(-20)
    assert metrics.seam(picture, target, np.ones((12, 12), bool)) is None
