"""Documents and layers of every kind: what is captured, and where and in which colours a result arrives."""

from __future__ import annotations

import pytest
from diffedit_krita_driver.remote import RemoteKrita

ELLE = "sRGB-elle-V2-srgbtrc.icc"
LINEAR = "sRGB-elle-V2-g10.icc"
GREY = "Gray-D50-elle-V2-srgbtrc.icc"
# What 8-bit sRGB noise (grey noise in grey documents) may lose on the way into a document and out again, in 1/255:
# rounding, and the colours that ink cannot show.
KINDS = [
    ("RGBA", "U8", ELLE, 0),
    ("RGBA", "U16", ELLE, 0),
    ("RGBA", "U16", LINEAR, 0),
    ("RGBA", "F16", LINEAR, 0),
    ("RGBA", "F32", LINEAR, 0),
    ("RGBA", "U8", "ClayRGB-elle-V2-g22.icc", 13),
    ("GRAYA", "U8", GREY, 0),
    ("GRAYA", "U16", GREY, 0),
    ("LABA", "U16", "Lab identity built-in", 1),
    ("LABA", "F32", "Lab identity built-in", 1),
    ("CMYKA", "U8", "Chemical proof", 160),
]


def round_trip(stage, model, depth, profile):
    """Adds sRGB noise to a document of this kind, reads the added layer as a capture does; -> what differs."""
    import random

    from diffedit.canvas import colour as colours
    from diffedit.canvas.apply import apply_steps
    from diffedit.canvas.capture import capture_steps, read_plane
    from diffedit.model.ports import Addition

    width, height = 67, 45
    document = yield from stage.new(width, height, model, depth, profile)
    space = [document.colorModel(), document.colorDepth(), document.colorProfile()]
    layer = document.activeNode()
    raw = bytes(layer.pixelData(0, 0, width, height))
    captured = yield from stage.run(capture_steps(document, layer))

    noise = random.Random(5)
    pixels = bytearray()
    for _ in range(width * height):
        grey = noise.randrange(256)
        colour = [grey] * 3 if model == "GRAYA" else [noise.randrange(256) for _ in range(3)]
        pixels += bytes([*colour, 255])
    mask = bytes(noise.randrange(256) for _ in range(width * height))
    addition = Addition("result", captured.area, bytes(pixels), mask, captured.area)
    yield from stage.run(apply_steps(captured.layer_ref, addition))
    yield from stage.settle()
    added = document.nodeByName("result")
    ways, space_of_added = colours._ways, colours.space_of(added)
    ways[space_of_added] = (None, False)  # by Krita: what was written is looked at, not how it is read
    again = yield from stage.run(capture_steps(document, added))
    del ways[space_of_added]
    (mask_node,) = added.childNodes()  # the mask of a result is no mask of the artist's: a capture leaves it out
    added_mask = yield from stage.run(read_plane(mask_node.selection(), captured.area))
    source_kept = bytes(layer.pixelData(0, 0, width, height)) == raw
    opaque = bytes(value for i, value in enumerate(pixels) if i % 4 != 3)
    added_space = [added.colorModel(), added.colorDepth(), added.colorProfile()]
    yield from stage.undo()
    return {
        "space": space,
        "added space": added_space,
        "error": max(abs(a - b) for a, b in zip(opaque, again.pixels, strict=True)),
        "mask": added_mask == mask and again.mask is None,
        "source kept": source_kept,
        "undone": [node.name() for node in document.topLevelNodes()] == [layer.name()],
    }


@pytest.mark.parametrize(("model", "depth", "profile", "tolerance"), KINDS)
def test_a_result_keeps_its_colours_in_every_kind_of_document(
    krita: RemoteKrita, model: str, depth: str, profile: str, tolerance: int
) -> None:
    reported = krita.run(round_trip, model=model, depth=depth, profile=profile)
    assert reported["space"][:2] == [model, depth]
    assert reported["added space"] == reported["space"]
    assert reported["error"] <= tolerance
    assert reported["mask"]
    assert reported["source kept"]
    assert reported["undone"]


