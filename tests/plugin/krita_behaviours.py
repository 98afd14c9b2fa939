"""What Krita does, as far as the plugin builds on it. Every function is run against the stand-in of these tests and
inside a real Krita, so that the stand-in stays honest.

A behaviour is a generator function of a stage (`document = yield from stage.new(width, height)`); it imports what it
needs itself, because it travels into Krita as source text, and fails by an assertion.
"""


def a_sheet_with_keyframes_holds_pixels_of_its_own_in_each_and_so_does_a_duplicate_of_its_layer(stage):
    from diffedit.canvas.frames import sheet_with_keyframes

    document = yield from stage.new(40, 30)
    sheet = sheet_with_keyframes(document, [0, 3, 6])
    layer = sheet.topLevelNodes()[0]
    assert [time for time in range(9) if layer.hasKeyframeAtTime(time)] == [0, 3, 6]
    sheet.setCurrentTime(3)
    sheet.waitForDone()
    layer.setPixelData(bytes([1, 2, 3, 255]), 5, 5, 1, 1)
    twin = layer.duplicate()
    sheet.setModified(False)
    sheet.close()
    assert twin.uniqueId() != layer.uniqueId()
    document.rootNode().addChildNode(twin, None)
    document.waitForDone()
    assert [node.animated() for node in document.topLevelNodes()] == [False, True]
    seen = []
    for time in (0, 3, 5, 6):
        document.setCurrentTime(time)
        document.waitForDone()
        yield 0.1
        seen.append(list(bytes(twin.pixelData(5, 5, 1, 1))))
    assert seen == [[0, 0, 0, 0], [1, 2, 3, 255], [1, 2, 3, 255], [0, 0, 0, 0]]


def a_document_without_a_selection_has_none(stage):
    document = yield from stage.new(40, 30)
    assert document.selection() is None


def a_selection_has_the_bounds_of_what_it_selects_and_is_zero_elsewhere(stage):
    from krita import Selection

    document = yield from stage.new(40, 30)
    selection = Selection()
    selection.setPixelData(bytes([0, 255, 128, 0, 0, 7, 0, 0]), 5, 6, 4, 2)
    document.setSelection(selection)
    got = document.selection()
    assert (got.x(), got.y(), got.width(), got.height()) == (6, 6, 2, 2)
    assert bytes(got.pixelData(4, 5, 5, 4)) == bytes(7) + bytes([255, 128, 0, 0, 0, 7]) + bytes(7)


def a_selection_may_reach_beyond_the_canvas(stage):
    from krita import Selection

    document = yield from stage.new(40, 30)
    selection = Selection()
    selection.select(-10, -5, 20, 10, 255)
    document.setSelection(selection)
    assert (document.selection().x(), document.selection().width()) == (-10, 20)


def a_duplicate_of_a_selection_goes_its_own_way(stage):
    from krita import Selection

    yield from stage.new(40, 30)
    selection = Selection()
    selection.select(0, 0, 4, 4, 255)
    twin = selection.duplicate()
    twin.select(0, 0, 8, 8, 255)
    assert (selection.width(), twin.width()) == (4, 8)


def adding_takes_the_larger_and_intersecting_the_smaller_value(stage):
    from krita import Selection

    yield from stage.new(40, 30)

    def made(values):
        selection = Selection()
        selection.setPixelData(bytes(values), 0, 0, 4, 1)
        return selection

    added, intersected = made([255, 0, 255, 0]), made([255, 255, 200, 0])
    added.add(made([0, 255, 0, 0]))
    intersected.intersect(made([255, 0, 255, 255]))
    assert bytes(added.pixelData(0, 0, 4, 1)) == bytes([255, 255, 255, 0])
    assert bytes(intersected.pixelData(0, 0, 4, 1)) == bytes([255, 0, 200, 0])


def taking_the_selection_away_leaves_none(stage):
    from krita import Selection

    document = yield from stage.new(40, 30)
    selection = Selection()
    selection.select(0, 0, 4, 4, 255)
    document.setSelection(selection)
    document.setSelection(None)
    assert document.selection() is None


