"""What the docker says of the canvas: a tool in use, the mask that is used, a picture that was turned meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import fake_krita
import numpy as np
import pytest
from apps import ScriptedLink, layer_names, make_app, open_picture, square
from diffedit.app import App
from diffedit.canvas.colour import Converter
from diffedit.model.settings import Store
from diffedit.qt import QtWidgets


@pytest.fixture
def opened(store: Store, krita) -> tuple[App, ScriptedLink, fake_krita.Document]:
    """An app with the words written, in front of a picture that is brighter towards one corner."""
    app, link = make_app(store, "visible")
    document = open_picture()
    y, x = np.mgrid[:48, :64]
    pixels = np.dstack((3 * x, 5 * y, x + y, np.full_like(x, 255))).astype(np.uint8)
    document.activeNode().setPixelData(pixels.tobytes(), 0, 0, 64, 48)
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra", seed=5, seed_locked=True)
    return app, link, document


def flip(document: fake_krita.Document, change: Callable[[np.ndarray], np.ndarray]) -> None:
    raster = document.topLevelNodes()[0]._raster
    raster.pixels = np.ascontiguousarray(change(raster.pixels))


TURNS = {
    "mirrored": lambda pixels: pixels[:, ::-1],
    "upside down": lambda pixels: pixels[::-1],
    "turned by half": lambda pixels: pixels[::-1, ::-1],
}
SQUARE = {
    "turned to the left": lambda pixels: np.rot90(pixels),
    "turned to the right": lambda pixels: np.rot90(pixels, -1),
}


@pytest.mark.parametrize("turn", [*TURNS, *SQUARE])
def test_the_result_of_a_picture_that_was_turned_meanwhile_is_kept_and_not_added(opened, until, turn: str) -> None:
    app, link, document = opened
    if turn in SQUARE:  # of another shape, its size tells
        document.resizeImage(0, 0, 48, 48)
        flip(document, lambda pixels: pixels[:48, :48])
        app.look()
    app.edit_layer()
    until(lambda: len(link.payloads) == 1)
    flip(document, (TURNS | SQUARE)[turn])
    link.finish(square(document.width()))
    until(lambda: app.session.activity is None and app.session.notice is not None)
    assert "was scaled, cropped, rotated or mirrored" in app.session.notice.sentence
    assert layer_names(document) == ["Background"]
    assert app.session.history[-1].kept is not None


def test_the_result_of_a_picture_that_was_painted_on_meanwhile_is_added(opened, until) -> None:
    app, link, document = opened
    app.edit_layer()
    until(lambda: len(link.payloads) == 1)
    document.topLevelNodes()[0].setPixelData(bytes([0, 0, 0, 255]) * 900, 20, 10, 30, 30)
    link.finish(square())
    until(lambda: len(document.topLevelNodes()) == 2)


@pytest.mark.parametrize("when", ["reading", "adding"])
def test_a_tool_in_use_is_named_and_cancel_loses_nothing(opened, until, monkeypatch, when: str) -> None:
    app, link, document = opened
    if when == "adding":
        app.edit_layer()
        until(lambda: len(link.payloads) == 1)
    monkeypatch.setattr(document, "tryBarrierLock", lambda: False)
    if when == "adding":
        link.finish(square())
    else:
        app.edit_layer()
    until(lambda: app.session.activity is not None and app.session.activity.waits)
    assert app.session.activity.phase == when
    assert app.session.activity.title == "Editing · waiting: finish or cancel the active tool"
    app.cancel()
    assert app.session.activity is None
    assert layer_names(document) == ["Background"]
    if when == "adding":
        assert [variation.state for variation in app.session.variations] == ["waiting"]
        monkeypatch.undo()
        app.results.accept(app.session)
        until(lambda: len(document.topLevelNodes()) == 2)


def test_the_active_mask_is_drawn_in_red_and_said_to_be_used_until_it_is_left(opened, until) -> None:
    app, _, document = opened
    layer = document.topLevelNodes()[0]
    mask, selection = document.createSelectionMask("mine"), fake_krita.Selection()
    selection.select(5, 5, 20, 20, 255)
    mask.setSelection(selection)
    layer.addChildNode(mask, None)
    document.setActiveNode(mask)

    def overlay() -> QtWidgets.QWidget | None:
        return app.canvas._active_mask._overlay

    until(lambda: app.session.mask_in_use == "mine" and overlay() is not None)
    assert not overlay().isHidden()
    assert overlay()._image.pixelColor(10, 10).red() > 200
    assert overlay()._image.pixelColor(40, 40).alpha() == 0
    app.leave_mask()
    until(lambda: app.session.mask_in_use == "" and overlay() is None)
    assert not mask.visible()


def sent(app: App, link: ScriptedLink, until) -> bytes:
    """The pixels of another search."""
    count = len(link.payloads)
    app.find_mask()
    until(lambda: len(link.payloads) > count)
    link.finish(square())
    until(lambda: app.session.activity is None)
    return link.last.picture


def test_a_capture_that_is_still_true_is_not_taken_again_and_one_that_is_not_is(opened, until, monkeypatch) -> None:
    app, link, document = opened
    monkeypatch.setattr("diffedit.canvas.colour.DIRECT_STRIP", 64 * 16)  # three strips
    converted = []
    convert = Converter.__call__
    monkeypatch.setattr(Converter, "__call__", lambda *args: converted.append(args[2]) or convert(*args))
    first = sent(app, link, until)
    assert len(converted) == 3
    assert sent(app, link, until) is first
    assert len(converted) == 3
    layer = document.topLevelNodes()[0]
    layer.setPixelData(bytes([1, 2, 3, 255]), 5, 20, 1, 1)  # in the second strip
    painted = sent(app, link, until)
    assert [strip.y for strip in converted[3:]] == [16]
    at = 3 * (20 * 64 + 5)
    assert painted == first[:at] + bytes([3, 2, 1]) + first[at + 3 :]
    layer.setPixelData(bytes([1, 2, 3, 100]), 5, 40, 1, 1)  # not opaque any more: RGBA
    clear = sent(app, link, until)
    assert len(clear) == 4 * 64 * 48
    at = 4 * (40 * 64 + 5)
    assert clear[at : at + 4] == bytes([3, 2, 1, 100])
    assert bytes(clear[i] for i in range(len(clear)) if i % 4 < 3)[: 3 * 40 * 64] == painted[: 3 * 40 * 64]
    layer.setPixelData(bytes([9, 8, 7, 255]), 5, 40, 1, 1)
    assert len(sent(app, link, until)) == 3 * 64 * 48