def test_a_linear_document_is_captured_as_srgb_not_as_its_numbers(krita: RemoteKrita) -> None:
    def middle_grey(stage, profile):
        import struct

        from diffedit.canvas.capture import capture_steps

        document = yield from stage.new(8, 8, "RGBA", "F32", profile)
        layer = document.activeNode()
        layer.setPixelData(struct.pack("<4f", 0.2140, 0.2140, 0.2140, 1.0) * 64, 0, 0, 8, 8)
        yield from stage.refresh()
        captured = yield from stage.run(capture_steps(document, layer))
        return [captured.channels, list(captured.pixels[:3])]

    # 0.2140 of the light is what sRGB codes as one half: 127.5
    channels, pixel = krita.run(middle_grey, profile=LINEAR)
    assert channels == 3
    assert all(value in (127, 128) for value in pixel)


def test_capture_leaves_no_undo_step_and_no_modified_flag_behind(krita: RemoteKrita) -> None:
    def capture(stage, profile):
        from diffedit.canvas.capture import capture_steps

        document = yield from stage.new(40, 30, "RGBA", "F32", profile)
        layer = document.activeNode()
        layer.setPixelData(b"\x00\x00\x00\x3f" * 4 * 40 * 30, 0, 0, 40, 30)
        yield from stage.refresh()
        document.setModified(False)
        before = [stage.app.action("edit_undo").isEnabled(), len(stage.app.documents())]
        yield from stage.run(capture_steps(document, layer))
        yield from stage.settle()
        return before, [stage.app.action("edit_undo").isEnabled(), len(stage.app.documents())], document.modified()

    before, after, modified = krita.run(capture, profile=LINEAR)
    assert before == after
    assert not modified


def test_a_layer_larger_than_the_canvas_is_captured_and_answered_within_the_canvas(krita: RemoteKrita) -> None:
    def overhanging(stage):
        import os

        from diffedit.canvas.apply import apply_steps
        from diffedit.canvas.capture import capture_steps
        from diffedit.model.ports import Addition

        document = yield from stage.new(60, 40)
        layer = document.activeNode()
        raw = os.urandom(200 * 100 * 4)
        layer.setPixelData(raw, -70, -30, 200, 100)
        yield from stage.refresh()
        captured = yield from stage.run(capture_steps(document, layer))
        area = captured.area
        pixels = bytes([200, 100, 50, 255]) * area.pixels
        addition = Addition("result", area, pixels, b"\xff" * area.pixels, area)
        yield from stage.run(apply_steps(captured.layer_ref, addition))
        yield from stage.settle()
        bounds = document.nodeByName("result").bounds()
        kept = bytes(layer.pixelData(-70, -30, 200, 100)) == raw
        return [area.x, area.y, area.width, area.height], bounds.getRect(), kept

    area, bounds, kept = krita.run(overhanging)
    assert area == [0, 0, 60, 40]
    assert bounds == [0, 0, 60, 40]
    assert kept


def test_a_layer_that_is_moved_while_the_job_runs_takes_the_result_with_it(krita: RemoteKrita) -> None:
    def moved(stage):
        import os

        from diffedit.canvas.apply import apply_steps
        from diffedit.canvas.capture import capture_steps
        from diffedit.model.ports import Addition

        document = yield from stage.new(100, 80)
        layer = document.createNode("Horse", "paintlayer")
        yield from stage.add(layer)
        layer.setPixelData(os.urandom(30 * 20 * 4), 10, 10, 30, 20)
        yield from stage.refresh()
        captured = yield from stage.run(capture_steps(document, layer))
        layer.move(layer.position().x() + 25, layer.position().y() + 13)
        yield from stage.settle()
        area = captured.area
        addition = Addition("result", area, b"\x80\x40\x20\xff" * area.pixels, b"\xff" * area.pixels, area)
        yield from stage.run(apply_steps(captured.layer_ref, addition))
        yield from stage.settle()
        return layer.bounds().getRect(), document.nodeByName("result").bounds().getRect()

    layer, result = krita.run(moved)
    assert layer == [35, 23, 30, 20]
    assert result == layer


