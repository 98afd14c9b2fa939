"""The mask drawn over the canvas: on the picture to the pixel, and no part of the document."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from diffedit_backend.krita.install import PLUGIN
from diffedit_krita_driver.display import Xvfb
from diffedit_krita_driver.profile import Look
from diffedit_krita_driver.remote import RemoteKrita, fresh_profile
from numpy.typing import NDArray
from PIL import Image

# zoom, how far it is scrolled (px), turned (degrees), mirrored; and by how many px the edge may be off
VIEWS = [
    (1.0, (0, 0), 0, False, 0),
    (2.0, (37, -21), 0, False, 0),
    (4.0, (-60, 33), 0, False, 0),
    (0.5, (11, 7), 0, False, 1),
    (0.7, (0, 0), 0, False, 1),
    (1.0, (-40, 12), 0, True, 0),
    (1.0, (5, 5), 90, False, 1),
    (1.5, (0, 0), 30, True, 2),
]


def photographed(stage, folder, views):
    """A sheet with a blue block, and a mask of just that block; the canvas without and with it in every view."""
    from diffedit.canvas.canvas_view import CanvasView
    from diffedit.canvas.layers import layer_ref
    from diffedit.canvas.live_mask import LiveMask
    from diffedit.model.ports import Fingerprint, FoundMask, MaskValues
    from diffedit_protocol.messages import Bounds

    document = yield from stage.new(400, 300)
    layer = document.activeNode()
    block = [[80 <= x < 200 and 100 <= y < 150 for x in range(400)] for y in range(300)]
    pixels = b"".join(b"\xff\x00\x00\xff" if inside else b"\xff\xff\xff\xff" for line in block for inside in line)
    layer.setPixelData(pixels, 0, 0, 400, 300)
    yield from stage.refresh()
    document.setModified(False)
    soft = bytes(200 if inside else 20 for line in block for inside in line)
    # Of a part of the layer, so that the mask's own corner is tried as well.
    part = b"".join(soft[y * 400 + 10 : y * 400 + 390] for y in range(20, 300))
    area = Bounds(10, 20, 380, 280)
    live = LiveMask(FoundMask(layer_ref(document, layer), area, part, 0.5, Fingerprint(area, 1, ())), form="overlay")
    canvas = stage.app.activeWindow().activeView().canvas()
    view = CanvasView(document)
    for i, (zoom, (dx, dy), turn, mirrored, _) in enumerate(views):
        canvas.setZoomLevel(zoom)
        canvas.setMirror(mirrored)
        canvas.setRotation(float(turn))
        yield 0.3
        for bar, step in (
            (view._controller.horizontalScrollBar(), dx),
            (view._controller.verticalScrollBar(), dy),
        ):
            bar.setValue(bar.value() + step)
        yield 0.3
        stage.grab(f"{folder}/{i}-bare.png", view.widget)
        live.show(MaskValues(0.5))
        yield 0.1
        stage.grab(f"{folder}/{i}-masked.png", view.widget)
        live.hide()
        yield 0.1
    canvas.setMirror(False)
    canvas.setRotation(0.0)
    canvas.setZoomLevel(1.0)
    live.show(MaskValues(0.5))
    yield 0.3
    # The view moves while the mask is shown: nobody asks for it to be drawn again.
    canvas.setZoomLevel(2.0)
    yield 0.5
    stage.grab(f"{folder}/followed-masked.png", view.widget)
    live.hide()
    yield 0.1
    stage.grab(f"{folder}/followed-bare.png", view.widget)
    live.show(MaskValues(0.5))
    yield 0.1
    reported = {
        "modified": document.modified(),
        "undo": stage.app.action("edit_undo").text(),
        "nodes": len(document.topLevelNodes()) + len(layer.childNodes()),
        "selection": document.selection() is None,
        "pixels": bytes(layer.pixelData(0, 0, 400, 300)) == pixels,
    }
    live.hide()
    return reported


def load(path: Path) -> NDArray[np.int16]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), np.int16)


def check(folder: Path, name: str, off: int) -> None:
    """The pixels that the mask changed are those of the block; each became redder and less blue."""
    bare, masked = load(folder / f"{name}-bare.png"), load(folder / f"{name}-masked.png")
    block = (bare[..., 2] > 200) & (bare[..., 0] < 128)
    red = np.abs(masked - bare).max(2) > 60
    assert block.sum() > 1000, name
    if off == 0:
        assert np.array_equal(red, block), (name, int((red ^ block).sum()))
    else:
        assert not (red & ~thick(block, off)).any(), name
        assert not (block & ~thick(red, off)).any(), name
    assert (masked[..., 0] - bare[..., 0])[red & block].min() > 60, name
    assert (bare[..., 2] - masked[..., 2])[red & block].min() > 60, name


def thick(mask: NDArray[np.bool_], px: int) -> NDArray[np.bool_]:
    """`mask` with a margin of `px` on every side."""
    for _ in range(px):
        padded = np.pad(mask, 1)
        mask = np.any(
            [
                padded[1 + y : padded.shape[0] - 1 + y, 1 + x : padded.shape[1] - 1 + x]
                for y in (-1, 0, 1)
                for x in (-1, 0, 1)
            ],
            axis=0,
        )
    return mask


def test_the_overlay_lies_on_the_picture_to_the_pixel_and_leaves_the_document_alone(
    krita: RemoteKrita, tmp_path: Path
) -> None:
    reported = krita.run(photographed, folder=tmp_path, views=VIEWS)
    for i, (*_, off) in enumerate(VIEWS):
        check(tmp_path, str(i), off)
    check(tmp_path, "followed", 0)
    assert reported == {"modified": False, "undo": "Undo ", "nodes": 1, "selection": True, "pixels": True}


def canvas_kind(stage):
    """The class of the canvas, and how many px of the screen one of its own has."""
    from diffedit.canvas.canvas_view import CanvasView

    document = yield from stage.new(40, 30)
    canvas = CanvasView(document).widget
    return canvas.metaObject().className(), canvas.devicePixelRatioF()


@pytest.mark.parametrize(
    ("look", "kind"),
    [(Look(opengl=True), ["KisOpenGLCanvas2", 1.0]), (Look(scale=2), ["KisQPainterCanvas", 2.0])],
    ids=["a canvas drawn by OpenGL", "a screen of high resolution"],
)
def test_the_overlay_lies_on_the_picture_on(look: Look, kind: list, tmp_path: Path) -> None:
    scale = look.scale
    # At scale 2 Krita blends the outermost px of a picture with what is beside it, and all along the edges of one that
    # is turned by 30 degrees, where the colours tell nothing any more.
    views = VIEWS if scale == 1 else VIEWS[:-1]
    with (
        Xvfb(1800, 1200) as display,  # at scale 2 the dockers take most of a smaller one
        RemoteKrita(fresh_profile(tmp_path / "profile", display), display, [(None, PLUGIN)], look=look) as krita,
    ):
        assert krita.run(canvas_kind) == kind
        krita.run(photographed, folder=tmp_path, views=views)
    for i, (*_, off) in enumerate(views):
        check(tmp_path, str(i), off if scale == 1 else max(1, scale * off))
    check(tmp_path, "followed", scale - 1)


def left_by(stage, way, folder):
    """Shows an overlay through the plugin's opened, and leaves it in one of the ways that an artist has."""
    from types import SimpleNamespace

    from diffedit.canvas.canvas_view import CanvasView
    from diffedit.canvas.capture import capture_steps
    from diffedit.extension import extension
    from diffedit.qt import sip
    from diffedit_driver.qt import QApplication, QEvent, QKeyEvent, Qt

    app = extension().app
    app.store.change(mask_form="overlay")
    document = yield from stage.new(200, 150)
    layer = document.activeNode()
    layer.setPixelData(b"\xff" * 120000, 0, 0, 200, 150)
    other = document.createNode("other", "paintlayer")
    yield from stage.add(other)
    yield from stage.refresh()
    yield 0.2
    document.setActiveNode(layer)
    yield lambda: document.activeNode().name() == layer.name()
    app.look()
    session = app.session
    capture = yield from stage.run(capture_steps(document, layer))
    result = SimpleNamespace(soft_map=b"\xc8" * 30000, manifest=SimpleNamespace(threshold=0.5, ground=False))
    app.masks.take(SimpleNamespace(session=session, capture=capture), result)
    yield lambda: session.mask_shown
    yield 0.5  # longer than the opened waits between two looks: it stays while nothing changes
    canvas = CanvasView(document).widget
    name = "diffedit_mask_overlay"
    drawn = [w for w in canvas.children() if w.objectName() == name]
    if not (session.mask_shown and len(drawn) == 1 and drawn[0].isVisible()):
        return "it was not shown"
    if way == "esc":
        QApplication.sendEvent(
            canvas, QKeyEvent(QEvent.Type.ShortcutOverride, Qt.Key.Key_Escape, Qt.KeyboardModifier.NoModifier)
        )
    elif way == "hide":
        app.cancel()
    elif way == "another layer":
        document.setActiveNode(other)
    elif way == "layer deleted":
        layer.remove()
    elif way == "another document":
        yield from stage.new(60, 40)
    elif way == "keep":
        app.masks.keep(session)
    elif way == "picture closed":
        yield 0.3  # see Stage.close_all
        document.waitForDone()
        document.setModified(False)
        stage.app.action("file_close").trigger()
        yield 0.5  # longer than between two looks: what was closed is looked at no more
    yield lambda: not session.mask_shown and sip.isdeleted(drawn[0])
    if way == "keep":  # the layer's mask that comes in its place is in use now: it is drawn by another overlay
        yield lambda: session.mask_in_use != "" and any(w.objectName() == name for w in canvas.children())
        app.leave_mask()
    yield lambda: sip.isdeleted(canvas) or not any(w.objectName() == name for w in canvas.children())
    yield 0.5  # it stays away
    return [] if sip.isdeleted(canvas) else [w.objectName() for w in canvas.children() if w.objectName() == name]


