"""The mask's edge as an alpha matte."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from diffedit_backend.editing import edit_picture, paste
from diffedit_backend.imaging.matting import closed_form, matted
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.method.mask import grow
from diffedit_backend.method.steps import EditCancelled
from diffedit_protocol.errors import BadInputError
from diffedit_protocol.messages import EditRequest
from test_editing_pictures import REQUEST, picture_of, square
from tiny_models import tiny_model

SIDE = 72
BAND = 6


def hairy(side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """A dark disk with hairs on a light ground, and its true alpha in [0, 1]."""
    y, x = np.mgrid[:side, :side] - side / 2
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    alpha = np.clip(side / 4 + (side / 20) * np.cos(24 * angle) - radius, 0, 1)
    colours = alpha[..., None] * np.array([60, 30, 20]) + (1 - alpha[..., None]) * np.array([230, 240, 250])
    return colours.round().astype(np.uint8), alpha


def disk(side: int = SIDE) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - side / 2
    return np.where(np.hypot(x, y) < side / 4, np.uint8(255), np.uint8(0))


@pytest.mark.parametrize("enlarged", [1, 4], ids=["narrow-band", "wide-band-of-a-large-picture"])
def test_hairs_that_a_hard_mask_cuts_off_come_back_as_alpha(enlarged):
    picture, truth = hairy(SIDE * enlarged)
    mask = disk(SIDE * enlarged)
    matte = matted(picture, mask, BAND * enlarged)
    before, after = (np.abs(plane / 255 - truth).mean() for plane in (mask, matte))
    assert after < 0.3 * before
    assert ((matte > 20) & (matte < 235)).any()


@pytest.mark.parametrize("band", [4, 12])
def test_only_a_band_around_the_edge_of_the_mask_changes(band):
    picture, _ = hairy()
    mask = disk()
    matte = matted(picture, mask, band)
    deep, far = grow(mask, -band) == 255, grow(mask, band) == 0
    assert (matte[deep] == 255).all()
    assert (matte[far] == 0).all()
    assert not np.array_equal(matte, mask)


def test_in_blocks_the_matte_is_nearly_that_of_one_piece(monkeypatch):
    picture, _ = hairy()
    whole = matted(picture, disk(), BAND).astype(int)
    monkeypatch.setattr("diffedit_backend.imaging.matting._BLOCK", 24)
    assert np.abs(matted(picture, disk(), BAND) - whole).mean() < 1


def test_a_mask_with_nothing_surely_inside_stays_as_it_is():
    mask = np.zeros((60, 60), np.uint8)
    mask[30, 10:50] = 255
    assert np.array_equal(matted(picture_of(60, 60), mask, 5), mask)


def test_a_soft_mask_keeps_its_own_values_beyond_the_band_and_is_nowhere_stronger_in_it():
    picture, _ = hairy()
    soft = (disk() // 255 * 180).astype(np.uint8)
    matte = matted(picture, soft, BAND)
    deep = grow(disk(), -BAND) == 255
    assert (matte[deep] == 180).all()
    assert matte.max() == 180
    assert not np.array_equal(matte, soft)
    faint = (disk() // 255 * 90).astype(np.uint8)
    assert np.array_equal(matted(picture, faint, BAND), faint)


@pytest.mark.parametrize("side", [24, 4])
def test_a_mask_of_the_artist_is_matted_in_the_same_band_without_a_search(side):
    engine, (picture, _) = DiffEditEngine(tiny_model()), hairy()
    mask = square(SIDE, SIDE, (36, 36, 36 + side, 36 + side))
    request = replace(REQUEST, task="mask", matting=True)
    outcome = edit_picture(engine, request, picture, mask=mask)
    assert (outcome.soft_map, outcome.evaluations) == (None, 0)
    assert not np.array_equal(outcome.mask, mask) or side == 4
    assert not outcome.mask[grow(mask, 8) == 0].any()
    assert np.array_equal(edit_picture(engine, replace(request, matting=False), picture, mask=mask).mask, mask)


def test_a_matte_that_reaches_beyond_a_small_crop_is_cut_there():
    engine, picture = DiffEditEngine(tiny_model()), picture_of(96, 80)
    mask = square(96, 80, (40, 30, 52, 42))
    outcome = edit_picture(engine, replace(REQUEST, matting=True), picture, mask=mask)
    assert not np.array_equal(outcome.mask, mask)
    assert np.array_equal(paste(picture, outcome)[outcome.mask == 0], picture[outcome.mask == 0])


def test_an_edit_with_matting_leaves_what_is_outside_of_its_matte_exact():
    engine, picture = DiffEditEngine(tiny_model()), picture_of(96, 80)
    request = replace(REQUEST, matting=True)
    outcome = edit_picture(engine, request, picture, selection=square(96, 80, (0, 0, 96, 60)))
    assert ((outcome.mask > 0) & (outcome.mask < 255)).any()
    assert not outcome.mask[60:].any()
    assert np.array_equal(paste(picture, outcome)[outcome.mask == 0], picture[outcome.mask == 0])
    assert EditRequest.from_wire(request.to_wire()) == request
    assert "matting" not in REQUEST.to_wire()


def test_matting_without_pymatting_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInputError, match=r"pip install 'krita-diffedit\[matting\]'"):
        edit_picture(DiffEditEngine(tiny_model()), replace(REQUEST, matting=True), picture_of(40, 40))


def test_a_fresh_machine_compiles_one_function_and_no_more(tmp_path):
    script = """import numpy as np
from diffedit_backend.imaging.matting import closed_form, matted
mask = np.zeros((40, 40), np.uint8)
mask[10:30, 10:30] = 255
matted(np.zeros((40, 40, 3), np.uint8), mask, 4)"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=240)
    assert [path.name.partition("-")[0] for path in tmp_path.rglob("*.nbi")] == ["cf_laplacian._cf_laplacian"]


def test_a_pymatting_that_was_imported_before_is_used_as_it_is(monkeypatch):
    closed_form.cache_clear()
    imported = ModuleType("pymatting")
    monkeypatch.setitem(sys.modules, "pymatting", imported)
    assert closed_form() is imported
    closed_form.cache_clear()


def test_every_block_is_a_step_that_can_end_the_edit(monkeypatch):
    monkeypatch.setattr("diffedit_backend.imaging.matting._BLOCK", 24)
    engine, (picture, _) = DiffEditEngine(tiny_model()), hairy()
    request = replace(REQUEST, task="mask", matting=True)
    steps = []
    outcome = edit_picture(engine, request, picture, mask=disk(), on_step=steps.append)
    assert {step.stage for step in steps} == {"edges"}
    total = steps[0].total
    assert total > 2
    assert [(step.step, step.total) for step in steps] == [(step, total) for step in range(total + 1)]
    assert outcome.seconds["edges"] > 0

    def cancel(step):
        if step.step == 2:
            raise EditCancelled
        reported.append(step.step)

    reported = []
    with pytest.raises(EditCancelled):
        edit_picture(DiffEditEngine(tiny_model()), request, picture, mask=disk(), on_step=cancel)
    assert reported == [0, 1]


def test_what_is_solved_does_not_grow_with_the_picture(monkeypatch):
    solved = []

    def alpha(picture, inside, outside):
        solved.append(picture.shape[:2])
        return np.where(inside, np.uint8(255), np.uint8(0))

    monkeypatch.setattr("diffedit_backend.imaging.matting._alpha", alpha)
    for enlarged in (2, 8):
        picture, _ = hairy(SIDE * enlarged)
        matted(picture, disk(SIDE * enlarged), 8 * enlarged // 2)
    small, large = solved
    assert large <= small
