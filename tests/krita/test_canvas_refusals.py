"""What cannot be worked with is refused with a sentence, and nothing is changed or lost."""

from __future__ import annotations

import pytest
from diffedit_krita_driver.remote import RemoteKrita


def refused(stage, case):
    """Sets `case` up, tries to capture; -> the refusal's code and sentence."""
    from diffedit.canvas.capture import capture_steps
    from diffedit.canvas.layers import active_node
    from diffedit.model.steps import CanvasRefusal
    from krita import InfoObject, Selection

    if case != "no document":
        document = yield from stage.new(32, 32)
        layer = document.createNode("Sky", "paintlayer")
        yield from stage.add(layer)
        layer.setPixelData(bytes([9, 9, 9, 255]) * (10 * 10), 0, 0, 10, 10)
    if case == "locked":
        layer.setLocked(True)
    if case == "hidden":
        layer.setVisible(False)
    if case == "empty":
        empty = document.createNode("Layer 2", "paintlayer")
        yield from stage.add(empty)
    if case == "transparent":
        empty = document.createNode("Layer 2", "paintlayer")
        empty.setPixelData(bytes([9, 9, 9, 0]) * 100, 0, 0, 10, 10)
        yield from stage.add(empty)
    if case == "outside the canvas":
        empty = document.createNode("Layer 2", "paintlayer")
        empty.setPixelData(bytes([9, 9, 9, 255]) * 100, 50, 50, 10, 10)
        yield from stage.add(empty)
    if case in ("locked group", "hidden group", "pass-through group"):
        group = document.createGroupLayer("Group 3")
        yield from stage.add(group)
        inner = document.createNode("inner", "paintlayer")
        inner.setPixelData(bytes([9, 9, 9, 255]) * 100, 0, 0, 10, 10)
        yield from stage.add(inner, group)
        group.setLocked(case == "locked group")
        group.setVisible(case != "hidden group")
        group.setPassThroughMode(case == "pass-through group")
        yield from stage.refresh()
        document.setActiveNode(group if case == "pass-through group" else inner)
    if case == "filter layer":
        selection = Selection()
        selection.select(0, 0, 32, 32, 255)
        blur = stage.app.filter("blur")
        yield from stage.add(document.createFilterLayer("Blur 1", blur, selection))
    if case == "fill layer":
        selection = Selection()
        selection.select(0, 0, 32, 32, 255)
        yield from stage.add(document.createFillLayer("Fill 1", "color", InfoObject(), selection))
    if case == "nothing selected":
        selection = Selection()
        selection.select(20, 20, 5, 5, 255)
        document.setSelection(selection)
    if case != "no document":
        yield from stage.settle()
        yield 0.1
        names = {"filter layer": "Blur 1", "fill layer": "Fill 1"}
        wanted = names.get(case) or ("Layer 2" if document.nodeByName("Layer 2") else None)
        if wanted:
            document.setActiveNode(document.nodeByName(wanted))
            yield lambda: document.activeNode().name() == wanted
    try:
        yield from stage.run(capture_steps(*active_node()))
    except CanvasRefusal as refusal:
        return [refusal.code, refusal.sentence]
    return ["none", ""]


