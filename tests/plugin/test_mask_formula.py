"""The plugin and the backend make one mask of a soft map: what is shown is what an edit uses."""

from __future__ import annotations

import numpy as np
import pytest
from diffedit.model import mask_formula
from diffedit_backend.method import mask as engine
from PIL import Image

SIZES = [(96, 64), (37, 53), (1, 9), (8, 1)]


def soft_map(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Hills of several sizes, some of which touch the borders."""
    noise = np.random.default_rng(seed).integers(0, 256, (7, 5), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def soft_selection(width: int, height: int) -> np.ndarray:
    """From 0 at the left to 255 at the right, with a hole."""
    plane = np.tile(np.linspace(0, 255, width).round().astype(np.uint8), (height, 1))
    plane[height // 3 : height // 2, width // 3 : width // 2] = 0
    return plane


def both(soft, threshold, grow, feather, selection):
    height, width = soft.shape
    ours = engine.final_mask(soft, threshold, grow, feather, selection)
    limit = None if selection is None else selection.tobytes()
    shown = mask_formula.final_mask(soft.tobytes(), width, height, threshold, grow, feather, limit)
    return ours, np.frombuffer(shown, np.uint8).reshape(height, width)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("grow", [-40, -7, -1, 0, 1, 2, 3, 6, 17, 300])
@pytest.mark.parametrize("feather", [0, 1, 2, 3, 4, 9, 30, 300])
@pytest.mark.parametrize("limited", [False, True], ids=["everywhere", "soft selection"])
def test_what_is_shown_is_what_an_edit_uses_within_1_of_255(size, grow, feather, limited):
    soft = soft_map(*size)
    ours, shown = both(soft, 0.5, grow, feather, soft_selection(*size) if limited else None)
    assert np.abs(ours.astype(int) - shown).max() <= 1
    assert np.array_equal(ours, shown)  # it is the same formula in integers


@pytest.mark.parametrize("size", [(700, 500), (37, 53), (1, 9), (1030, 30)], ids=str)
@pytest.mark.parametrize("grow", [-40, 0, 7, 130])
@pytest.mark.parametrize("feather", [0, 2, 30, 90])
def test_the_mask_in_short_steps_is_the_same_to_the_byte(monkeypatch, size, grow, feather):
    monkeypatch.setattr(mask_formula, "STEP_PIXELS", 1 << 14)
    soft, selection = soft_map(*size, seed=3), soft_selection(*size)
    _, whole = both(soft, 0.7, grow, feather, selection)
    values = (0.7, grow, feather)

    def steps():
        plane = yield from mask_formula.in_steps(soft.tobytes(), *size, *values)
        return (yield from mask_formula.limit_in_steps(plane, selection.tobytes()))

    assert run(steps()) == whole.tobytes()


def run(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("threshold", [0.001, 0.3, 0.5, 0.77, 0.999])
@pytest.mark.parametrize("seed", range(4))
def test_the_shown_mask_follows_every_threshold(threshold, seed):
    ours, shown = both(soft_map(120, 90, seed), threshold, 5, 8, soft_selection(120, 90))
    assert np.array_equal(ours, shown)


@pytest.mark.parametrize("value", [0, 255])
def test_an_empty_and_a_full_mask_stay_as_they_are(value):
    soft = np.full((40, 30), value, np.uint8)
    for grow in (-5, 0, 5):
        ours, shown = both(soft, 0.5, grow, 12, None)
        assert np.array_equal(ours, shown)
        assert (shown == value).all()


@pytest.mark.parametrize("feather", [1, 2, 3, 4, 6, 10, 20, 60])
def test_the_feather_s_boxes_are_those_of_the_backend_and_nearly_a_gaussian(feather):
    widths = mask_formula.box_widths(feather)
    assert widths == engine.box_widths(feather)
    variance = sum((width**2 - 1) / 12 for width in widths)
    assert abs(variance**0.5 - feather / 2) <= 0.35


def test_no_step_of_a_large_mask_works_on_more_than_a_part_of_it(monkeypatch):
    """A step that took the whole of it would hold Krita up; what the longest takes: `diffedit bench krita`."""
    side, grow, feather = 1024, 6, 8
    monkeypatch.setattr(mask_formula, "STEP_PIXELS", 1 << 16)
    worked: list[int] = []
    for name in ("_line", "_box_across", "_box_down", "_is_even"):
        original = getattr(mask_formula, name)

        def counted(first, *rest, original=original):
            if isinstance(first, int):
                worked[-1] += first.bit_length() // 8
            else:
                worked[-1] += len(first) if isinstance(first, bytes) else sum(map(len, first))
            return original(first, *rest)

        monkeypatch.setattr(mask_formula, name, counted)
    steps = mask_formula.in_steps(soft_map(side, side, 5).tobytes(), side, side, 0.5, grow, feather)
    ended = False
    while not ended:
        worked.append(0)
        ended = next(steps, "ended") == "ended"
    assert max(worked) <= side * side / 3
    assert sum(worked) > side * side
