"""Which part of a picture is worked on, at which size, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffedit_backend.imaging.area import Thumbnail, bounds_of, choose_area, content_cells, from_work, to_cells, to_work
from diffedit_backend.imaging.profiles import composite_on_white, uncomposite
from diffedit_backend.imaging.soft_map import guided_filter
from diffedit_protocol.messages import Bounds
from hypothesis import given, settings
from hypothesis import strategies as st

NATIVE, MULTIPLE, FACTOR = 128, 32, 8


def gradient(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return (np.stack([x, y, 1 - x], axis=-1) * 255).round().astype(np.uint8)


@settings(max_examples=80, deadline=None)
@given(width=st.integers(8, 20_000), height=st.integers(8, 20_000))
def test_any_picture_is_brought_to_the_model_s_area_with_its_aspect(width, height):
    area = choose_area(width, height, None, NATIVE, MULTIPLE)
    assert area.crop == Bounds(0, 0, width, height)
    assert area.padded_width % MULTIPLE == 0
    assert area.padded_height % MULTIPLE == 0
    assert 0 <= area.padded_width - area.width < MULTIPLE
    assert 0 <= area.padded_height - area.height < MULTIPLE
    assert max(area.width, area.height) <= 2 * NATIVE
    assert area.width * area.height <= 1.1 * NATIVE**2
    scale = area.width / width if width >= height else area.height / height
    assert abs(area.width - scale * width) <= 1
    assert abs(area.height - scale * height) <= 1


def test_a_square_picture_of_the_model_s_size_is_not_scaled():
    picture = gradient(NATIVE, NATIVE)
    area = choose_area(NATIVE, NATIVE, None, NATIVE, MULTIPLE)
    assert np.array_equal(to_work(picture, area), picture)
    assert np.array_equal(from_work(picture, area), picture)


@settings(max_examples=80, deadline=None)
@given(x=st.integers(0, 900), y=st.integers(0, 700), width=st.integers(1, 124), height=st.integers(1, 100))
def test_a_selection_is_cropped_with_context_that_stays_in_the_picture(x, y, width, height):
    area = choose_area(1024, 800, Bounds(x, y, width, height), NATIVE, MULTIPLE)
    crop = area.crop
    assert crop.x <= x
    assert crop.y <= y
    assert crop.x + crop.width >= x + width
    assert crop.y + crop.height >= y + height
    assert 0 <= crop.x <= 1024 - crop.width
    assert 0 <= crop.y <= 800 - crop.height
    assert crop.width == crop.height == round(max(width, height) * 1.7)


def test_a_selection_of_nearly_everything_is_worked_on_with_the_whole_picture():
    assert choose_area(1000, 1000, Bounds(100, 100, 600, 600), NATIVE, MULTIPLE).crop == Bounds(0, 0, 1000, 1000)


@pytest.mark.parametrize(("width", "height"), [(100, 75), (37, 211), (8, 8), (640, 480)])
def test_a_picture_survives_the_way_to_the_model_and_back(width, height):
    picture = gradient(height, width)
    area = choose_area(width, height, None, NATIVE, MULTIPLE)
    work = to_work(picture, area)
    assert work.shape == (area.padded_height, area.padded_width, 3)
    assert np.abs(from_work(work, area).astype(int) - picture).mean() < 4


@settings(max_examples=60, deadline=None)
@given(width=st.integers(8, 300), height=st.integers(8, 300), x=st.integers(0, 299), y=st.integers(0, 299))
def test_a_cell_is_free_exactly_when_the_mask_touches_it(width, height, x, y):
    x, y = x % width, y % height
    plane = np.zeros((height, width), np.uint8)
    plane[y, x] = 200
    area = choose_area(width, height, None, NATIVE, MULTIPLE)
    cells = to_cells(plane, area, FACTOR)
    assert cells.shape == (area.padded_height // FACTOR, area.padded_width // FACTOR)
    assert cells.max() == pytest.approx(200 / 255)
    row, column = int((y + 0.5) * area.height / height / FACTOR), int((x + 0.5) * area.width / width / FACTOR)
    assert cells[row, column] == pytest.approx(200 / 255)
    assert not cells[~content_cells(area, FACTOR)].any()


def test_the_bounds_of_a_plane_hold_every_pixel_above_zero():
    plane = np.zeros((20, 30), np.uint8)
    assert bounds_of(plane).empty
    plane[3, 7] = plane[11, 22] = 1
    assert bounds_of(plane) == Bounds(7, 3, 16, 9)


def test_colours_laid_on_paper_come_off_again():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (40, 50, 4), dtype=np.uint8)
    picture[..., 3] = np.maximum(picture[..., 3], 64)
    back = uncomposite(composite_on_white(picture), picture[..., 3])
    assert np.abs(back.astype(int) - picture[..., :3]).max() <= 3
    invisible = np.zeros((1, 1, 4), np.uint8)
    assert composite_on_white(invisible).tolist() == [[[255, 255, 255]]]


def test_the_guided_filter_moves_a_blurred_edge_to_the_picture_s_edge():
    picture = np.full((128, 128, 3), 40, np.uint8)
    picture[:, 60:] = (200, 160, 90)
    coarse = torch.linspace(0, 1, 16)[None].expand(16, 16).clamp(0.2, 0.8)
    refined = guided_filter(picture, coarse, 20)
    assert refined.shape == (128, 128)
    step = refined[64, 63] - refined[64, 56]
    assert step > 3 * 7 / 128  # three times what the coarse map rises over these 7 px


def test_the_guided_filter_keeps_a_map_where_the_picture_says_nothing():
    refined = guided_filter(np.full((90, 70, 3), 128, np.uint8), torch.full((9, 7), 0.25), 12)
    assert refined == pytest.approx(np.full((90, 70), 0.25), abs=1e-4)


def test_the_guided_filter_is_the_same_in_strips_and_in_one_piece(monkeypatch):
    rng = np.random.default_rng(0)
    picture, coarse = rng.integers(0, 256, (100, 60, 3), dtype=np.uint8), torch.rand(10, 6)
    whole = guided_filter(picture, coarse, 8)
    monkeypatch.setattr("diffedit_backend.imaging.soft_map._STRIP", 7)
    assert np.allclose(guided_filter(picture, coarse, 8), whole, atol=1e-6)


def test_a_thumbnail_shows_the_crop_where_it_lies():
    picture = np.zeros((1000, 2000, 3), np.uint8)
    area = choose_area(2000, 1000, Bounds(900, 400, 100, 100), NATIVE, MULTIPLE)
    shown = Thumbnail(picture, area).with_work(np.full((area.padded_height, area.padded_width, 3), 255, np.uint8))
    assert shown.shape == (128, 256, 3)
    place = bounds_of(shown[..., 0])
    scale = 256 / 2000
    assert place.x == pytest.approx(area.crop.x * scale, abs=1)
    assert place.width == pytest.approx(area.crop.width * scale, abs=1)
