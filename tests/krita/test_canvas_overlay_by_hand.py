"""A mask in red over the canvas, and a person with a mouse and keys: whose Esc is, and what painting does."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from diffedit_krita_driver.remote import RemoteKrita

_SPEC = importlib.util.spec_from_file_location("hands", Path(__file__).with_name("hands.py"))
hands_module = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(hands_module)
Hands, until, show_docker = (getattr(hands_module, name) for name in ("Hands", "until", "show_docker"))


@pytest.fixture
def hands(krita: RemoteKrita) -> object:
    """Of a person before a mask in red; the docker has the focus, as after a click on *Find mask*."""
    krita.run(show_red)
    krita.run(show_docker)
    hands = Hands(krita)
    hands.click("source.edit")
    until(krita, is_red)
    return hands


def show_red(stage):
    """A mask of the middle of a sheet, as if it had been found."""
    from types import SimpleNamespace

    from diffedit.canvas.capture import capture_steps
    from diffedit.extension import extension

    app = extension().app
    app.store.change(mask_form="overlay")
    stage.app.action("KritaShape/KisToolBrush").trigger()
    document = yield from stage.new(200, 150)
    layer = document.activeNode()
    layer.setPixelData(b"\xff\x00\x00\xff" * 30000, 0, 0, 200, 150)
    yield from stage.refresh()
    app.look()
    capture = yield from stage.run(capture_steps(document, layer))
    soft = bytes(200 if 50 <= x < 150 and 40 <= y < 110 else 20 for y in range(150) for x in range(200))
    result = SimpleNamespace(soft_map=soft, manifest=SimpleNamespace(threshold=0.5, ground=False))
    app.masks.take(SimpleNamespace(session=app.session, capture=capture), result)


def is_red(stage):
    from diffedit.canvas.canvas_view import CanvasView
    from diffedit.extension import extension

    overlays = [w for w in CanvasView(stage.document).widget.children() if w.objectName() == "diffedit_mask_overlay"]
    assert extension().app.session.mask_shown == bool(overlays)
    return bool(overlays)


def is_not_red(stage):
    from diffedit.canvas.canvas_view import CanvasView

    return "diffedit_mask_overlay" not in [w.objectName() for w in CanvasView(stage.document).widget.children()]


def test_esc_on_the_canvas_takes_the_red_away(krita: RemoteKrita, hands) -> None:
    hands.touch_canvas()
    hands.key("Escape")
    until(krita, is_not_red)
    assert not krita.run(is_red)


def test_esc_in_the_docker_takes_the_red_away(krita: RemoteKrita, hands) -> None:
    hands.key("Escape")
    until(krita, is_not_red)
    assert not krita.run(is_red)


def test_esc_ends_a_transformation_first(krita: RemoteKrita, hands) -> None:
    krita.run(begin_to_transform)
    hands.touch_canvas()
    until(krita, transforms)
    hands.key("Escape")
    until(krita, transforms_no_more)
    assert krita.run(is_red)
    hands.key("Escape")
    until(krita, is_not_red)


def begin_to_transform(stage):
    stage.app.action("KisToolTransform").trigger()
    yield 0.5


def transforms(stage):
    from diffedit.canvas.layers import is_busy

    return is_busy(stage.document)


def transforms_no_more(stage):
    from diffedit.canvas.layers import is_busy

    return not is_busy(stage.document)


def test_a_stroke_on_the_layer_takes_the_red_away_with_a_word_and_undoing_it_brings_it_back(
    krita: RemoteKrita, hands
) -> None:
    hands.touch_canvas()
    hands.paint((0.4, 0.45), (0.6, 0.55))
    until(krita, is_not_red)
    assert krita.run(notice) == "'Background' was changed since its mask was found. Find the mask again, or undo."
    krita.run(move_the_threshold)
    assert not krita.run(is_red)
    hands.key("ctrl+z")
    until(krita, is_red)
    assert krita.run(notice) is None


def notice(stage):
    from diffedit.extension import extension

    shown = extension().app.session.notice
    return None if shown is None else shown.sentence


def move_the_threshold(stage):
    from diffedit.extension import extension

    app = extension().app
    app.session.change_inputs(threshold=0.4)
    app.masks.adjust(app.session)
    yield 0.3