CASES = {
    "no document": ("NO_DOCUMENT", "Open a picture first."),
    "locked": ("LOCKED", "'Sky' is locked. Unlock it, or choose another layer."),
    "hidden": ("HIDDEN", "'Sky' is hidden. Show it, or choose another layer."),
    "empty": ("EMPTY", "'Layer 2' is empty. Choose another layer."),
    "transparent": ("EMPTY", "'Layer 2' is empty. Choose another layer."),
    "outside the canvas": ("EMPTY", "'Layer 2' is empty. Choose another layer."),
    "locked group": ("LOCKED", "'Group 3' is locked. Unlock it, or choose another layer."),
    "hidden group": ("HIDDEN", "'Group 3' is hidden. Show it, or choose another layer."),
    "pass-through group": ("LAYER_KIND", "'Group 3' is a pass-through group. Choose one of its layers."),
    "filter layer": ("LAYER_KIND", "Choose a paint layer: 'Blur 1' is a filter layer."),
    "fill layer": ("LAYER_KIND", "Choose a paint layer: 'Fill 1' is a fill layer."),
    "nothing selected": (
        "NOTHING_SELECTED",
        "'Sky' is empty inside the selection. Choose another layer, or deselect.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_worked_with_is_refused_with_a_sentence(krita: RemoteKrita, case: str) -> None:
    assert tuple(krita.run(refused, case=case)) == CASES[case]


@pytest.mark.parametrize("gone", ["document", "layer", "layer while it is applied"])
def test_a_document_or_layer_that_is_gone_when_the_result_comes_is_reported(krita: RemoteKrita, gone: str) -> None:
    def late(stage, gone):
        from diffedit.canvas.apply import apply_steps
        from diffedit.canvas.capture import capture_steps
        from diffedit.model.ports import Addition
        from diffedit.model.steps import CanvasRefusal

        other = yield from stage.new(16, 16, name="other")
        document = yield from stage.new(300, 300, name="sketch")
        layer = document.activeNode()
        layer.setName("Sky")
        layer.setPixelData(bytes([9, 9, 9, 255]) * (300 * 300), 0, 0, 300, 300)
        spare = document.createNode("spare", "paintlayer")
        yield from stage.add(spare)
        yield from stage.refresh()
        captured = yield from stage.run(capture_steps(document, layer))
        area = captured.area
        addition = Addition("result", area, b"\x01\x02\x03\xff" * area.pixels, b"\xff" * area.pixels, area)
        steps = apply_steps(captured.layer_ref, addition)
        if gone == "document":
            document.setModified(False)
            document.close()
            yield 0.2
        else:
            if gone != "layer":
                next(steps)
            layer.remove()
            document.waitForDone()
            yield 0.1
        try:
            yield from stage.run(steps)
        except CanvasRefusal as refusal:
            untouched = [node.name() for node in other.topLevelNodes()]
            rest = [] if gone == "document" else [node.name() for node in document.topLevelNodes()]
            return [refusal.code, refusal.sentence, untouched, rest]
        return ["none"]

    code, sentence, untouched, rest = krita.run(late, gone=gone)
    if gone == "document":
        assert (code, sentence) == ("DOCUMENT_GONE", "'sketch' was closed; the result is kept in History.")
    else:
        assert (code, sentence) == ("LAYER_GONE", "'Sky' was deleted; the result is kept in History.")
        assert rest == ["spare"]
    assert len(untouched) == 1


def test_a_result_for_a_document_in_the_background_goes_there(krita: RemoteKrita) -> None:
    def background(stage):
        from diffedit.canvas.apply import apply_steps
        from diffedit.canvas.capture import capture_steps
        from diffedit.model.ports import Addition

        document = yield from stage.new(40, 30, name="sketch")
        layer = document.activeNode()
        layer.setPixelData(bytes([9, 9, 9, 255]) * (40 * 30), 0, 0, 40, 30)
        yield from stage.refresh()
        captured = yield from stage.run(capture_steps(document, layer))
        other = yield from stage.new(16, 16, name="other")
        area = captured.area
        addition = Addition("result", area, b"\x01\x02\x03\xff" * area.pixels, b"\xff" * area.pixels, area)
        yield from stage.run(apply_steps(captured.layer_ref, addition))
        yield from stage.settle(document)
        names = [[node.name() for node in d.topLevelNodes()] for d in (document, other)]
        return names[0][-1], len(names[0]), len(names[1])

    assert krita.run(background) == ["result", 2, 1]


def test_a_history_that_is_too_large_leaves_the_one_before(krita: RemoteKrita, tmp_path) -> None:
    def history(stage, path):
        from diffedit.canvas.documents import HISTORY_LIMIT, read_history, write_history
        from diffedit.model.steps import CanvasRefusal

        document = yield from stage.new(16, 16)
        none = read_history(document) == b""
        write_history(document, b"first \x00\xff")
        try:
            write_history(document, bytes(HISTORY_LIMIT + 1))
        except CanvasRefusal as refusal:
            sentence = refusal.sentence
        stage.save(path)
        document.setModified(False)
        document.close()
        yield 0.1
        again = yield from stage.open(path)
        return none, sentence, read_history(again) == b"first \x00\xff"

    none, sentence, kept = krita.run(history, path=tmp_path / "history.kra")
    assert none
    assert kept
    assert sentence == "The history is too large to be kept in the file: 257 KiB, at most 256 KiB."
