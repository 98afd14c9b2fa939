"""From a soft map to a mask: what a client may do by itself, and what it means in px."""

from __future__ import annotations

import numpy as np
import pytest
from diffedit_backend.method.mask import (
    automatic_threshold,
    feather,
    final_mask,
    grow,
    hard_mask,
    is_ground,
    limit,
    threshold_table,
)
from hypothesis import given
from hypothesis import strategies as st


def dot(size: int = 41) -> np.ndarray:
    plane = np.zeros((size, size), np.uint8)
    plane[size // 2, size // 2] = 255
    return plane


def disk(radius: float, size: int = 41) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size // 2
    return x**2 + y**2 <= radius**2


@given(threshold=st.floats(0.001, 0.999))
def test_a_table_of_256_entries_cuts_as_the_engine_does(threshold):
    soft_map = np.arange(256, dtype=np.uint8).reshape(16, 16)
    drawn = np.frombuffer(soft_map.tobytes().translate(threshold_table(threshold)), np.uint8).reshape(16, 16)
    assert np.array_equal(drawn, hard_mask(soft_map, threshold))
    assert drawn.min() == 0
    assert drawn.max() == 255


@pytest.mark.parametrize("radius", [1, 2, 3, 5, 8, 13, 17])
def test_growing_reaches_as_far_as_asked_in_every_direction(radius):
    grown = grow(dot(), radius) > 0
    assert not (disk(0.9 * radius - 0.5) & ~grown).any()
    assert not (grown & ~disk(1.1 * radius + 0.5)).any()
    row = grown[20]
    assert row.sum() == 2 * radius + 1


def test_shrinking_is_growing_what_is_not_in_the_mask():
    mask = (disk(12) * 255).astype(np.uint8)
    assert np.array_equal(grow(mask, -4), 255 - grow(255 - mask, 4))
    assert not (grow(mask, -4)[~disk(9)]).any()


def test_growing_by_more_than_the_picture_fills_it():
    assert grow(dot(9), 4096).all()


def test_a_feathered_edge_has_its_middle_where_the_edge_was():
    mask = np.zeros((40, 80), np.uint8)
    mask[:, 40:] = 255
    soft = feather(mask, 8)[20]
    assert abs(int(soft[39]) + int(soft[40]) - 255) <= 2
    assert soft[20] == 0
    assert soft[60] == 255
    assert (np.diff(soft.astype(int)) >= 0).all()


def test_feathering_leaves_the_caller_s_mask_alone_and_depends_on_no_border():
    mask = dot(201)
    before = mask.copy()
    inner = feather(mask[50:151, 50:151], 10)
    assert np.array_equal(feather(mask, 10)[50:151, 50:151], inner)
    assert np.array_equal(mask, before)


def test_the_automatic_threshold_lies_where_the_mask_depends_least_on_it():
    soft_map = np.full((64, 64), 20, np.uint8)
    soft_map[16:48, 16:48] = np.linspace(150, 250, 32 * 32).reshape(32, 32)
    soft_map[:8] = np.linspace(60, 100, 8 * 64).reshape(8, 64)
    threshold = automatic_threshold(soft_map)
    assert 100 / 255 < threshold <= 150 / 255
    assert np.array_equal(hard_mask(soft_map, threshold) > 0, soft_map >= 150)


def flanked() -> np.ndarray:
    """A soft map of a disk: 240 to a radius of 13 px, and a flank that falls fast at first, to 10 at 17 px."""
    y, x = np.mgrid[:64, :64] - 31.5
    return np.interp(np.hypot(x, y), [13, 14, 17], [240, 150, 10]).astype(np.uint8)


def test_the_automatic_threshold_takes_the_whole_of_a_thing_and_a_ground_without_it():
    soft_map = flanked()
    low, high = automatic_threshold(soft_map), automatic_threshold(255 - soft_map)
    assert 0.3 < low < 0.4
    assert 0.7 < high < 0.8
    thing, ground = hard_mask(soft_map, low), hard_mask(255 - soft_map, high)
    assert np.count_nonzero(thing == ground) <= 100  # of 4096: what the flanks lie within


def test_the_automatic_threshold_does_not_go_on_to_something_fainter():
    soft_map = flanked()
    soft_map[:8] = np.maximum(soft_map[:8], 90)
    assert np.array_equal(hard_mask(soft_map, automatic_threshold(soft_map))[:8], np.zeros((8, 64), np.uint8))


def test_the_automatic_threshold_tells_a_ground_by_the_border_of_the_selection():
    soft_map = np.pad(255 - flanked(), 16)
    selection = np.pad(np.full((64, 64), 255, np.uint8), 16)
    assert automatic_threshold(soft_map, selection) > 0.7


@pytest.mark.parametrize("within", ["the picture", "the selection"])
def test_a_ground_is_told_by_its_soft_map_along_the_border(within):
    thing, ground, selection = flanked(), 255 - flanked(), None
    if within == "the selection":
        thing, ground = np.pad(thing, 16, constant_values=255), np.pad(ground, 16)
        selection = np.pad(np.full((64, 64), 255, np.uint8), 16)
    assert not is_ground(thing, selection)
    assert is_ground(ground, selection)


def test_of_thresholds_that_cut_the_same_mask_the_automatic_one_is_the_middle():
    soft_map = np.where(flanked() > 128, np.uint8(255), np.uint8(0))
    assert automatic_threshold(soft_map) == pytest.approx(0.5, abs=0.01)


def test_the_automatic_threshold_looks_at_the_selection_only():
    soft_map = np.zeros((64, 64), np.uint8)
    soft_map[:, :32] = np.linspace(90, 140, 64 * 32).reshape(64, 32)
    soft_map[:, 32:] = np.where(np.arange(64)[:, None] < 32, 110, 170)
    selection = np.zeros((64, 64), np.uint8)
    selection[:, 32:] = 255
    assert 110 / 255 < automatic_threshold(soft_map, selection) <= 170 / 255


def test_a_selection_multiplies_with_its_soft_edge():
    mask, selection = np.full((1, 3), 255, np.uint8), np.array([[0, 128, 255]], np.uint8)
    assert limit(mask, selection).tolist() == [[0, 128, 255]]
    assert limit(mask, None) is mask


def test_the_final_mask_follows_its_formula():
    rng = np.random.default_rng(0)
    soft_map, selection = rng.integers(0, 256, (2, 50, 60), dtype=np.uint8)
    expected = limit(feather(grow(hard_mask(soft_map, 0.9), 2), 3), selection)
    assert np.array_equal(final_mask(soft_map, 0.9, 2, 3, selection), expected)