@pytest.mark.parametrize(
    "way", ["esc", "hide", "another layer", "layer deleted", "another document", "keep", "picture closed"]
)
def test_the_overlay_goes_with(krita: RemoteKrita, way: str, tmp_path: Path) -> None:
    assert krita.run(left_by, way=way, folder=tmp_path) == []


def watched(stage, kind):
    """Captures a layer of that kind and looks whether it changed: untouched, moved, painted on, and as it was again."""
    from diffedit.canvas.capture import capture_steps
    from diffedit.canvas.fingerprint import ChangeWatch
    from diffedit.canvas.layers import drift

    half = ("RGBA", "F16", "sRGB-elle-V2-g10.icc")
    document = yield from stage.new(300, 200, *(half if kind == "half float" else ()))
    painted = layer = document.activeNode()
    if kind == "group":
        layer = document.createGroupLayer("Group")
        yield from stage.add(layer)
        for name, opacity in (("lower", 255), ("upper", 90)):
            painted = document.createNode(name, "paintlayer")
            painted.setOpacity(opacity)
            painted.setBlendingMode("multiply" if name == "upper" else "normal")
            yield from stage.add(painted, layer)
            painted.setPixelData(bytes(range(1, 241)) * 1000, 0, 0, 300, 200)
    if kind == "paint layer":
        painted.setPixelData(bytes(range(240)) * 1000, 0, 0, 300, 200)
    if kind == "half float":
        painted.setPixelData(b"\x00\x34\x00\x38\x00\x30\x00\x3c" * 60000, 0, 0, 300, 200)
    yield from stage.refresh()
    captured = yield from stage.run(capture_steps(document, layer))
    watch = ChangeWatch(captured.fingerprint)

    def looks():
        return [watch.look(layer, *drift(captured.layer_ref, layer), 1 << 20) for _ in range(4)][-1]

    reported = [looks()]
    if kind != "group":  # a group stays where it is, its layers move
        layer.move(7, 3)
    yield from stage.settle()
    reported.append(looks())
    if kind != "group":
        layer.move(0, 0)
    before = bytes(painted.pixelData(20, 30, 5, 5))
    painted.setPixelData(bytes(reversed(before)), 20, 30, 5, 5)
    yield from stage.refresh()
    reported.append(looks())
    painted.setPixelData(before, 20, 30, 5, 5)
    yield from stage.refresh()
    reported.append(looks())
    return reported


