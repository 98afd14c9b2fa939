"""What is sent is what is seen, and what comes back shows what was wanted: every kind of layer, variations, exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from diffedit_krita_driver.remote import RemoteKrita
from numpy.typing import NDArray
from PIL import Image


def shown(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    return np.frombuffer(path.read_bytes(), np.uint8).reshape(height, width, 4)


def turns(stage, form, kind, folder):
    """Three results in turn in one layer; -> per result: colour on the canvas, in the exported file, in the layer."""
    from pathlib import Path

    from diffedit.canvas.apply import apply_steps
    from diffedit.canvas.capture import capture_steps
    from diffedit.canvas.exchange import exchange_steps
    from diffedit.canvas.layers import children, node_with_id
    from diffedit.model.ports import Addition
    from diffedit_protocol.messages import Bounds
    from krita import InfoObject

    document = yield from stage.new(60, 40)
    layer = document.activeNode()
    layer.setPixelData(bytes([9, 9, 9, 255]) * 2400, 0, 0, 60, 40)
    yield from stage.refresh()
    captured = yield from stage.run(capture_steps(document, layer, kind=kind))

    def variation(name, grey, area):
        return Addition(name, area, bytes([grey, grey, grey, 255]) * area.pixels, b"\xff" * area.pixels, area)

    results = [variation(str(grey), grey, Bounds(0, 0, 20, 20)) for grey in (50, 100, 200)]
    layer_id = yield from stage.run(apply_steps(captured.layer_ref, results[0], form))
    seen = []
    for before, now in zip([None, *results[:2]], results, strict=True):
        if before is not None:
            yield from stage.run(exchange_steps(captured.layer_ref, layer_id, before.area, now))
        yield from stage.settle()
        document.setBatchmode(True)
        out = Path(folder) / f"{now.name}.png"
        document.exportImage(str(out), InfoObject())
        node = node_with_id(document.rootNode(), layer_id)
        node = children(node)[0] if node.type() == "grouplayer" else node
        seen.append(
            [bytes(document.rootNode().projectionPixelData(5, 5, 1, 1))[0], bytes(node.pixelData(5, 5, 1, 1))[0]]
        )
    active = document.activeNode().name() == layer.name()
    yield from stage.undo()
    return seen, active, len(document.topLevelNodes())


@pytest.mark.parametrize("kind", ["visible", "layer"])
@pytest.mark.parametrize("form", ["layer", "group"])
def test_the_result_that_is_chosen_is_the_one_that_is_seen_and_exported(
    krita: RemoteKrita, tmp_path: Path, form: str, kind: str
) -> None:
    seen, active, left = krita.run(turns, form=form, kind=kind, folder=tmp_path)
    assert seen == [[grey, grey] for grey in (50, 100, 200)]
    exported = [np.array(Image.open(tmp_path / f"{grey}.png").convert("RGB"))[5, 5, 0] for grey in (50, 100, 200)]
    assert exported == [50, 100, 200]
    assert active, "the source stays the active layer"
    assert left == 1, "one undo takes the result away"


def test_the_mask_of_a_result_is_never_taken_for_the_artists(krita: RemoteKrita) -> None:
    def second(stage):
        from diffedit.canvas.apply import apply_steps
        from diffedit.canvas.capture import capture_steps
        from diffedit.canvas.layers import node_with_id
        from diffedit.model.ports import Addition
        from diffedit_protocol.messages import Bounds

        document = yield from stage.new(60, 40)
        layer = document.activeNode()
        layer.setPixelData(bytes([9, 9, 9, 255]) * 2400, 0, 0, 60, 40)
        yield from stage.refresh()
        area = Bounds(4, 4, 20, 20)
        addition = Addition("a → b (1)", area, bytes([50, 50, 50, 255]) * 400, b"\xff" * 400, area)
        first = yield from stage.run(capture_steps(document, layer, kind="visible"))
        layer_id = yield from stage.run(apply_steps(first.layer_ref, addition))
        result = node_with_id(document.rootNode(), layer_id)
        out = []
        for node in (result, result.childNodes()[0]):
            document.setActiveNode(node)
            yield from stage.settle()
            again = yield from stage.run(capture_steps(document, node, kind="visible"))
            out.append([again.mask, [again.area.width, again.area.height], list(again.pixels[3 * 305 : 3 * 305 + 1])])
        return out

    assert krita.run(second) == [[None, [60, 40], [50]]] * 2


def odd_layer(stage, case, kind, folder):
    """A layer that is seen otherwise than its pixels are; captures, edits a square to red; writes what is seen before,
    sent, wanted and seen after."""
    from pathlib import Path

    from diffedit.canvas.apply import apply_steps
    from diffedit.canvas.capture import capture_steps
    from diffedit.model.ports import Addition
    from diffedit_protocol.messages import Bounds

    folder, (width, height) = Path(folder), (40, 30)
    document = yield from stage.new(width, height)
    ground = document.activeNode()
    colour = [0, 0, 0, 0] if case == "half transparent alone" else [40, 120, 200, 255]
    ground.setPixelData(bytes(colour) * 1200, 0, 0, width, height)
    layer = document.createNode("Figure", "paintlayer")
    alpha = 127 if case.startswith("half transparent") else 255
    layer.setPixelData(bytes([90, 60, 30, alpha]) * 1200, 0, 0, width, height)
    if case == "50 % opacity":
        layer.setOpacity(127)
    if case == "multiply":
        layer.setBlendingMode("multiply")
    yield from stage.add(layer)
    document.setActiveNode(layer)
    yield from stage.refresh()

    def see(name):
        (folder / name).write_bytes(bytes(document.rootNode().projectionPixelData(0, 0, width, height)))

    see("before")
    captured = yield from stage.run(capture_steps(document, layer, kind=kind))
    (folder / "sent").write_bytes(captured.pixels)
    area = Bounds(10, 8, 16, 12)
    own = captured.pixels[3::4][0] if captured.channels == 4 else 255
    mask = bytes(255 if x < 8 else 128 for _ in range(12) for x in range(16))
    pixels = bytearray(b"\xff\x10\x20\xff" * area.pixels)
    pixels[3::4] = bytes(round(value * own / 255) for value in mask)
    source = bytes([own]) * area.pixels if captured.channels == 4 else None
    addition = Addition("result", area, bytes(pixels), mask, area, source)
    yield from stage.run(apply_steps(captured.layer_ref, addition))
    yield from stage.settle()
    see("after")
    return captured.channels, own, [n.name() for n in document.topLevelNodes()]


def mixed(before: NDArray[np.uint8], own: int, ground: list[int] | None) -> NDArray[np.uint8]:
    """What the edit of `odd_layer` should show, of a source of alpha `own` over `ground`: B, G, R, A."""
    wanted = before.astype(float)
    red = np.array([32.0, 16.0, 255.0])
    if ground is not None:  # the source is mixed with what lies beneath
        red = own / 255 * red + (1 - own / 255) * np.array(ground)
    for x in range(16):
        share = (255 if x < 8 else 128) / 255
        wanted[8:20, 10 + x, :3] += share * (red - wanted[8:20, 10 + x, :3])
    return np.rint(wanted).astype(np.uint8)


@pytest.mark.parametrize("case", ["50 % opacity", "multiply", "half transparent", "half transparent alone"])
def test_all_visible_sends_what_is_seen_and_shows_what_was_wanted(
    krita: RemoteKrita, tmp_path: Path, case: str
) -> None:
    channels, own, names = krita.run(odd_layer, case=case, kind="visible", folder=tmp_path)
    before, after = (shown(tmp_path / name, 40, 30) for name in ("before", "after"))
    sent = np.frombuffer((tmp_path / "sent").read_bytes(), np.uint8).reshape(30, 40, channels)
    assert np.array_equal(sent[..., :3][..., ::-1], before[..., :3])
    assert np.abs(after.astype(int) - mixed(before, own, None)).max() <= 1
    assert np.array_equal(np.delete(after, range(8, 20), 0), np.delete(before, range(8, 20), 0))
    assert names[-1] == "result"


@pytest.mark.parametrize("case", ["half transparent", "half transparent alone"])
def test_half_transparent_paint_does_not_double(krita: RemoteKrita, tmp_path: Path, case: str) -> None:
    _, own, _ = krita.run(odd_layer, case=case, kind="layer", folder=tmp_path)
    before, after = (shown(tmp_path / name, 40, 30) for name in ("before", "after"))
    assert own == 127
    ground = None if case.endswith("alone") else [40, 120, 200]
    assert np.abs(after.astype(int) - mixed(before, own, ground)).max() <= 1
    assert np.array_equal(after[..., 3], before[..., 3])


def test_the_result_of_one_layer_is_mixed_as_that_layer_is(krita: RemoteKrita) -> None:
    def attributes(stage):
        from diffedit.canvas.apply import apply_steps
        from diffedit.canvas.capture import capture_steps
        from diffedit.canvas.layers import node_with_id
        from diffedit.model.ports import Addition

        document = yield from stage.new(20, 20)
        layer = document.createNode("Figure", "paintlayer")
        layer.setPixelData(bytes([90, 60, 30, 255]) * 400, 0, 0, 20, 20)
        layer.setOpacity(127)
        layer.setBlendingMode("multiply")
        layer.setInheritAlpha(True)
        yield from stage.add(layer)
        document.setActiveNode(layer)
        yield from stage.refresh()
        captured = yield from stage.run(capture_steps(document, layer))
        addition = Addition("result", captured.area, b"\xff\x00\x00\xff" * 400, b"\xff" * 400, captured.area)
        node_id = yield from stage.run(apply_steps(captured.layer_ref, addition))
        node = node_with_id(document.rootNode(), node_id)
        yield from stage.undo()
        return node.opacity(), node.blendingMode(), node.inheritAlpha(), len(document.topLevelNodes())

    assert krita.run(attributes) == [127, "multiply", True, 2]


def test_a_layer_with_a_mask_of_krita_is_sent_as_it_shows(krita: RemoteKrita) -> None:
    def masked(stage):
        from diffedit.canvas.capture import capture_steps
        from diffedit.canvas.transparency import transparency_mask

        document = yield from stage.new(20, 20)
        layer = document.activeNode()
        layer.setPixelData(bytes([90, 60, 30, 255]) * 400, 0, 0, 20, 20)
        mask = transparency_mask(document, "veil")
        mask.setPixelData(bytes(200) + b"\xff" * 200, 0, 0, 20, 20)
        yield from stage.add(mask, layer)
        yield from stage.refresh()
        captured = yield from stage.run(capture_steps(document, layer))
        alpha = captured.pixels[3::4]
        return captured.channels, alpha[0], alpha[399]

    assert krita.run(masked) == [4, 0, 255]


STYLE = """<asl>
 <node classId="null" name="" type="Descriptor">
  <node key="Scl " type="UnitFloat" unit="#Prc" value="100"/>
  <node key="masterFXSwitch" type="Boolean" value="1"/>
  {effect}
 </node>
