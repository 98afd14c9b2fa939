"""Planes as Qt's images, and the part of them that Krita is given."""

from __future__ import annotations

import numpy as np
import pytest
from diffedit.canvas import mask_shape
from diffedit.qt import QtGui

TABLE = [QtGui.qRgba(255, 0, 40, 140 * value // 255) for value in range(256)]


@pytest.mark.parametrize("box", [(0, 0, 31, 17), (3, 5, 9, 7), (30, 16, 31, 17), (0, 4, 31, 5), (7, 0, 8, 17)], ids=str)
def test_the_trimmed_part_of_a_plane_holds_all_that_is_not_0_and_no_more(box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    plane = np.zeros((17, 31), np.uint8)
    plane[top, left] = plane[bottom - 1, right - 1] = 9
    part, *place = mask_shape.trimmed(plane.tobytes(), 31, 17)
    assert place == [left, top, right - left, bottom - top]
    assert part == plane[top:bottom, left:right].tobytes()


def test_nothing_is_left_of_an_empty_plane() -> None:
    assert mask_shape.trimmed(bytes(60), 10, 6) == (b"", 0, 0, 0, 0)


@pytest.mark.parametrize("width", [1, 31, 64])
def test_a_mask_coloured_in_steps_is_as_the_whole_of_it(monkeypatch, width: int) -> None:
    monkeypatch.setattr(mask_shape, "COLOURED_STEP", 200)
    plane = np.random.default_rng(0).integers(0, 256, (23, width), np.uint8).tobytes()
    steps, count = mask_shape.coloured_steps(plane, width, 23, TABLE), 0
    while True:
        try:
            next(steps)
            count += 1
        except StopIteration as end:
            image = end.value
            break
    whole = QtGui.QImage(plane, width, 23, width, QtGui.QImage.Format.Format_Indexed8)
    whole.setColorTable(TABLE)
    assert image == whole.convertToFormat(QtGui.QImage.Format.Format_ARGB32_Premultiplied)
    assert count == -(-23 // max(1, 200 // width))
