"""Membranes: places filled from around them, and edits matched to what surrounds the mask."""

from __future__ import annotations

import numpy as np
import pytest
from diffedit_backend.imaging.blend import blended, filled, membrane
from numpy.typing import NDArray


def square(size: int, start: int, end: int) -> NDArray[np.uint8]:
    mask = np.zeros((size, size), np.uint8)
    mask[start:end, start:end] = 255
    return mask


def slope(size: int) -> NDArray[np.uint8]:
    """A ramp of another direction in every channel, which is its own membrane."""
    y, x = np.mgrid[0:size, 0:size] * (200 / size)
    return np.stack((x, y, 200 - x), axis=-1).round().astype(np.uint8)


def test_a_membrane_continues_a_slope_into_what_is_not_known() -> None:
    field = slope(40).astype(np.float32)
    known = square(40, 12, 28) == 0
    found = membrane(np.where(known[..., None], field, 0).astype(np.float32), known)
    assert np.array_equal(found[known], field[known])
    assert np.abs(found - field).max() < 4


def test_a_membrane_stays_within_what_it_is_held_by() -> None:
    field = np.random.default_rng(0).uniform(10, 20, (33, 51, 2)).astype(np.float32)
    known = np.zeros((33, 51), bool)
    known[:, :7] = known[29:, :] = True
    found = membrane(field * known[..., None], known)
    assert found[~known].min() >= 9.99
    assert found[~known].max() <= 20.01
    assert not membrane(field, np.zeros_like(known)).any()


@pytest.mark.parametrize("size", [40, 600])
def test_a_filled_place_shows_nothing_of_what_stood_there_and_the_rest_is_untouched(size: int) -> None:
    ground, mask = slope(size), square(size, size // 4, size // 2)
    picture = ground.copy()
    reach = slice(size // 4 - 2, size // 2 + 2)  # the mask misses a rim of 2 px
    picture[reach, reach] = (255, 0, 255)
    result = filled(picture, mask, margin=3)
    assert np.array_equal(result[: size // 4 - 3], picture[: size // 4 - 3])
    assert np.abs(result.astype(int) - ground).max() < 12
    assert np.abs(filled(picture, mask, margin=0).astype(int) - ground).max() > 60


def test_a_cast_of_the_whole_edit_is_gone_at_the_border_and_kept_in_the_middle() -> None:
    picture, mask = np.full((64, 64, 3), 90, np.uint8), square(64, 8, 56)
    edited = picture + np.uint8(30)  # 52 in sRGB: a cast, and too far from the ground to be taken for it
    result = blended(edited, picture, mask, cell=8).astype(int) - picture
    assert np.abs(result[8, 12:52]).max() <= 8
    assert (result[28:36, 28:36] == 30).all()
    assert np.array_equal(blended(edited, picture, mask, cell=8)[mask == 0], edited[mask == 0])


@pytest.mark.parametrize("size", [64, 640])
def test_a_pale_rest_of_the_old_thing_is_cleared_and_the_new_thing_beside_it_stays(size: int) -> None:
    unit = size // 64
    picture, mask = slope(size), square(size, 16 * unit, 48 * unit)
    edited = picture.copy()
    ghost, thing = (
        np.s_[18 * unit : 46 * unit, 17 * unit : 28 * unit],
        np.s_[20 * unit : 44 * unit, 32 * unit : 46 * unit],
    )
    edited[ghost] = (edited[ghost] * 0.9 + 0.1 * np.array((255, 30, 30))).astype(np.uint8)
    edited[thing] = (250, 240, 20)
    result = blended(edited, picture, mask, cell=8 * unit)
    before, after = (np.abs(p[ghost].astype(int) - picture[ghost]).mean() for p in (edited, result))
    assert after < 0.3 * before
    inner = np.s_[24 * unit : 40 * unit, 36 * unit : 42 * unit]
    assert np.abs(result[inner].astype(int) - edited[inner]).max() <= 2


def test_what_looks_like_the_ground_within_the_new_thing_is_the_things_own() -> None:
    picture, mask = slope(64), square(64, 12, 52)
    edited = picture.copy()
    edited[16:48, 16:48] = (250, 240, 20)
    window = np.s_[28:36, 28:36]
    edited[window] = picture[window] + np.uint8(12)
    result = blended(edited, picture, mask, cell=8)
    assert np.array_equal(result[window], edited[window])


def test_on_uneven_ground_nothing_is_cleared() -> None:
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    picture, mask = np.repeat(checks[..., None], 3, 2).astype(np.uint8), square(64, 16, 48)
    edited = picture.copy()
    edited[24:40, 24:40] = 128
    assert np.abs(blended(edited, picture, mask, cell=8).astype(int) - edited)[26:38, 26:38].max() <= 2


def test_a_thing_that_the_edit_draws_across_the_border_shifts_no_colours() -> None:
    picture, mask = slope(64), square(64, 16, 48)
    edited = picture.copy()
    edited[28:36, 40:60] = (255, 255, 0)  # far from the picture's colours, inside and outside of the mask
    result = blended(edited, picture, mask, cell=8)
    assert np.abs(result.astype(int) - edited)[30:34, 40:46].max() <= 4


def test_without_an_outside_or_an_inside_there_is_nothing_to_blend() -> None:
    picture = slope(32)
    edited = (picture + np.uint8(9)).astype(np.uint8)
    for mask in (np.zeros((32, 32), np.uint8), np.full((32, 32), 255, np.uint8)):
        assert np.array_equal(blended(edited, picture, mask, cell=8), edited)
