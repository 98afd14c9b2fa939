"""Selections and selection masks: what limits an edit, and what an edit uses as its mask."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffedit_krita_driver.remote import RemoteKrita


def test_a_soft_selection_is_captured_with_its_edges(krita: RemoteKrita) -> None:
    def soft(stage):
        from diffedit.canvas.capture import capture_steps
        from krita import Selection

        document = yield from stage.new(50, 40)
        layer = document.activeNode()
        layer.setPixelData(bytes([1, 2, 3, 255]) * (50 * 40), 0, 0, 50, 40)
        plane = bytes((x * 11 + y) % 255 + 1 for y in range(20) for x in range(30))
        selection = Selection()
        selection.setPixelData(plane, 10, 5, 30, 20)
        document.setSelection(selection)
        yield from stage.refresh()
        captured = yield from stage.run(capture_steps(document, layer))
        area = captured.area
        return [area.x, area.y, area.width, area.height], captured.selection == plane

    assert krita.run(soft) == [[10, 5, 30, 20], True]


def test_context_is_captured_around_the_selection_and_clamped_to_the_canvas(krita: RemoteKrita) -> None:
    def around(stage):
        from diffedit.canvas.capture import capture_steps
        from krita import Selection

        document = yield from stage.new(50, 40)
        layer = document.activeNode()
        layer.setPixelData(bytes([1, 2, 3, 255]) * (50 * 40), 0, 0, 50, 40)
        selection = Selection()
        selection.select(-20, 10, 30, 10, 255)  # 20 px of it lie left of the canvas
        document.setSelection(selection)
        yield from stage.refresh()
        captured = yield from stage.run(capture_steps(document, layer, context=8))
        area = captured.area
        return [area.x, area.y, area.width, area.height], captured.selection.count(255), len(captured.selection)

    assert krita.run(around) == [[0, 2, 18, 26], 10 * 10, 18 * 26]


@pytest.mark.parametrize("how", ["none", "everything", "more than everything"])
def test_a_selection_of_everything_counts_as_none(krita: RemoteKrita, how: str) -> None:
    def everything(stage, how):
        from diffedit.canvas.capture import capture_steps
        from krita import Selection

        document = yield from stage.new(50, 40)
        layer = document.activeNode()
        layer.setPixelData(bytes([1, 2, 3, 255]) * (50 * 40), 0, 0, 50, 40)
        if how != "none":
            selection = Selection()
            margin = 0 if how == "everything" else 9
            selection.select(-margin, -margin, 50 + 2 * margin, 40 + 2 * margin, 255)
            document.setSelection(selection)
        yield from stage.refresh()
        captured = yield from stage.run(capture_steps(document, layer))
        return captured.selection, captured.area.pixels

    assert krita.run(everything, how=how) == [None, 50 * 40]


def test_a_selection_mask_on_the_layer_is_captured_as_the_artist_painted_it(krita: RemoteKrita) -> None:
    def painted(stage):
        from diffedit.canvas.apply import keep_mask_steps
        from diffedit.canvas.capture import capture_steps
        from diffedit.canvas.layers import layer_ref
        from diffedit_protocol.messages import Bounds

        document = yield from stage.new(50, 40)
        layer = document.activeNode()
        layer.setPixelData(bytes([1, 2, 3, 255]) * (50 * 40), 0, 0, 50, 40)
        yield from stage.refresh()
        plane = bytes((x * 5 + y * 3) % 256 for y in range(40) for x in range(50))
        steps = keep_mask_steps(layer_ref(document, layer), "found", plane, Bounds(0, 0, 50, 40))
        yield from stage.run(steps)
        yield from stage.settle()
        captured = yield from stage.run(capture_steps(document, layer))
        first = captured.mask == plane
        mask = layer.childNodes()[0]
        mask.setPixelData(b"\xc8" * 100, 3, 4, 10, 10)  # a stroke of the artist
        document.setActiveNode(mask)
        yield from stage.refresh()
        captured = yield from stage.run(capture_steps(document, document.activeNode()))
        rows = [captured.mask[(4 + y) * 50 + 3 : (4 + y) * 50 + 13] for y in range(10)]
        kind = document.activeNode().type()
        yield from stage.undo()
        return first, rows == [b"\xc8" * 10] * 10, captured.mask_name, kind, len(layer.childNodes())

    assert krita.run(painted) == [True, True, "found", "selectionmask", 0]


def test_finding_a_mask_touches_neither_pixels_nor_selection(krita: RemoteKrita, tmp_path: Path) -> None:
    def found(stage):
        from diffedit.canvas.apply import keep_mask_steps
        from diffedit.canvas.layers import layer_ref
        from diffedit_protocol.messages import Bounds
        from krita import Selection

        document = yield from stage.new(20, 20)
        layer = document.activeNode()
        raw = bytes(range(256)) * 6 + bytes(64)
        layer.setPixelData(raw, 0, 0, 20, 20)
        selection = Selection()
        selection.select(2, 2, 5, 5, 255)
        document.setSelection(selection)
        yield from stage.refresh()
        yield from stage.run(keep_mask_steps(layer_ref(document, layer), "m", b"\xff" * 400, Bounds(0, 0, 20, 20)))
        yield from stage.settle()
        now = document.selection()
        return bytes(layer.pixelData(0, 0, 20, 20)) == raw, [now.x(), now.y(), now.width(), now.height()]

    assert krita.run(found) == [True, [2, 2, 5, 5]]
