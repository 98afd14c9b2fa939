"""The found mask drawn over the canvas: moved by the sliders, and gone when the artist leaves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import fake_krita
import pytest
from diffedit.app import Studio
from diffedit.canvas.overlay import MaskOverlay
from diffedit.model.settings import Store
from diffedit.qt import QtCore, QtGui, QtWidgets, sip
from krita import Selection
from studios import ScriptedLink, layer_names, make_studio, open_picture, square

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
def desk(store: Store, window: fake_krita.Window) -> tuple[Studio, ScriptedLink]:
    return make_studio(store)  # an overlay is what a new installation shows


def find(studio: Studio, link: ScriptedLink, until: Callable[..., None]) -> None:
    studio.look()
    studio.session.change_inputs(source="a horse", target="a zebra", grow=0, feather=0)
    studio.find_mask()
    until(lambda: bool(link.errands))
    link.finish(square())
    until(lambda: studio.session.mask_shown)


def overlays(window: fake_krita.Window) -> list[MaskOverlay]:
    return [child for child in window.controller.canvas.children() if isinstance(child, MaskOverlay)]


def red_at(window: fake_krita.Window, x: int, y: int) -> bool:
    """Whether a px of the canvas, grabbed with what is drawn on it, is redder than green."""
    colour = window.controller.canvas.grab().toImage().pixelColor(x, y)
    return colour.red() - colour.green() > 80


def test_a_found_mask_is_red_over_the_canvas_and_nowhere_in_the_document(desk, window, until) -> None:
    studio, link = desk
    document = open_picture()
    find(studio, link, until)
    assert [red_at(window, *at) for at in (INSIDE, RING, OUTSIDE)] == [True, False, False]
    assert document.selection() is None
    assert layer_names(document) == ["Background"]
    assert document.topLevelNodes()[0].childNodes() == []
    assert not document.modified()


def test_the_overlay_moves_with_the_threshold(desk, window, until) -> None:
    studio, link = desk
    open_picture()
    find(studio, link, until)
    studio.session.change_inputs(threshold=0.3)
    studio.masks.adjust(studio.session)
    until(lambda: red_at(window, *RING))
    assert len(overlays(window)) == 1


@pytest.mark.parametrize(
    ("zoom", "turn", "mirrored", "scrolled", "expected"),
    [
        (2.0, 0.0, False, (0, 0), (30, 40)),
        (2.0, 0.0, False, (10, -30), (20, 70)),
        (1.0, 0.0, True, (0, 0), (64 - 15, 20)),
        (1.0, 90.0, False, (0, 0), (48 - 20, 15)),
        (1.0, -90.0, True, (0, 0), (20, 15)),
    ],
)
def test_the_overlay_follows_the_view(desk, window, until, zoom, turn, mirrored, scrolled, expected) -> None:
    studio, link = desk
    open_picture()
    find(studio, link, until)
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


def test_a_newer_krita_is_asked_for_the_transform_itself(desk, window, until, monkeypatch) -> None:
    studio, link = desk
    open_picture()
    view = fake_krita.View
    to_canvas = QtGui.QTransform.fromTranslate(50, 60)
    monkeypatch.setattr(view, "flakeToCanvasTransform", lambda self: to_canvas, raising=False)
    to_image = QtGui.QTransform.fromScale(0.5, 0.5)
    monkeypatch.setattr(view, "flakeToImageTransform", lambda self: to_image, raising=False)
    find(studio, link, until)
    assert red_at(window, 50 + 2 * INSIDE[0], 60 + 2 * INSIDE[1])
    assert not red_at(window, *INSIDE)


def test_the_artists_selection_limits_the_overlay_and_stays_selected(desk, window, until) -> None:
    studio, link = desk
    studio.store.change(context=64)
    document = open_picture()
    own = Selection()
    own.select(0, 0, 14, 48, 255)
    document.setSelection(own)
    find(studio, link, until)
    assert red_at(window, 12, 20)
    assert not red_at(window, *INSIDE)
    assert (document.selection().x(), document.selection().width()) == (0, 14)


def test_an_edit_leaves_the_overlay_until_its_result_is_there(desk, window, until) -> None:
    studio, link = desk
    document = open_picture()
    find(studio, link, until)
    studio.edit_layer()
    until(lambda: link.last.request.task == "edit")
    assert (link.last.mask, link.last.selection) == (None, None)
    assert len(overlays(window)) == 1
    link.finish(square())
    until(lambda: len(document.topLevelNodes()) == 2)
    until(lambda: overlays(window) == [])
    assert not studio.session.mask_shown


def test_accepting_a_result_takes_the_overlay_away(desk, window, until) -> None:
    studio, link = desk
    studio.store.change(add_single=False)
    open_picture()
    studio.look()
    studio.session.change_inputs(source="a horse", target="a zebra", grow=0, feather=0)
    studio.edit_layer()
    until(lambda: bool(link.errands))
    link.finish(square())
    until(lambda: bool(studio.session.variations))
    studio.session.change_inputs(threshold=0.3)
    studio.masks.adjust(studio.session)
    until(lambda: studio.session.mask_shown)
    studio.results.accept(studio.session)
    until(lambda: overlays(window) == [])
    assert not studio.session.mask_shown


def test_esc_on_the_canvas_takes_the_overlay_away(desk, window, until) -> None:
    studio, link = desk
    open_picture()
    find(studio, link, until)
    none = QtCore.Qt.KeyboardModifier.NoModifier
    press = QtGui.QKeyEvent(QtCore.QEvent.Type.ShortcutOverride, QtCore.Qt.Key.Key_Escape, none)
    QtWidgets.QApplication.sendEvent(window.controller.canvas, press)
    until(lambda: overlays(window) == [])
    assert not studio.session.mask_shown


def test_choosing_another_layer_takes_the_overlay_away(desk, window, until) -> None:
    studio, link = desk
    document = open_picture()
    other = document.createNode("other", "paintlayer")
    document.rootNode().addChildNode(other, None)
    find(studio, link, until)
    document.setActiveNode(other)
    until(lambda: overlays(window) == [])
    assert not studio.session.mask_shown


def repaint(document: fake_krita.Document, value: int) -> bytes:
    """Paints a few px of the layer; gives what was there."""
    layer = document.topLevelNodes()[0]
    before = bytes(layer.pixelData(40, 40, 4, 4))
    layer.setPixelData(bytes([value]) * len(before), 40, 40, 4, 4)
    return before


OUTDATED = "'Background' was changed since its mask was found. Find the mask again, or undo."


def test_painting_on_the_layer_takes_the_overlay_away_and_undoing_it_brings_it_back(desk, window, until) -> None:
    studio, link = desk
    document = open_picture()
    find(studio, link, until)
    before = repaint(document, 77)
    until(lambda: overlays(window) == [])
    assert not studio.session.mask_shown
    assert studio.session.notice.sentence == OUTDATED
    document.topLevelNodes()[0].setPixelData(before, 40, 40, 4, 4)
    until(lambda: studio.session.mask_shown)
    assert studio.session.notice is None
    assert red_at(window, *INSIDE)


def test_a_mask_that_is_out_of_date_is_not_drawn_for_a_moved_slider(desk, window, until) -> None:
    studio, link = desk
    find_and_outdate(studio, link, until)
    studio.session.notice = None
    studio.session.change_inputs(threshold=0.3)
    studio.masks.adjust(studio.session)
    until(lambda: studio.session.notice is not None)
    assert studio.session.notice.sentence == OUTDATED
    assert overlays(window) == []


def test_an_edit_after_painting_searches_the_layer_as_it_now_is(desk, window, until) -> None:
    studio, link = desk
    find_and_outdate(studio, link, until)
    searched = link.last.picture
    studio.edit_layer()
    until(lambda: link.last.request.task == "edit")
    assert link.last.mask is None
    assert link.last.picture != searched


def test_a_mask_that_was_hidden_stays_hidden_when_the_painting_is_undone(desk, window, until) -> None:
    studio, link = desk
    document, before = find_and_outdate(studio, link, until)
    studio.cancel()
    assert studio.session.notice is None
    document.topLevelNodes()[0].setPixelData(before, 40, 40, 4, 4)
    until(lambda: not studio.masks._watch.isActive())
    assert overlays(window) == []


def find_and_outdate(studio: Studio, link: ScriptedLink, until: Callable[..., None]) -> tuple:
    document = open_picture()
    find(studio, link, until)
    before = repaint(document, 77)
    until(lambda: not studio.session.mask_shown)
    return document, before


def test_painting_on_another_layer_leaves_the_overlay(desk, window, until) -> None:
    studio, link = desk
    document = open_picture()
    other = document.createNode("other", "paintlayer")
    document.rootNode().addChildNode(other, None)
    find(studio, link, until)
    other.setPixelData(b"\xff" * 64, 40, 40, 4, 4)
    looks = []
    live = studio.masks._live[studio.session]
    look = live.changed
    live.changed = lambda: looks.append(look()) or looks[-1]
    until(lambda: len(looks) == 3)
    assert looks == [False] * 3
    assert len(overlays(window)) == 1


def test_the_overlay_moves_with_its_layer(desk, window, until) -> None:
    studio, link = desk
    document = open_picture()
    find(studio, link, until)
    document.activeNode().move(20, 0)
    until(lambda: red_at(window, 35 + 10, INSIDE[1]))
    assert not red_at(window, 12, INSIDE[1])


def test_the_overlay_is_as_large_as_the_canvas_and_lets_the_mouse_through(desk, window, until) -> None:
    studio, link = desk
    open_picture()
    find(studio, link, until)
    window.qwindow().resize(500, 350)
    (overlay,) = overlays(window)
    until(lambda: overlay.size() == window.controller.canvas.size())
    middle = window.controller.canvas.rect().center()
    assert window.controller.canvas.childAt(middle) is None


def test_without_a_canvas_that_is_known_the_artist_is_told_of_another_form(desk, window, until, monkeypatch) -> None:
    studio, link = desk
    open_picture()
    monkeypatch.setattr("diffedit.canvas.canvas_view.CANVAS_CLASSES", ())
    studio.look()
    studio.session.change_inputs(source="a horse", target="a zebra")
    studio.find_mask()
    until(lambda: bool(link.errands))
    link.finish(square())
    until(lambda: studio.session.notice is not None)
    assert "Choose another form under 'Show as'" in studio.session.notice.sentence
    assert not studio.session.mask_shown


def test_changing_the_form_takes_the_overlay_away_and_selects_instead(desk, window, until) -> None:
    studio, link = desk
    document = open_picture()
    find(studio, link, until)
    studio.store.change(mask_form="selection")
    until(lambda: overlays(window) == [])
    assert (document.selection().x(), document.selection().width()) == (10, 20)
    studio.store.change(mask_form="overlay")
    until(lambda: len(overlays(window)) == 1)
    assert document.selection() is None