def pixels_come_back_as_they_were_set_beyond_the_canvas_too(stage):
    document = yield from stage.new(40, 30)
    layer = document.createNode("layer", "paintlayer")
    document.rootNode().addChildNode(layer, None)
    pixels = bytes(range(1, 1 + 3 * 2 * 4))
    layer.setPixelData(pixels, -1, -1, 3, 2)
    assert bytes(layer.pixelData(-1, -1, 3, 2)) == pixels
    bounds = layer.bounds()
    assert (bounds.x(), bounds.y(), bounds.width(), bounds.height()) == (-1, -1, 3, 2)


def an_empty_layer_has_an_empty_rectangle(stage):
    document = yield from stage.new(40, 30)
    layer = document.createNode("layer", "paintlayer")
    assert layer.bounds().width() <= 0 or layer.bounds().height() <= 0


def a_moved_layer_keeps_its_pixels_in_coordinates_of_the_image(stage):
    document = yield from stage.new(40, 30)
    layer = document.createNode("layer", "paintlayer")
    document.rootNode().addChildNode(layer, None)
    layer.setPixelData(bytes([1, 2, 3, 255]), 4, 4, 1, 1)
    before = layer.position()
    layer.move(before.x() + 5, before.y() + 2)
    assert (layer.position().x() - before.x(), layer.position().y() - before.y()) == (5, 2)
    assert bytes(layer.pixelData(9, 6, 1, 1)) == bytes([1, 2, 3, 255])


def a_node_belongs_nowhere_until_it_is_added_above_another(stage):
    document = yield from stage.new(40, 30)
    bottom = document.topLevelNodes()[0]
    top = document.createNode("top", "paintlayer")
    document.rootNode().addChildNode(top, None)
    middle = document.createNode("middle", "paintlayer")
    assert middle.parentNode() is None
    assert document.rootNode().addChildNode(middle, bottom)
    assert [node.name() for node in document.topLevelNodes()] == [bottom.name(), "middle", "top"]


def adding_a_layer_to_a_paint_layer_says_yes_and_does_nothing(stage):
    document = yield from stage.new(40, 30)
    bottom = document.topLevelNodes()[0]
    lost = document.createNode("lost", "paintlayer")
    assert bottom.addChildNode(lost, None)
    document.waitForDone()
    assert lost.parentNode() is None
    assert bottom.childNodes() == []


def a_removed_node_has_no_parent(stage):
    document = yield from stage.new(40, 30)
    layer = document.createNode("layer", "paintlayer")
    document.rootNode().addChildNode(layer, None)
    layer.remove()
    document.waitForDone()
    yield 0.1
    assert "layer" not in [node.name() for node in document.topLevelNodes()]


def a_selection_mask_shows_the_selection_that_it_was_given(stage):
    from krita import Selection

    document = yield from stage.new(40, 30)
    layer = document.topLevelNodes()[0]
    selection = Selection()
    selection.select(3, 4, 5, 6, 200)
    mask = document.createSelectionMask("mask")
    mask.setSelection(selection)
    layer.addChildNode(mask, None)
    (found,) = layer.childNodes()
    assert (found.type(), found.name()) == ("selectionmask", "mask")
    got = found.selection()
    assert (got.x(), got.y(), got.width(), got.height()) == (3, 4, 5, 6)
    assert bytes(got.pixelData(3, 4, 1, 1)) == bytes([200])


def a_clone_has_the_same_ids_and_is_no_document_of_the_artist(stage):
    document = yield from stage.new(40, 30)
    before = len(stage.app.documents())
    copy = document.clone()
    assert copy.rootNode().uniqueId() == document.rootNode().uniqueId()
    assert copy.topLevelNodes()[0].uniqueId() == document.topLevelNodes()[0].uniqueId()
    copy.topLevelNodes()[0].setName("changed")
    assert document.topLevelNodes()[0].name() != "changed"
    copy.setModified(False)
    copy.close()
    assert len(stage.app.documents()) == before


def an_annotation_comes_back_and_a_missing_one_is_empty(stage):
    from diffedit.qt import QtCore

    document = yield from stage.new(40, 30)
    assert bytes(document.annotation("nobody/wrote")) == b""
    document.setAnnotation("some/one", "wrote", QtCore.QByteArray(b"\x00this"))
    assert bytes(document.annotation("some/one")) == b"\x00this"


def a_closed_document_is_not_among_the_documents(stage):
    document = yield from stage.new(40, 30)
    root_id = document.rootNode().uniqueId()
    document.setModified(False)
    document.close()
    yield 0.2
    assert root_id not in [other.rootNode().uniqueId() for other in stage.app.documents()]
