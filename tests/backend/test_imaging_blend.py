"""Membranes: places filled from around them, and edits matched to what surrounds the mask."""

from __future__ import annotations

import numpy as np
import pytest
from diffedit_backend.imaging.blend import filled, matched, membrane
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
    picture, mask = slope(64), square(64, 16, 48)
    edited = (picture + np.uint8(20)).astype(np.uint8)
    result = matched(edited, picture, mask, reach=4).astype(int) - picture
    assert np.abs(result[16, 20:44]).max() <= 6
    assert (result[30:34, 30:34] == 20).all()
    assert np.array_equal(matched(edited, picture, mask, reach=4)[mask == 0], edited[mask == 0])


def test_a_thing_that_the_edit_draws_across_the_border_shifts_no_colours() -> None:
    picture, mask = slope(64), square(64, 16, 48)
    edited = picture.copy()
    edited[28:36, 40:60] = (255, 255, 0)  # far from the picture's colours, inside and outside of the mask
    result = matched(edited, picture, mask, reach=4)
    assert np.abs(result.astype(int) - edited)[mask > 0].max() <= 12


def test_without_an_outside_or_an_inside_there_is_nothing_to_match() -> None:
    picture = slope(32)
    edited = (picture + np.uint8(9)).astype(np.uint8)
    for mask in (np.zeros((32, 32), np.uint8), np.full((32, 32), 255, np.uint8)):
        assert np.array_equal(matched(edited, picture, mask, reach=4), edited)