@pytest.mark.parametrize("kind", ["paint layer", "half float", "group"])
def test_a_layer_counts_as_changed_when_it_was_painted_on_and_only_then(krita: RemoteKrita, kind: str) -> None:
    assert krita.run(watched, kind=kind) == [False, False, True, False]


def over(stage, colours):
    """A mask over half of a picture, drawn over one colour (B, G, R) and beside another; what is on the screen."""
    from types import SimpleNamespace

    from diffedit.canvas.canvas_view import CanvasView
    from diffedit.canvas.capture import capture_steps
    from diffedit.extension import extension
    from diffedit_driver.qt import QPoint

    app = extension().app
    app.store.change(mask_form="overlay")
    document = yield from stage.new(200, 150)
    inside, outside = (bytes([*colour, 255]) for colour in colours)
    document.activeNode().setPixelData((inside * 100 + outside * 100) * 150, 0, 0, 200, 150)
    yield from stage.refresh()
    app.look()
    capture = yield from stage.run(capture_steps(document, document.activeNode()))
    result = SimpleNamespace(
        soft_map=(b"\xc8" * 100 + b"\x00" * 100) * 150, manifest=SimpleNamespace(threshold=0.5, ground=False)
    )
    app.session.change_inputs(grow=0, feather=0)
    app.masks.take(SimpleNamespace(session=app.session, capture=capture), result)
    yield lambda: app.session.mask_shown
    yield 0.5
    view = CanvasView(document)
    places = [view.image_to_widget().map(QPoint(x, 75)) for x in (50, 150)]
    seen = stage.window().grab().toImage()
    at = [view.widget.mapTo(stage.window(), place) for place in places]
    return [[colour.red(), colour.green(), colour.blue()] for colour in (seen.pixelColor(place) for place in at)]


@pytest.mark.parametrize(
    ("under", "beside", "red"), [((60, 140, 90), (40, 30, 210), True), ((40, 30, 210), (60, 140, 90), False)]
)
def test_the_mask_is_red_unless_the_picture_under_it_is_red(
    krita: RemoteKrita, under: tuple[int, int, int], beside: tuple[int, int, int], red: bool
) -> None:
    inside, outside = krita.run(over, colours=[under, beside])
    assert np.abs(np.subtract(outside[::-1], beside)).max() <= 2
    assert np.abs(np.subtract(inside[::-1], under)).sum() > 150
    assert (inside[0] > inside[2]) == red
