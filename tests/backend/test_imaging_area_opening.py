"""A soft map without small holes and specks."""

from __future__ import annotations

import numpy as np
import pytest
from diffedit_backend.imaging.soft_map import area_opening
from diffedit_backend.method.mask import hard_mask

CELL = 8


def thing(side: int = 128, value: int = 220, around: int = 20) -> np.ndarray:
    """A square thing, its edge a ramp of 8 px from `around` to `value`."""
    plane = np.full((side, side), around, np.float64)
    quarter = side // 4
    for i in range(8):
        plane[quarter + i : -quarter - i, quarter + i : -quarter - i] = around + (value - around) * (i + 1) / 8
    return plane.round().astype(np.uint8)


def test_a_small_hole_is_filled_at_every_threshold_and_every_edge_stays_where_it_was():
    whole = thing()
    holed = whole.copy()
    holed[60:68, 58:66] = 40
    mended = area_opening(holed, CELL)
    for threshold in np.linspace(0.1, 0.8, 15):
        assert np.array_equal(hard_mask(mended, threshold), hard_mask(whole, threshold))


def test_a_speck_is_taken_away_at_every_threshold():
    clean = thing()
    flecked = clean.copy()
    flecked[8:16, 100:108] = 200
    mended = area_opening(flecked, CELL)
    for threshold in np.linspace(0.15, 0.8, 14):
        assert np.array_equal(hard_mask(mended, threshold), hard_mask(clean, threshold))


def test_a_hole_and_a_second_thing_of_more_than_two_cells_stay():
    plane = thing()
    plane[56:72, 56:72] = 20
    plane[4:20, 100:116] = 200
    assert np.array_equal(area_opening(plane, CELL), plane)


@pytest.mark.parametrize("side", [6, 9])
def test_a_thing_smaller_than_two_cells_stays_where_nothing_else_was_found(side):
    plane = np.full((128, 128), 20, np.uint8)
    plane[60 : 60 + side, 60 : 60 + side] = 200
    assert np.array_equal(area_opening(plane, CELL), plane)


@pytest.mark.parametrize("value", [0, 100, 255])
def test_a_map_without_any_edge_stays_as_it_is(value):
    plane = np.full((40, 60), value, np.uint8)
    assert np.array_equal(area_opening(plane, CELL), plane)


@pytest.mark.parametrize("shape", [(1000, 700), (257, 1030), (120, 3000)])
def test_in_a_large_picture_parts_are_measured_coarsely_and_only_holes_and_specks_change(shape):
    height, width = shape
    y, x = np.mgrid[:height, :width]
    inside = (abs(x - width / 2) < width / 3) & (abs(y - height / 2) < height / 3)
    whole = np.where(inside, np.uint8(230), np.uint8(10))
    spoilt = whole.copy()
    spoilt[height // 2, width // 2] = 0
    spoilt[1, 2] = 255
    mended = area_opening(spoilt, 64)
    assert np.array_equal(hard_mask(mended, 0.5), hard_mask(whole, 0.5))


def test_opening_an_opened_plane_changes_nothing():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (16, 16), dtype=np.uint8)
    plane = np.kron(coarse, np.ones((5, 5), np.uint8))
    once = area_opening(plane, 6)
    assert not np.array_equal(once, plane)
    assert np.array_equal(area_opening(once, 6), once)
