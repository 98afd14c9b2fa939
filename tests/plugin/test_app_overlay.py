"""The found mask drawn over the canvas: moved by the sliders, and gone when the artist leaves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import fake_krita
import numpy as np
import pytest
from apps import ScriptedLink, layer_names, make_app, open_picture, square
from diffedit.app import App
from diffedit.canvas.overlay import OTHERS, RED, MaskOverlay, colour_over
from diffedit.model.settings import Store
from diffedit.qt import QtCore, QtGui, QtWidgets, sip
from krita import Selection

INSIDE, RING, OUTSIDE = (15, 20), (8, 20), (2, 2)  # px of the picture: see `square`


@pytest.fixture
def window(krita: fake_krita.Krita) -> Iterator[fake_krita.Window]:
    window = krita.activeWindow()
    window.qwindow().resize(400, 300)
    window.qwindow().show()
    yield window
    for overlay in overlays(window):
        sip.delete(overlay)
    window.qwindow().hide()


@pytest.fixture
def opened(store: Store, window: fake_krita.Window) -> tuple[App, ScriptedLink]:
    return make_app(store)  # an overlay is what a new installation shows


def find(app: App, link: ScriptedLink, until: Callable[..., None]) -> None:
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra", grow=0, feather=0)
    app.find_mask()
    until(lambda: bool(link.payloads))
    link.finish(square())
    until(lambda: app.session.mask_shown)


def overlays(window: fake_krita.Window) -> list[MaskOverlay]:
    return [child for child in window.controller.canvas.children() if isinstance(child, MaskOverlay)]


def red_at(window: fake_krita.Window, x: int, y: int) -> bool:
    """Whether a px of the canvas, grabbed with what is drawn on it, is redder than green."""
    colour = window.controller.canvas.grab().toImage().pixelColor(x, y)
    return colour.red() - colour.green() > 80


def painted(document: fake_krita.Document, inside: tuple[int, int, int], outside: tuple[int, int, int]) -> None:
    """Fills what `square` finds with one colour (R, G, B), the rest with another."""
    pixels = np.empty((48, 64, 4), np.uint8)
    pixels[:] = (*outside[::-1], 255)
    pixels[12:28, 10:30] = (*inside[::-1], 255)
    document.activeNode().setPixelData(pixels.tobytes(), 0, 0, 64, 48)


@pytest.mark.parametrize(
    ("inside", "outside", "colour"),
    [
        ((120, 70, 40), (90, 140, 70), RED),  # a horse on grass
        ((90, 140, 70), (210, 30, 40), RED),  # what is red lies beside the mask
        ((210, 30, 40), (90, 140, 70), OTHERS[0]),  # an apple
        ((255, 60, 90), (0, 150, 255), OTHERS[0]),  # what is blue lies beside the mask
    ],
)
def test_the_overlay_is_red_unless_the_picture_under_the_mask_is(
    opened, window, until, inside: tuple[int, int, int], outside: tuple[int, int, int], colour: tuple[int, int, int]
) -> None:
    app, link = opened
    painted(open_picture(), inside, outside)
    find(app, link, until)
    overlay = next(overlay for overlay in overlays(window) if overlay.isVisible())
    assert overlay.colour == colour
    app.session.change_inputs(threshold=0.3)
    app.masks.adjust(app.session)
    assert overlay.colour == colour


def test_over_red_and_blue_together_the_overlay_is_green() -> None:
    picture = QtGui.QImage(8, 8, QtGui.QImage.Format.Format_RGBA8888)
    picture.fill(QtGui.QColor(220, 20, 40))
    for y in range(8):
        for x in range(4):
            picture.setPixelColor(x, y, QtGui.QColor(20, 140, 240))
    mask = QtGui.QImage(16, 16, QtGui.QImage.Format.Format_Grayscale8)
    mask.fill(255)
    assert colour_over(picture, mask) == OTHERS[1]


def test_a_found_mask_is_red_over_the_canvas_and_nowhere_in_the_document(opened, window, until) -> None:
    app, link = opened
    document = open_picture()
    find(app, link, until)
    assert [red_at(window, *at) for at in (INSIDE, RING, OUTSIDE)] == [True, False, False]
    assert document.selection() is None
    assert layer_names(document) == ["Background"]
    assert document.topLevelNodes()[0].childNodes() == []
    assert not document.modified()


def test_the_overlay_moves_with_the_threshold(opened, window, until) -> None:
    app, link = opened
    open_picture()
    find(app, link, until)
    app.session.change_inputs(threshold=0.3)
    app.masks.adjust(app.session)
    until(lambda: red_at(window, *RING))
    assert len(overlays(window)) == 1


@pytest.mark.parametrize(
    ("view", "expected"),  # zoom, turn, mirrored, scrolled
    [
        ((2.0, 0.0, False, (0, 0)), (30, 40)),
        ((2.0, 0.0, False, (10, -30)), (20, 70)),
        ((1.0, 0.0, True, (0, 0)), (64 - 15, 20)),
        ((1.0, 90.0, False, (0, 0)), (48 - 20, 15)),
        ((1.0, -90.0, True, (0, 0)), (20, 15)),
    ],
)
def test_the_overlay_follows_the_view(opened, window, until, view, expected) -> None:
    app, link = opened
    zoom, turn, mirrored, scrolled = view
    open_picture()
    find(app, link, until)
    canvas = window.activeView().canvas()
    try:
        canvas.zoom, canvas.turn, canvas.mirrored = zoom, turn, mirrored
        window.controller.horizontalScrollBar().setValue(scrolled[0])
        window.controller.verticalScrollBar().setValue(scrolled[1])
        (overlay,) = overlays(window)
        at = overlay._canvas_view.image_to_widget().map(QtCore.QPointF(*INSIDE))
        assert (at.x(), at.y()) == pytest.approx(expected)
        assert red_at(window, *expected)
    finally:
        canvas.zoom, canvas.turn, canvas.mirrored = 1.0, 0.0, False
        window.controller.horizontalScrollBar().setValue(0)
        window.controller.verticalScrollBar().setValue(0)


def test_a_newer_krita_is_asked_for_the_transform_itself(opened, window, until, monkeypatch) -> None:
    app, link = opened
    open_picture()
    view = fake_krita.View
    to_canvas = QtGui.QTransform.fromTranslate(50, 60)
    monkeypatch.setattr(view, "flakeToCanvasTransform", lambda self: to_canvas, raising=False)
    to_image = QtGui.QTransform.fromScale(0.5, 0.5)
    monkeypatch.setattr(view, "flakeToImageTransform", lambda self: to_image, raising=False)
    find(app, link, until)
    assert red_at(window, 50 + 2 * INSIDE[0], 60 + 2 * INSIDE[1])
    assert not red_at(window, *INSIDE)


def test_the_artists_selection_limits_the_overlay_and_stays_selected(opened, window, until) -> None:
    app, link = opened
    app.store.change(context=64)
    document = open_picture()
    own = Selection()
    own.select(0, 0, 14, 48, 255)
    document.setSelection(own)
    find(app, link, until)
    assert red_at(window, 12, 20)
    assert not red_at(window, *INSIDE)
    assert (document.selection().x(), document.selection().width()) == (0, 14)


def test_an_edit_leaves_the_overlay_until_its_result_is_there(opened, window, until) -> None:
    app, link = opened
    document = open_picture()
    find(app, link, until)
    app.edit_layer()
    until(lambda: link.last.request.task == "edit")
    assert (link.last.mask, link.last.selection) == (None, None)
    assert len(overlays(window)) == 1
    link.finish(square())
    until(lambda: len(document.topLevelNodes()) == 2)
    until(lambda: overlays(window) == [])
    assert not app.session.mask_shown


def test_accepting_a_result_takes_the_overlay_away(opened, window, until) -> None:
    app, link = opened
    app.store.change(add_single=False)
    open_picture()
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra", grow=0, feather=0)
    app.edit_layer()
    until(lambda: bool(link.payloads))
    link.finish(square())
    until(lambda: bool(app.session.variations))
    app.session.change_inputs(threshold=0.3)
    app.masks.adjust(app.session)
    until(lambda: app.session.mask_shown)
    app.results.accept(app.session)
    until(lambda: overlays(window) == [])
    assert not app.session.mask_shown


def test_esc_on_the_canvas_takes_the_overlay_away(opened, window, until) -> None:
    app, link = opened
    open_picture()
    find(app, link, until)
    none = QtCore.Qt.KeyboardModifier.NoModifier
    press = QtGui.QKeyEvent(QtCore.QEvent.Type.ShortcutOverride, QtCore.Qt.Key.Key_Escape, none)
    QtWidgets.QApplication.sendEvent(window.controller.canvas, press)
    until(lambda: overlays(window) == [])
    assert not app.session.mask_shown


def test_choosing_another_layer_takes_the_overlay_away(opened, window, until) -> None:
    app, link = opened
    document = open_picture()
    other = document.createNode("other", "paintlayer")
    document.rootNode().addChildNode(other, None)
    find(app, link, until)
    document.setActiveNode(other)
    until(lambda: overlays(window) == [])
    assert not app.session.mask_shown


def repaint(document: fake_krita.Document, value: int) -> bytes:
    """Paints a few px of the layer; gives what was there."""
    layer = document.topLevelNodes()[0]
    before = bytes(layer.pixelData(40, 40, 4, 4))
    layer.setPixelData(bytes([value]) * len(before), 40, 40, 4, 4)
    return before


OUTDATED = "'Background' was changed since its mask was found. Find the mask again, or undo."


def test_painting_on_the_layer_takes_the_overlay_away_and_undoing_it_brings_it_back(opened, window, until) -> None:
    app, link = opened
    document = open_picture()
    find(app, link, until)
    before = repaint(document, 77)
    until(lambda: overlays(window) == [])
    assert not app.session.mask_shown
    assert app.session.notice.sentence == OUTDATED
    document.topLevelNodes()[0].setPixelData(before, 40, 40, 4, 4)
    until(lambda: app.session.mask_shown)
    assert app.session.notice is None
    assert red_at(window, *INSIDE)


def test_a_mask_that_is_out_of_date_is_not_drawn_for_a_moved_slider(opened, window, until) -> None:
    app, link = opened
    find_and_outdate(app, link, until)
    app.session.notice = None
    app.session.change_inputs(threshold=0.3)
    app.masks.adjust(app.session)
    until(lambda: app.session.notice is not None)
    assert app.session.notice.sentence == OUTDATED
    assert overlays(window) == []


def test_an_edit_after_painting_searches_the_layer_as_it_now_is(opened, window, until) -> None:
    app, link = opened
    find_and_outdate(app, link, until)
    searched = link.last.picture
    app.edit_layer()
    until(lambda: link.last.request.task == "edit")
    assert link.last.mask is None
    assert link.last.picture != searched


def test_a_mask_that_was_hidden_stays_hidden_when_the_painting_is_undone(opened, window, until) -> None:
    app, link = opened
    document, before = find_and_outdate(app, link, until)
    app.cancel()
    assert app.session.notice is None
    document.topLevelNodes()[0].setPixelData(before, 40, 40, 4, 4)
    until(lambda: not app.masks._watch.isActive())
    assert overlays(window) == []


def find_and_outdate(app: App, link: ScriptedLink, until: Callable[..., None]) -> tuple:
    document = open_picture()
    find(app, link, until)
    before = repaint(document, 77)
    until(lambda: not app.session.mask_shown)
    return document, before


def test_painting_on_another_layer_leaves_the_overlay(opened, window, until) -> None:
    app, link = opened
    document = open_picture()
    other = document.createNode("other", "paintlayer")
    document.rootNode().addChildNode(other, None)
    find(app, link, until)
    other.setPixelData(b"\xff" * 64, 40, 40, 4, 4)
    looks = []
    live = app.masks._live[app.session]
    look = live.changed
    live.changed = lambda: looks.append(look()) or looks[-1]
    until(lambda: len(looks) >= 3)
    assert not any(looks)
    assert len(overlays(window)) == 1


def test_the_overlay_moves_with_its_layer(opened, window, until) -> None:
    app, link = opened
    document = open_picture()
    find(app, link, until)
    document.activeNode().move(20, 0)
    until(lambda: red_at(window, 35 + 10, INSIDE[1]))
    assert not red_at(window, 12, INSIDE[1])


def test_the_overlay_is_as_large_as_the_canvas_and_lets_the_mouse_through(opened, window, until) -> None:
    app, link = opened
    open_picture()
    find(app, link, until)
    window.qwindow().resize(500, 350)
    (overlay,) = overlays(window)
    until(lambda: overlay.size() == window.controller.canvas.size())
    middle = window.controller.canvas.rect().center()
    assert window.controller.canvas.childAt(middle) is None


def test_without_a_canvas_that_is_known_the_artist_is_told_of_another_form(opened, window, until, monkeypatch) -> None:
    app, link = opened
    open_picture()
    monkeypatch.setattr("diffedit.canvas.canvas_view.CANVAS_CLASSES", ())
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra")
    app.find_mask()
    until(lambda: bool(link.payloads))
    link.finish(square())
    until(lambda: app.session.notice is not None)
    assert "Choose another form under 'Show as'" in app.session.notice.sentence
    assert not app.session.mask_shown


def test_changing_the_form_takes_the_overlay_away_and_selects_instead(opened, window, until) -> None:
    app, link = opened
    document = open_picture()
    find(app, link, until)
    app.store.change(mask_form="selection")
    until(lambda: overlays(window) == [])
    assert (document.selection().x(), document.selection().width()) == (10, 20)
    app.store.change(mask_form="overlay")
    until(lambda: len(overlays(window)) == 1)
    assert document.selection() is None