@pytest.mark.parametrize("kind", ["grouplayer", "vectorlayer", "clonelayer"])
def test_layers_without_pixels_of_their_own_are_captured_as_they_look(krita: RemoteKrita, kind: str) -> None:
    def shown(stage, kind):
        from diffedit.canvas.capture import capture_steps

        document = yield from stage.new(64, 48)
        paint = document.createNode("Paint", "paintlayer")
        yield from stage.add(paint)
        paint.setPixelData(bytes([30, 60, 90, 255]) * (20 * 10), 4, 6, 20, 10)
        if kind == "grouplayer":
            layer = document.createGroupLayer("Group 3")
            yield from stage.add(layer)
            inner = document.createNode("inner", "paintlayer")
            inner.setPixelData(bytes([30, 60, 90, 255]) * (20 * 10), 4, 6, 20, 10)
            yield from stage.add(inner, layer)
        elif kind == "vectorlayer":
            layer = document.createVectorLayer("Vector 1")
            yield from stage.add(layer)
            layer.addShapesFromSvg(
                '<svg xmlns="http://www.w3.org/2000/svg" width="64px" height="48px" viewBox="0 0 64 48">'
                '<rect x="4" y="6" width="20" height="10" fill="#5a3c1e" stroke="none"/></svg>'
            )
        else:
            layer = document.createCloneLayer("Clone 1", paint)
            yield from stage.add(layer)
        yield from stage.refresh()
        yield lambda: bytes(layer.projectionPixelData(14, 11, 1, 1))[3] == 255  # shapes are drawn by and by
        yield from stage.settle()
        captured = yield from stage.run(capture_steps(document, layer))
        area = captured.area
        middle = ((area.height // 2) * area.width + area.width // 2) * captured.channels
        return area.width, area.height, list(captured.pixels[middle : middle + 3])

    width, height, middle = krita.run(shown, kind=kind)
    assert abs(width - 20) <= 2
    assert abs(height - 10) <= 2
    assert middle == [90, 60, 30]


def test_a_result_goes_into_the_group_of_its_layer_and_above_it(krita: RemoteKrita) -> None:
    def grouped(stage):
        from diffedit.canvas.apply import apply_steps
        from diffedit.canvas.capture import capture_steps
        from diffedit.model.ports import Addition

        document = yield from stage.new(32, 32)
        group = document.createGroupLayer("Group")
        yield from stage.add(group)
        for name in ("below", "source", "above"):
            layer = document.createNode(name, "paintlayer")
            layer.setPixelData(bytes([9, 9, 9, 255]) * (32 * 32), 0, 0, 32, 32)
            yield from stage.add(layer, group)
        yield from stage.refresh()
        source = document.nodeByName("source")
        captured = yield from stage.run(capture_steps(document, source))
        area = captured.area
        addition = Addition("result", area, b"\x01\x02\x03\xff" * area.pixels, b"\xff" * area.pixels, area)
        yield from stage.run(apply_steps(captured.layer_ref, addition))
        yield from stage.settle()
        return [node.name() for node in group.childNodes()]

    assert krita.run(grouped) == ["below", "source", "result", "above"]


def test_an_animated_layer_is_captured_at_the_current_frame(krita: RemoteKrita) -> None:
    def animated(stage):
        from diffedit.canvas.capture import capture_steps

        document = yield from stage.new(16, 16)
        layer = document.activeNode()
        layer.enableAnimation()
        document.setCurrentTime(0)
        layer.setPixelData(bytes([10, 20, 30, 255]) * 256, 0, 0, 16, 16)
        yield from stage.refresh()
        document.setCurrentTime(5)
        yield from stage.settle()
        stage.app.action("add_blank_frame").trigger()
        yield from stage.settle()
        layer.setPixelData(bytes([40, 50, 60, 255]) * 256, 0, 0, 16, 16)
        yield from stage.refresh()
        colours = []
        for frame in (0, 5):
            document.setCurrentTime(frame)
            yield from stage.settle()
            captured = yield from stage.run(capture_steps(document, layer))
            colours.append(list(captured.pixels[:3]))
        return colours

    assert krita.run(animated) == [[30, 20, 10], [60, 50, 40]]


def test_a_small_selection_on_a_huge_canvas_reads_only_what_it_needs(krita: RemoteKrita) -> None:
    def small(stage):
        from diffedit.canvas import capture
        from krita import Selection

        document = yield from stage.new(8000, 8000)
        layer = document.activeNode()
        layer.setPixelData(bytes([10, 20, 30, 255]) * (500 * 500), 4000, 4000, 500, 500)
        layer.setPixelData(bytes([10, 20, 30, 255]), 0, 0, 1, 1)
        layer.setPixelData(bytes([10, 20, 30, 255]), 7999, 7999, 1, 1)
        selection = Selection()
        selection.select(4100, 4100, 200, 100, 255)
        document.setSelection(selection)
        yield from stage.refresh()
        strips = 0
        read_strips = capture._read_strips

        def counted(*arguments):
            nonlocal strips
            steps = read_strips(*arguments)
            while True:
                try:
                    wanted = next(steps)
                except StopIteration as end:
                    return end.value
                strips += 1
                yield wanted

        capture._read_strips = counted  # the rest waits for Krita, as long as that takes
        try:
            captured = yield from stage.run(capture.capture_steps(document, layer, context=16))
        finally:
            capture._read_strips = read_strips
        area = captured.area
        return [area.x, area.y, area.width, area.height], len(captured.pixels), strips

    area, size, strips = krita.run(small)
    assert area == [4084, 4084, 232, 132]
    assert size == 232 * 132 * 3
    assert 0 < strips < 20  # a step a strip: the whole canvas has hundreds


@pytest.mark.parametrize(
    ("model", "depth", "profile", "printed"),
    [
        ("RGBA", "U8", ELLE, ""),
        ("RGBA", "U16", ELLE, ""),
        ("RGBA", "F32", LINEAR, "8-bit sRGB"),
        ("RGBA", "U8", "ClayRGB-elle-V2-g22.icc", "8-bit sRGB"),
        ("GRAYA", "U8", GREY, "is a grey picture"),
    ],
)
def test_what_a_documents_colours_lose_in_an_edit_is_said(
    krita: RemoteKrita, model: str, depth: str, profile: str, printed: str
) -> None:
    def note(stage, model, depth, profile):
        from diffedit.extension import extension

        yield from stage.new(20, 20, model, depth, profile)
        canvas = extension().app.canvas
        return canvas.colour_notice(canvas.active_document())

    sentence = krita.run(note, model=model, depth=depth, profile=profile)
    assert printed in sentence
    assert bool(printed) == bool(sentence)


@pytest.mark.parametrize(
    ("model", "profile", "quick"),
    [
        ("RGBA", LINEAR, True),
        ("RGBA", "ClayRGB-elle-V2-g22.icc", None),
        ("RGBA", "Rec2020-elle-V4-g10.icc", True),
        ("RGBA", "ACEScg-elle-V4-g10.icc", True),
        ("GRAYA", GREY, False),
    ],
)
def test_sixteen_bits_of_other_profiles_are_read_as_krita_converts_them(
    krita: RemoteKrita, model: str, profile: str, quick: bool | None
) -> None:
    """`quick`: whether Qt reads them; None where that is up to its version."""

    def both(stage, model, profile):
        import random

        from diffedit.canvas.colour import SRGB8, Converter, _ways, space_of
        from diffedit_protocol.messages import Bounds

        document = yield from stage.new(256, 256, model, "U16", profile)
        assert document.colorProfile() == profile
        area, size = Bounds(0, 0, 256, 256), 8 if model == "RGBA" else 4
        noise = random.Random(3)
        every = b"".join(value.to_bytes(2, "little") for value in range(65536))
        dark = b"".join(noise.randrange(1024).to_bytes(2, "little") for _ in range(65536))  # small steps count there
        own = every + dark + noise.randbytes(256 * 256 * size - len(every) - len(dark))
        space = space_of(document)
        with Converter(document, space, SRGB8) as convert:
            read, exact = convert(own, area), convert._converted(own, area)
        return _ways[space][0] is not None, max(abs(a - b) for a, b in zip(read, exact, strict=True))

    by_qt, error = krita.run(both, model=model, profile=profile)
    assert quick is None or by_qt == quick
    assert error <= 1


def test_sixteen_bits_of_srgb_are_read_and_written_as_krita_converts_them(krita: RemoteKrita) -> None:
    def both(stage, profile):
        import os

        from diffedit.canvas.colour import SRGB8, SRGB16, Converter
        from diffedit_protocol.messages import Bounds

        document = yield from stage.new(64, 64, "RGBA", "U16", profile)
        layer = document.activeNode()
        own = os.urandom(64 * 64 * 8)
        layer.setPixelData(own, 0, 0, 64, 64)
        yield from stage.refresh()
        area = Bounds(0, 0, 64, 64)
        with Converter(document, SRGB16, SRGB8) as convert:
            ours = convert(own, area)
        copy = document.clone()
        copy.setColorSpace("RGBA", "U8", profile)
        copy.waitForDone()
        kritas = bytes(copy.topLevelNodes()[0].pixelData(0, 0, 64, 64))
        copy.setModified(False)
        copy.close()
        with Converter(document, SRGB8, SRGB16) as convert:
            back = convert(ours, area)
        return max(abs(a - b) for a, b in zip(ours, kritas, strict=True)), back[1::2] == ours

    error, back = krita.run(both, profile=ELLE)
    assert error <= 1
    assert back