</asl>
"""
COLOUR = """<node classId="RGBC" key="Clr " name="" type="Descriptor">
    <node key="Rd  " type="Double" value="255"/>
    <node key="Grn " type="Double" value="0"/>
    <node key="Bl  " type="Double" value="0"/>
   </node>"""
STROKE = f"""<node classId="FrFX" key="FrFX" name="" type="Descriptor">
   <node key="enab" type="Boolean" value="1"/>
   <node key="Styl" type="Enum" typeId="FStl" value="OutF"/>
   <node key="PntT" type="Enum" typeId="FrFl" value="SClr"/>
   <node key="Md  " type="Enum" typeId="BlnM" value="Nrml"/>
   <node key="Opct" type="UnitFloat" unit="#Prc" value="100"/>
   <node key="Sz  " type="UnitFloat" unit="#Pxl" value="6"/>
   {COLOUR}
  </node>"""
SHADOW = f"""<node classId="DrSh" key="DrSh" name="" type="Descriptor">
   <node key="enab" type="Boolean" value="1"/>
   <node key="Md  " type="Enum" typeId="BlnM" value="Nrml"/>
   <node key="Opct" type="UnitFloat" unit="#Prc" value="60"/>
   <node key="uglg" type="Boolean" value="0"/>
   <node key="lagl" type="UnitFloat" unit="#Ang" value="135"/>
   <node key="Dstn" type="UnitFloat" unit="#Pxl" value="8"/>
   <node key="Ckmt" type="UnitFloat" unit="#Pxl" value="0"/>
   <node key="blur" type="UnitFloat" unit="#Pxl" value="5"/>
   {COLOUR}
  </node>"""


def styled(stage, style, holder, folder):
    """An edit of a layer, or group, with a layer style, that repaints a square over its edge; writes what is seen
    before, what of it the layer adds, what was sent and what is seen after."""
    from pathlib import Path

    from diffedit.canvas.apply import apply_steps
    from diffedit.canvas.capture import capture_steps
    from diffedit.canvas.fingerprint import ChangeWatch
    from diffedit.model.ports import Addition
    from diffedit_protocol.messages import Bounds

    folder, side = Path(folder), 100
    document = yield from stage.new(side, side)
    ground = document.activeNode()
    ground.setPixelData(bytes([200, 120, 40, 255]) * side * side, 0, 0, side, side)
    group = holder == "grouplayer"
    layer = document.createGroupLayer("Figure") if group else document.createNode("Figure", holder)
    yield from stage.add(layer)
    paint = layer
    if group:
        paint = document.createNode("inside", "paintlayer")
        yield from stage.add(paint, layer)
    paint.setPixelData(bytes([90, 60, 30, 255]) * 1600, 30, 30, 40, 40)
    document.setActiveNode(layer)
    layer.setLayerStyleFromAsl(style)
    yield from stage.refresh()
    assert layer.layerStyleToAsl(), "Krita took the style"

    def see(name):
        (folder / name).write_bytes(bytes(document.rootNode().projectionPixelData(0, 0, side, side)))

    see("before")
    captured = yield from stage.run(capture_steps(document, layer))
    again = yield from stage.run(capture_steps(document, layer, before=captured))
    place = captured.area
    (folder / "sent").write_bytes(captured.pixels)
    area = Bounds(20, 40, 30, 20)
    step = captured.channels
    own = bytes(
        captured.pixels[((y - place.y) * place.width + x - place.x) * step + 3]
        if place.x <= x < place.right and place.y <= y < place.bottom
        else 0
        for y in range(area.y, area.bottom)
        for x in range(area.x, area.right)
    )
    pixels = bytearray(b"\x10\x30\xf0\xff" * area.pixels)
    pixels[3::4] = own
    addition = Addition("result", area, bytes(pixels), b"\xff" * area.pixels, area, own)
    yield from stage.run(apply_steps(captured.layer_ref, addition))
    yield from stage.settle()
    see("after")
    watch = ChangeWatch(captured.fingerprint)
    changed = [watch.look(layer, 0, 0, 1 << 20)]
    kept = layer.layerStyleToAsl() == captured.fingerprint.style
    yield from stage.undo()
    see("undone")
    layer.setLayerStyleFromAsl(style.replace('value="255"', 'value="17"'))
    yield from stage.refresh()
    changed.append(watch.look(layer, 0, 0, 1 << 20))
    restyled = yield from stage.run(capture_steps(document, layer, before=captured))
    return {
        "area": [place.x, place.y, place.width, place.height],
        "channels": step,
        "the same again": again.pixels == captured.pixels,
        "changed": changed,
        "sent anew": restyled.pixels != captured.pixels,
        "style kept": kept,
    }


@pytest.mark.parametrize("holder", ["paintlayer", "grouplayer"])
@pytest.mark.parametrize("effect", [STROKE, SHADOW], ids=["stroke", "drop shadow"])
def test_a_layer_with_a_style_is_sent_as_it_shows_and_its_result_lies_on_it(
    krita: RemoteKrita, tmp_path: Path, effect: str, holder: str
) -> None:
    reported = krita.run(styled, style=STYLE.format(effect=effect), holder=holder, folder=tmp_path)
    before, after, undone = (shown(tmp_path / name, 100, 100) for name in ("before", "after", "undone"))
    x, y, width, height = reported["area"]
    assert reported["channels"] == 4
    sent = np.zeros((100, 100, 4))
    sent[y : y + height, x : x + width] = np.frombuffer((tmp_path / "sent").read_bytes(), np.uint8).reshape(
        height, width, 4
    )
    ground = np.array([40.0, 120.0, 200.0])
    share = sent[..., 3:] / 255
    seen = share * sent[..., :3] + (1 - share) * ground
    assert np.abs(seen - before[..., 2::-1]).max() <= 1.01, "over the ground, what was sent is what is seen"
    assert (sent[..., 3] > 0).sum() > 1700, "the style is a part of it"
    wanted = before[..., 2::-1].astype(float)
    part = (slice(40, 60), slice(20, 50))
    wanted[part] = share[part] * np.array([0x10, 0x30, 0xF0]) + (1 - share[part]) * ground
    assert np.abs(wanted - after[..., 2::-1]).max() <= 1.51
    assert np.abs(after.astype(int) - before).max() > 100
    assert np.array_equal(undone, before)
    assert reported["style kept"]
    assert reported["the same again"]
    assert reported["changed"] == [False, True]
    assert reported["sent anew"]


def own_colours(stage, depth, profile, case, kind, folder):
    """An edit that keeps the colours but in a square, in a picture of finer or stronger colours; -> what is said."""
    import struct
    from pathlib import Path

    from diffedit.extension import extension
    from diffedit.model.payload import JobResult
    from diffedit_protocol.blobs import pack_picture, pack_plane
    from diffedit_protocol.messages import Bounds, EditResult, Manifest

    document = yield from stage.new(40, 30, "RGBA", depth, profile)
    layer = document.activeNode()

    def value(x, y):
        """R, G, B of a px, 1.0 is white."""
        if case == "gradient":
            return (x * 30 + y) / 1200, 0.25 + y / 3000, 0.5
        if case == "beyond white":
            return 2.0, 0.5 + x / 20, 4.0 * y / 30
        return 0.0, 1.0 - x / 400, y / 300

    places = [value(x, y) for y in range(30) for x in range(40)]
    if depth == "F32":
        data = b"".join(struct.pack("<4f", *px, 1.0) for px in places)
    else:
        data = b"".join(struct.pack("<4H", *(round(65535 * v) for v in (*px[::-1], 1.0))) for px in places)
    layer.setPixelData(data, 0, 0, 40, 30)
    yield from stage.refresh()
    (Path(folder) / "before").write_bytes(bytes(document.rootNode().projectionPixelData(0, 0, 40, 30)))
    app = extension().app
    before = app.store.settings.input
    app.store.change(input=kind)
    app.look()
    session = app.session
    session.change_inputs(source="a horse", target="a zebra", seed=7, seed_locked=True)
    sent, link = [], app.link
    link.submit = sent.append
    try:
        app.edit_layer()
        yield lambda: sent
        payload = sent[0]
        step = payload.channels
        pixels = bytearray(b"\xff" * 4800)
        for channel in range(3):
            pixels[channel::4] = payload.picture[channel::step]
        for y in range(10, 20):
            for x in range(10, 20):
                pixels[4 * (40 * y + x) : 4 * (40 * y + x) + 3] = bytes([128, 128, 128])
        mask, _ = pack_plane(b"\xff" * 1200, 40, 30)
        picture, _ = pack_picture(bytes(pixels), 40, 30, 4)
        manifest = Manifest(mask, Bounds(0, 0, 40, 30), 0.5, edits=(EditResult(7, picture),), model="m")
        link.job_finished.emit(payload.job, JobResult(manifest, b"\xff" * 1200, None, (bytes(pixels),)))
        yield lambda: session.activity is None and len(document.topLevelNodes()) == 2
    finally:
        del link.submit
        app.store.change(input=before)
    yield from stage.settle()
    (Path(folder) / "after").write_bytes(bytes(document.rootNode().projectionPixelData(0, 0, 40, 30)))
    return "" if session.notice is None else session.notice.sentence


@pytest.mark.parametrize("kind", ["visible", "layer"])
@pytest.mark.parametrize(
    ("depth", "profile", "case"),
    [
        ("U16", "Rec2020-elle-V4-g10.icc", "beyond sRGB"),
        ("U16", "sRGB-elle-V2-srgbtrc.icc", "gradient"),
        ("F32", "sRGB-elle-V2-g10.icc", "beyond white"),
        ("F32", "Rec2020-elle-V4-g10.icc", "beyond sRGB"),
    ],
)
def test_a_px_whose_colour_the_edit_kept_comes_back_as_it_was(
    krita: RemoteKrita, tmp_path: Path, depth: str, profile: str, case: str, kind: str
) -> None:
    said = krita.run(own_colours, depth=depth, profile=profile, case=case, kind=kind, folder=tmp_path)
    form = np.float32 if depth == "F32" else np.uint16
    before, after = (np.frombuffer((tmp_path / n).read_bytes(), form).reshape(30, 40, 4) for n in ("before", "after"))
    square = np.zeros((30, 40), bool)
    square[10:20, 10:20] = True
    kept = np.abs(before.astype(float) - after)[~square]
    assert kept.max() <= (1e-6 if depth == "F32" else 1)
    inside = after[square].astype(float)
    assert np.ptp(inside[..., :3], axis=0).max() <= (1e-3 if depth == "F32" else 64)  # one grey, the edit's
    assert np.abs(before[square].astype(float) - inside).max() > (0.05 if depth == "F32" else 3000)
    assert ("limited to that" in said) == (profile != "sRGB-elle-V2-srgbtrc.icc")


def over_vector(stage, kind, folder):
    """An edit of 30 × 20 px over half of a red square of a vector layer; -> what was sent there, the layers' kinds."""
    from pathlib import Path

    from diffedit.canvas.apply import apply_steps
    from diffedit.canvas.capture import capture_steps
    from diffedit.model.ports import Addition
    from diffedit_protocol.messages import Bounds

    document = yield from stage.new(72, 72)
    ground = document.activeNode()
    ground.setPixelData(bytes([200, 120, 40, 255]) * 5184, 0, 0, 72, 72)
    shapes = document.createVectorLayer("Shapes")
    yield from stage.add(shapes)
    shapes.addShapesFromSvg(
        '<svg xmlns="http://www.w3.org/2000/svg" width="72px" height="72px" viewBox="0 0 72 72">'
        '<rect x="12" y="12" width="48" height="48" fill="#ff0000" stroke="none"/></svg>'
    )
    document.setActiveNode(shapes)
    yield from stage.refresh()
    red = b"\x00\x00\xff\xff"
    yield lambda: bytes(document.rootNode().projectionPixelData(35, 30, 1, 1)) == red  # shapes are drawn by and by
    yield from stage.settle()

    def see(name):
        (Path(folder) / name).write_bytes(bytes(document.rootNode().projectionPixelData(0, 0, 72, 72)))

    see("before")
    captured = yield from stage.run(capture_steps(document, shapes, kind=kind))
    place, step = captured.area, captured.channels

    def sent(x, y):
        at = ((y - place.y) * place.width + x - place.x) * step
        return list(captured.pixels[at : at + step])

    area = Bounds(30, 20, 30, 20) & place
    alpha = None
    if step == 4:
        alpha = bytes(sent(x, y)[3] for y in range(area.y, area.bottom) for x in range(area.x, area.right))
    addition = Addition("result", area, b"\x10\x30\xf0\xff" * area.pixels, b"\xff" * area.pixels, area, alpha)
    yield from stage.run(apply_steps(captured.layer_ref, addition))
    yield from stage.settle()
    see("after")
    nodes = [[node.name(), node.type()] for node in document.topLevelNodes()]
    shape_count = len(shapes.shapes())
    yield from stage.undo()
    see("undone")
    return sent(35, 30)[:3], nodes, shape_count, [area.x, area.y, area.width, area.height]


@pytest.mark.parametrize("kind", ["visible", "layer"])
def test_an_edit_of_a_vector_layer_lies_on_it_and_leaves_its_shapes(
    krita: RemoteKrita, tmp_path: Path, kind: str
) -> None:
    sent, nodes, shape_count, (x, y, width, height) = krita.run(over_vector, kind=kind, folder=tmp_path)
    assert sent == [255, 0, 0]
    assert [name for name, _ in nodes] == ["Background", "Shapes", "result"]
    assert [node_kind for _, node_kind in nodes[1:]] == ["vectorlayer", "paintlayer"]
    assert shape_count == 1
    before, after, undone = (shown(tmp_path / name, 72, 72) for name in ("before", "after", "undone"))
    inside = np.zeros((72, 72), bool)
    inside[y : y + height, x : x + width] = True
    square = inside & (before == [0, 0, 255, 255]).all(-1)
    assert square.sum() > 400
    assert (after[square] == [0xF0, 0x30, 0x10, 0xFF]).all()
    assert np.array_equal(after[~inside], before[~inside])
    assert np.array_equal(undone, before)
