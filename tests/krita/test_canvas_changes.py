"""What happens to a picture while an edit is under way, and after: copied, turned, flattened, undone, saved."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffedit_krita_driver.kra import Kra
from diffedit_krita_driver.remote import RemoteKrita

ELLE = "sRGB-elle-V2-srgbtrc.icc"


def late_result(stage, change, kind):
    """Captures, lets `change` happen to the picture, adds the result; -> what was refused and the layers then."""
    from diffedit.canvas import documents
    from diffedit.canvas.apply import apply_steps
    from diffedit.canvas.capture import capture_steps
    from diffedit.model.ports import Addition
    from diffedit.model.steps import CanvasRefusal
    from diffedit_protocol.messages import Bounds

    document = yield from stage.new(120, 80)
    layer = document.activeNode()
    layer.setPixelData(bytes(v for y in range(80) for x in range(120) for v in (2 * x, 3 * y, 90, 255)), 0, 0, 120, 80)
    yield from stage.refresh()
    captured = yield from stage.run(capture_steps(document, layer, kind=kind))
    known = documents.id_of(document)
    front = document
    if change == "copied":
        stage.app.action("create_copy").trigger()
        yield lambda: len(stage.app.documents()) == 2
        front = next(other for other in stage.app.documents() if other != document)
    elif change == "scaled":
        document.scaleImage(240, 160, 72, 72, "Bicubic")
    elif change == "turned":
        document.rotateImage(90 * 3.141592653589793 / 180)
    elif change in ("mirrorImageHorizontal", "mirrorImageVertical"):
        stage.app.action(change).trigger()
    elif change == "flattened":
        above = document.createNode("above", "paintlayer")
        document.rootNode().addChildNode(above, None)
        document.waitForDone()
        document.flatten()
    elif change == "painted on":
        layer.setPixelData(bytes([0, 0, 0, 255]) * 1600, 20, 20, 40, 40)
        document.refreshProjection()
    document.waitForDone()
    yield 0.3
    area = Bounds(4, 4, 20, 20)
    addition = Addition("result", area, bytes([50, 50, 50, 255]) * 400, b"\xff" * 400, area)
    code = ""
    try:
        yield from stage.run(apply_steps(captured.layer_ref, addition))
    except CanvasRefusal as refusal:
        code = refusal.code
    yield from stage.settle()
    names = [[node.name() for node in d.topLevelNodes()] for d in (document, front)]
    return {
        "code": code,
        "added to the original": "result" in names[0],
        "added to the copy": front != document and "result" in names[1],
        "same id": documents.id_of(document) == known,
        "ids differ": documents.id_of(document) != documents.id_of(front),
    }


def test_an_edit_in_a_copy_of_a_picture_does_not_land_in_the_original(krita: RemoteKrita) -> None:
    def copy(stage):
        from diffedit.canvas import documents
        from diffedit.canvas.apply import apply_steps
        from diffedit.canvas.capture import capture_steps
        from diffedit.extension import extension
        from diffedit.model.ports import Addition

        document = yield from stage.new(40, 30)
        document.activeNode().setPixelData(bytes([9, 9, 9, 255]) * 1200, 0, 0, 40, 30)
        yield from stage.refresh()
        app = extension().app
        app.look()
        first = app.session
        stage.app.action("create_copy").trigger()
        yield lambda: len(stage.app.documents()) == 2
        twin = next(other for other in stage.app.documents() if other != document)
        stage.app.setActiveDocument(twin)
        yield lambda: stage.document == twin
        app.look()
        captured = yield from stage.run(capture_steps(twin, twin.topLevelNodes()[0], kind="visible"))
        area = captured.area
        addition = Addition("result", area, bytes([50, 50, 50, 255]) * area.pixels, b"\xff" * area.pixels, area)
        yield from stage.run(apply_steps(captured.layer_ref, addition))
        yield from stage.settle()
        same_root = document.rootNode().uniqueId() == twin.rootNode().uniqueId()
        names = [[node.name() for node in d.topLevelNodes()] for d in (document, twin)]
        ids = [documents.id_of(d) for d in (document, twin)]
        return same_root, app.session is not first, ["result" in n for n in names], ids[0] != ids[1]

    assert krita.run(copy) == [True, True, [False, True], True]


@pytest.mark.parametrize("kind", ["visible", "layer"])
@pytest.mark.parametrize("change", ["scaled", "turned", "mirrorImageHorizontal", "mirrorImageVertical"])
def test_a_result_that_would_lie_wrong_is_not_added_and_it_is_said_why(
    krita: RemoteKrita, change: str, kind: str
) -> None:
    reported = krita.run(late_result, change=change, kind=kind)
    assert (reported["code"], reported["added to the original"]) == ("GEOMETRY", False)


@pytest.mark.parametrize("kind", ["visible", "layer"])
def test_a_result_is_added_to_a_picture_that_was_painted_on_meanwhile(krita: RemoteKrita, kind: str) -> None:
    reported = krita.run(late_result, change="painted on", kind=kind)
    assert (reported["code"], reported["added to the original"]) == ("", True)


def test_a_flattened_picture_is_the_same_document_and_takes_the_result(krita: RemoteKrita) -> None:
    reported = krita.run(late_result, change="flattened", kind="visible")
    assert reported["same id"]
    assert (reported["code"], reported["added to the original"]) == ("", True)


TEXTS = ["a horse\x02 ￾￿\nwith\ta\ud800 saddle", "ein sehr langer Text " * 20, "🐎" * 100]


@pytest.mark.parametrize("text", TEXTS, ids=["control characters", "long", "emoji"])
def test_a_file_whose_layers_are_named_by_any_text_opens_again(krita: RemoteKrita, tmp_path: Path, text: str) -> None:
    def named(stage, codes, folder):
        from pathlib import Path

        from diffedit.canvas.apply import apply_steps, keep_mask_steps
        from diffedit.canvas.capture import capture_steps
        from diffedit.model.inputs import EditInputs
        from diffedit.model.ports import Addition
        from diffedit.model.texts import layer_name

        inputs = EditInputs(source="a zebra", target="".join(map(chr, codes)))
        name = layer_name(inputs.source, inputs.target, 2**32 - 2)
        document = yield from stage.new(40, 30)
        layer = document.activeNode()
        layer.setPixelData(bytes([9, 9, 9, 255]) * 1200, 0, 0, 40, 30)
        yield from stage.refresh()
        captured = yield from stage.run(capture_steps(document, layer))
        addition = Addition(name, captured.area, b"\x20\x20\x20\xff" * 1200, b"\xff" * 1200, captured.area)
        yield from stage.run(apply_steps(captured.layer_ref, addition))
        yield from stage.run(keep_mask_steps(captured.layer_ref, name[:50], b"\xff" * 1200, captured.area))
        out = []
        for ending in ("kra", "psd"):
            stage.save(Path(folder) / f"named.{ending}")
            yield 0.3
        yield from stage.close_all()
        for ending in ("kra", "psd"):
            again = yield from stage.open(Path(folder) / f"named.{ending}")
            out.append([node.name() for node in again.topLevelNodes()][-1])
            yield from stage.close_all()
        return [ord(c) for c in name], [[ord(c) for c in n] for n in out]

    name, (kra, psd) = krita.run(named, codes=[ord(c) for c in text], folder=tmp_path)
    assert kra == psd == name
    assert len(name) <= 60
    assert len("".join(map(chr, name)).encode()) <= 255
    assert any(node.name == "".join(map(chr, name)) for node in Kra(tmp_path / "named.kra").nodes())


def shown_results(stage, case):
    """Two results are offered; the first is shown; `case` happens; -> the states as the docker shows them."""
    from diffedit.extension import extension
    from diffedit.model.inputs import EditInputs
    from diffedit.model.variations import Variation
    from diffedit.qt import QtGui
    from diffedit_protocol.messages import Bounds

    document = yield from stage.new(60, 40)
    document.activeNode().setPixelData(bytes([9, 9, 9, 255]) * 2400, 0, 0, 60, 40)
    yield from stage.refresh()
    app = extension().app
    app.look()
    session, area = app.session, Bounds(4, 4, 20, 20)
    ref = app.canvas.active_layer("visible")
    inputs = EditInputs(source="a red apple", target="a red pear")
    image = QtGui.QImage(8, 8, QtGui.QImage.Format.Format_RGB32)
    offered = tuple(
        Variation(ref, area, bytes([grey, grey, grey, 255]) * 400, b"\xff" * 400, inputs, grey, image)
        for grey in (50, 100)
    )
    session.offer(offered, 0)
    app.results.show(session, 0)
    yield lambda: session.variations[0].state == "shown" and session.activity is None
    states = [[v.state for v in session.variations]]

    def note():
        states.append([v.state for v in session.variations])

    if case == "undo":
        app.results.accept(session)
        note()
        yield from stage.undo()
        yield lambda: session.variations[0].state == "waiting"
        note()
        yield from stage.redo()
        yield lambda: session.variations[0].state == "added"
        note()
        yield from stage.undo()
        yield lambda: session.variations[0].state == "waiting"
        app.results.accept(session)
        yield lambda: session.variations[0].state == "added" and session.activity is None
        note()
    else:
        result = document.topLevelNodes()[-1]
        if case == "stroke":
            result.setPixelData(bytes([1, 2, 3, 255]) * 9, 6, 6, 3, 3)
            document.refreshProjection()
            document.waitForDone()
        app.results.show(session, 1)
        yield lambda: session.variations[1].state == "shown" and session.activity is None
        note()
    nodes = document.topLevelNodes()
    sentence = "" if session.notice is None else session.notice.sentence
    return states, [node.name() for node in nodes], [list(bytes(n.pixelData(7, 7, 1, 1)))[:3] for n in nodes], sentence


def test_what_an_undo_took_away_waits_again_and_a_redo_brings_it_back(krita: RemoteKrita) -> None:
    states, names, _, _ = krita.run(shown_results, case="undo")
    assert [first for first, _ in states] == ["shown", "added", "waiting", "added", "added"]
    assert names[1:] == ["apple → pear (50)"]


def saved_result(stage, path):
    """A result is shown, the picture saved, closed and opened again; -> states and layers then"""
    from diffedit.extension import extension
    from diffedit.model.inputs import EditInputs
    from diffedit.model.variations import Variation
    from diffedit.qt import QtGui
    from diffedit_protocol.messages import Bounds

    document = yield from stage.new(60, 40)
    document.activeNode().setPixelData(bytes([9, 9, 9, 255]) * 2400, 0, 0, 60, 40)
    yield from stage.refresh()
    stage.save(path)
    app = extension().app
    app.look()
    app._look_for_changes()  # the document has a file now
    area, inputs = Bounds(4, 4, 20, 20), EditInputs(source="a red apple", target="a red pear")
    ref = app.canvas.active_layer("visible")
    image = QtGui.QImage(8, 8, QtGui.QImage.Format.Format_RGB32)
    offered = tuple(
        Variation(ref, area, bytes([grey, grey, grey, 255]) * 400, b"\xff" * 400, inputs, grey, image, job="1")
        for grey in (50, 100)
    )
    app.session.offer(offered, 0)
    app.results.show(app.session, 0)
    session = app.session
    yield lambda: session.variations[0].state == "shown" and session.activity is None
    document.save()
    document.waitForDone()
    yield from stage.close_all()
    app.forget_closed()
    again = yield from stage.open(path)
    app.look()
    return [v.state for v in app.session.variations], [node.name() for node in again.topLevelNodes()]


def test_a_result_that_was_saved_with_its_picture_is_a_part_of_it_when_that_is_opened_again(
    krita: RemoteKrita, tmp_path: Path
) -> None:
    states, names = krita.run(saved_result, path=tmp_path / "apple.kra")
    assert states == ["added", "waiting"]
    assert names[1:] == ["apple → pear (50)"]


def test_another_result_takes_the_place_of_the_one_that_is_shown(krita: RemoteKrita) -> None:
    states, names, pixels, _ = krita.run(shown_results, case="next")
    assert states[-1] == ["waiting", "shown"]
    assert (names[1:], pixels[1:]) == (["apple → pear (100)"], [[100] * 3])


def test_a_result_that_was_painted_on_stays_when_another_is_shown(krita: RemoteKrita) -> None:
    states, names, pixels, sentence = krita.run(shown_results, case="stroke")
    assert states[-1] == ["added", "shown"]
    assert names[1:] == ["apple → pear (50)", "apple → pear (100)"]
    assert pixels[1:] == [[1, 2, 3], [100] * 3]
    assert "was painted on" in sentence


def test_while_a_tool_is_in_use_it_is_said_and_cancel_keeps_the_result(krita: RemoteKrita) -> None:
    def busy(stage):
        from diffedit.canvas.layers import is_busy
        from diffedit.extension import DOCKER_ID, extension
        from diffedit.model.inputs import EditInputs
        from diffedit.model.variations import Variation
        from diffedit.qt import QtGui, QtWidgets
        from diffedit_protocol.messages import Bounds

        document = yield from stage.new(60, 40)
        document.activeNode().setPixelData(bytes([9, 9, 9, 255]) * 2400, 0, 0, 60, 40)
        yield from stage.refresh()
        app = extension().app
        app.look()
        session, area = app.session, Bounds(4, 4, 20, 20)
        ref = app.canvas.active_layer("visible")
        image = QtGui.QImage(8, 8, QtGui.QImage.Format.Format_RGB32)
        inputs = EditInputs(source="a", target="b")
        session.offer((Variation(ref, area, bytes([5, 5, 5, 255]) * 400, b"\xff" * 400, inputs, 5, image),), 0)
        stage.app.action("KisToolTransform").trigger()
        try:
            yield lambda: is_busy(document)
            app.results.accept(session)
            yield lambda: session.activity is not None and session.activity.waits
            title = session.activity.title
            panel = stage.window().findChild(QtWidgets.QDockWidget, DOCKER_ID).panel
            enabled = panel.run.cancel.isEnabled()
            app.cancel()
            yield lambda: session.activity is None
        finally:
            stage.app.action("KritaShape/KisToolBrush").trigger()
        yield lambda: not is_busy(document)
        return title, enabled, [v.state for v in session.variations], len(document.topLevelNodes())

    title, enabled, states, layers = krita.run(busy)
    assert "finish or cancel the active tool" in title
    assert enabled
    assert (states, layers) == (["waiting"], 1)


def test_a_kept_mask_is_active_and_drawn_in_red_and_said_to_be_used(krita: RemoteKrita) -> None:
    def kept(stage):
        from diffedit.canvas.apply import keep_mask_steps
        from diffedit.canvas.capture import capture_steps
        from diffedit.extension import DOCKER_ID, extension
        from diffedit.qt import QtWidgets

        document = yield from stage.new(60, 40)
        layer = document.activeNode()
        layer.setPixelData(bytes([9, 9, 9, 255]) * 2400, 0, 0, 60, 40)
        yield from stage.refresh()
        app = extension().app
        app.look()
        captured = yield from stage.run(capture_steps(document, layer))
        plane = bytes(255 if x < 30 else 0 for _ in range(40) for x in range(60))
        mask_id = yield from stage.run(keep_mask_steps(captured.layer_ref, "mine", plane, captured.area))
        yield from stage.settle()
        active = document.activeNode().uniqueId().toString() == mask_id
        yield lambda: app.session.mask_in_use == "mine"

        def overlays():
            found = stage.window().findChildren(QtWidgets.QWidget, "diffedit_mask_overlay")
            return [overlay for overlay in found if overlay.isVisible()]

        yield lambda: len(overlays()) == 1
        again = yield from stage.run(capture_steps(document, document.activeNode(), kind="visible"))
        used = again.mask == plane
        panel = stage.window().findChild(QtWidgets.QDockWidget, DOCKER_ID).panel
        line = panel.mask_in_use.text.text_whole, panel.mask_in_use.isVisibleTo(panel)
        app.leave_mask()
        yield lambda: app.session.mask_in_use == "" and not overlays()
        after = yield from stage.run(capture_steps(document, layer, kind="visible"))
        return active, used, line, after.mask is None

    active, used, (line, shown), left = krita.run(kept)
    assert active
    assert used
    assert (line, shown) == ("Mask: “mine” is used", True)
    assert left


def test_everything_selected_is_a_selection_too(krita: RemoteKrita) -> None:
    def selected(stage, case):
        from diffedit.canvas.capture import capture_steps
        from krita import Selection

        document = yield from stage.new(60, 40)
        layer = document.activeNode()
        side = (60, 40) if case == "all" else (20, 20)
        layer.setPixelData(bytes([9, 9, 9, 255]) * (side[0] * side[1]), 0, 0, *side)
        yield from stage.refresh()
        selection = Selection()
        selection.select(0, 0, 60, 40, 255)
        document.setSelection(selection)
        captured = yield from stage.run(capture_steps(document, layer))
        return captured.all_selected, captured.selection is None

    for case in ("all", "a layer smaller than the selection"):
        assert krita.run(selected, case=case) == [True, True]


def test_the_pictures_own_selection_being_active_is_no_obstacle(krita: RemoteKrita) -> None:
    def active(stage):
        from diffedit.canvas.capture import capture_steps
        from diffedit.canvas.layers import layer_of
        from krita import Selection

        document = yield from stage.new(60, 40)
        layer = document.activeNode()
        layer.setPixelData(bytes([9, 9, 9, 255]) * 2400, 0, 0, 60, 40)
        yield from stage.refresh()
        selection = Selection()
        selection.select(5, 5, 20, 20, 255)
        document.setSelection(selection)
        yield 0.2
        own = next((n for n in document.rootNode().childNodes() if n.type() == "selectionmask"), None)
        captured = yield from stage.run(capture_steps(document, own or layer, kind="layer"))
        return own is not None, layer_of(own or layer).name() == layer.name(), captured.mask is None

    assert krita.run(active) == [True, True, True]


@pytest.mark.parametrize("kind", ["visible", "layer"])
def test_a_result_follows_the_layer_that_was_moved_meanwhile(krita: RemoteKrita, kind: str) -> None:
    def moved(stage, kind):
        from diffedit.canvas.apply import apply_steps
        from diffedit.canvas.capture import capture_steps
        from diffedit.canvas.layers import node_with_id
        from diffedit.model.ports import Addition
        from diffedit_protocol.messages import Bounds

        document = yield from stage.new(60, 40)
        layer = document.createNode("figure", "paintlayer")
        layer.setPixelData(bytes([9, 9, 9, 255]) * 400, 5, 5, 20, 20)
        document.rootNode().addChildNode(layer, None)
        document.setActiveNode(layer)
        yield from stage.refresh()
        captured = yield from stage.run(capture_steps(document, layer, kind=kind))
        area = Bounds(8, 8, 10, 10)
        layer.move(layer.position().x() + 7, layer.position().y() + 3)
        document.refreshProjection()
        document.waitForDone()
        addition = Addition("result", area, bytes([50, 50, 50, 255]) * 100, b"\xff" * 100, area)
        node_id = yield from stage.run(apply_steps(captured.layer_ref, addition))
        bounds = node_with_id(document.rootNode(), node_id).bounds()
        return [bounds.x(), bounds.y(), bounds.width(), bounds.height()]

    assert krita.run(moved, kind=kind) == [15, 11, 10, 10]


def mask_to_selection(stage, depth, profile, before, active):
    """*Mask to Selection*, undone and done again; -> the selections, the pixels and the layers then."""
    from diffedit.extension import extension
    from krita import Selection

    document = yield from stage.new(60, 40, "RGBA", depth, profile)
    layer = document.activeNode()
    size = {"U8": 4, "U16": 8, "F32": 16}[depth]
    own = bytes((7 * i) % 251 for i in range(size * 70 * 40))
    if depth != "F32":
        layer.setPixelData(own, -5, 0, 70, 40)
    yield from stage.refresh()
    if active == "mask":
        mask = document.createSelectionMask("mine")
        some = Selection()
        some.select(0, 0, 5, 5, 255)
        mask.setSelection(some)
        layer.addChildNode(mask, None)
        document.waitForDone()
        yield 0.2
        document.setActiveNode(mask)
        yield from stage.settle()
    if before:
        selection = Selection()
        selection.select(30, 10, 12, 9, 200)
        document.setSelection(selection)
        yield from stage.settle()
    pixels = bytes(layer.pixelData(-5, 0, 70, 40))
    seen = bytes(document.rootNode().projectionPixelData(0, 0, 60, 40))
    canvas = extension().app.canvas
    ref = canvas.active_layer("visible")
    from diffedit_protocol.messages import Bounds

    area = Bounds(10, 5, 30, 20)
    plane = bytes((5 * x + 3 * y) % 256 for y in range(20) for x in range(30))

    def now():
        found = document.selection()
        if found is None:
            return None
        return [found.x(), found.y(), found.width(), found.height(), bytes(found.pixelData(10, 5, 30, 20)).hex()]

    first = now()
    node = document.activeNode().name()
    canvas.select(ref, plane, area)
    yield from stage.settle()
    yield 0.2
    made = now()
    kept = (
        pixels == bytes(layer.pixelData(-5, 0, 70, 40)),
        seen == bytes(document.rootNode().projectionPixelData(0, 0, 60, 40)),
    )
    same_node = document.activeNode().name() == node
    yield from stage.undo()
    yield 0.2
    undone = now()
    yield from stage.redo()
    yield 0.2
    return {
        "first": first,
        "made": made[4] == plane.hex(),
        "kept": kept,
        "undone": undone,
        "again": now() == made,
        "active": same_node,
        "pixels": pixels == bytes(layer.pixelData(-5, 0, 70, 40)),
    }


@pytest.mark.parametrize("active", ["layer", "mask"])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("depth", "profile"), [("U8", ELLE), ("U16", ELLE), ("F32", "sRGB-elle-V2-g10.icc")])
def test_one_undo_brings_back_the_selection_that_mask_to_selection_replaced(
    krita: RemoteKrita, depth: str, profile: str, before: bool, active: str
) -> None:
    told = krita.run(mask_to_selection, depth=depth, profile=profile, before=before, active=active)
    assert told["made"]
    assert (told["first"] is not None) == before
    assert told["undone"] == told["first"]
    assert told["again"]
    assert told["kept"] == [True, True]
    assert (told["active"], told["pixels"]) == (True, True)
