"""Edits larger than the model's pictures: windows that blend without seams, and detail at the picture's resolution."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffedit_backend.editing import edit_picture, paste
from diffedit_backend.imaging.area import choose_area, detailed_area
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.method.windows import in_windows, windows_over
from diffedit_backend.models import load_model
from diffedit_protocol.messages import Bounds, EditRequest
from diffedit_training.scenes.scenes import Scenes
from hypothesis import given, settings
from hypothesis import strategies as st
from test_editing_pictures import REQUEST, picture_of, square
from tiny_models import NATIVE, tiny_model

LARGE = 4 * NATIVE
DETAILED = replace(REQUEST, detail=True)


@settings(deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), side=st.integers(2, 20))
def test_windows_see_every_cell_and_overlap_by_half(height, width, side):
    windows = windows_over(torch.ones(height, width), side)
    seen = torch.zeros(height, width)
    for window in windows:
        assert (window.height, window.width) == (min(side, height), min(side, width))
        window.of(seen).add_(1)
    assert seen.min() >= 1
    tops = sorted({window.top for window in windows})
    assert all(after - before <= round(side / 2) for before, after in pairwise(tops))


def test_windows_that_see_nothing_of_the_mask_are_not_asked():
    mask = torch.zeros(64, 64)
    mask[2:5, 3:6] = 1
    windows = windows_over(mask, 16)
    assert [(window.top, window.left) for window in windows] == [(0, 0)]


def test_windows_that_agree_give_what_one_prediction_gives():
    x = torch.randn(2, 4, 40, 24)
    blended = in_windows(lambda part, level: 2 * part + level, windows_over(torch.ones(40, 24), 16))
    assert torch.allclose(blended(x, 3), 2 * x + 3, atol=1e-5)


def test_windows_that_disagree_leave_no_step_between_them():
    calls = []

    def predict(part, _level):
        calls.append(len(part))
        return torch.arange(len(part), dtype=torch.float32).view(-1, 1, 1, 1).expand_as(part)

    windows = windows_over(torch.ones(16, 64), 16)
    row = in_windows(predict, windows)(torch.zeros(1, 4, 16, 64), 0)[0, 0, 8]
    assert calls == [len(windows)]
    assert row[0] == 0
    assert row[-1] == len(windows) - 1
    assert row.diff().abs().max() <= 0.15  # windows differ by 1


def test_cells_that_no_window_sees_are_finite():
    mask = torch.zeros(64, 64)
    mask[:4, :4] = 1
    output = in_windows(lambda part, level: part, windows_over(mask, 16))(torch.ones(1, 4, 64, 64), 0)
    assert torch.isfinite(output).all()
    assert (output[..., 40:, 40:] == 0).all()


def test_detail_is_drawn_at_the_picture_s_resolution_and_only_where_that_is_finer():
    whole = choose_area(LARGE, LARGE, None, NATIVE, 4)
    fine = detailed_area(whole, Bounds(8, 8, 100, 60), NATIVE, 4)
    assert (fine.width, fine.height) == (fine.crop.width, fine.crop.height)
    assert (fine.crop.x, fine.crop.y) == (0, 0)
    assert fine.crop.width == 8 + 100 + NATIVE // 2
    assert detailed_area(choose_area(NATIVE, NATIVE, None, NATIVE, 4), Bounds(0, 0, 9, 9), NATIVE, 4) is None
    huge = detailed_area(choose_area(100 * NATIVE, 100 * NATIVE, None, NATIVE, 4), Bounds(0, 0, 3200, 3200), NATIVE, 4)
    assert max(huge.width, huge.height) <= 9 * NATIVE


@pytest.mark.parametrize("kind", ["sd1", "sd2", "xl"])
def test_detail_changes_the_edit_of_a_large_picture_and_nothing_outside_of_its_mask(kind):
    engine, picture = DiffEditEngine(tiny_model(kind)), picture_of(LARGE, LARGE - 10)
    mask = square(LARGE, LARGE - 10, (10, 20, 100, 100))
    mask[60:] = np.minimum(mask[60:], 128)
    steps = []
    plain = paste(picture, edit_picture(engine, REQUEST, picture, mask=mask))
    detailed = paste(picture, edit_picture(engine, DETAILED, picture, mask=mask, on_step=steps.append))
    assert np.array_equal(detailed[mask == 0], picture[mask == 0])
    assert (detailed[mask == 255] != plain[mask == 255]).any()
    decoding = [(step.step, step.total) for step in steps if step.stage == "decoding"]
    assert decoding == [(i + 1, len(decoding)) for i in range(len(decoding))]
    assert len(decoding) == 1 + 3  # as many as at normal quality, though a draft has fewer steps


def test_detail_that_cannot_be_finer_costs_nothing():
    engine, picture = DiffEditEngine(tiny_model()), picture_of(NATIVE, NATIVE)
    mask = square(NATIVE, NATIVE, (4, 4, 20, 20))
    plain = edit_picture(engine, REQUEST, picture, mask=mask)
    detailed = edit_picture(engine, DETAILED, picture, mask=mask)
    assert detailed.evaluations < plain.evaluations  # the trajectory is kept
    assert np.array_equal(detailed.edits[0].pixels, plain.edits[0].pixels)


def test_a_large_edit_is_sharper_with_detail():
    engine = DiffEditEngine(load_model("bundled", "cpu"))
    pair = Scenes(size=256, split="heldout").pair(500_000_003, "background")
    request = EditRequest(pair.source_caption, pair.target_caption, preview=False)

    def sharpness(request):
        outcome = edit_picture(engine, request, pair.source)
        edited = paste(pair.source, outcome)
        assert np.array_equal(edited[outcome.mask == 0], pair.source[outcome.mask == 0])
        steps = np.abs(np.diff(edited.astype(int), axis=1)).mean(axis=2)
        return steps[outcome.mask[:, 1:] == 255].mean()

    assert sharpness(replace(request, detail=True)) > 1.1 * sharpness(request)


def test_a_request_without_detail_can_be_read_by_a_backend_that_knows_none():
    assert "detail" not in REQUEST.to_wire()
    assert EditRequest.from_wire(REQUEST.to_wire()) == REQUEST
    assert EditRequest.from_wire(DETAILED.to_wire()) == DETAILED
