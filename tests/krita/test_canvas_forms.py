"""A result as a layer or a group with a transparency mask, and variations that take turns in one layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from diffedit_krita_driver.kra import Kra
from diffedit_krita_driver.remote import RemoteKrita


def add_in_another_form(stage, folder, opaque, form):
    from diffedit.canvas.apply import apply_steps
    from diffedit.canvas.capture import capture_steps
    from diffedit.model.ports import Addition
    from diffedit_protocol.messages import Bounds

    folder = Path(folder)
    document = yield from stage.new(60, 40)
    layer = document.activeNode()
    layer.setName("Source")
    yield from stage.settle()
    captured = yield from stage.run(capture_steps(document, layer))
    mask = bytes((x * 4) % 256 for _ in range(40) for x in range(60))
    area = Bounds(10, 5, 30, 20)
    pixels = bytearray(b"\x20\x60\xc0\x00" * area.pixels)
    for i in range(area.pixels):
        alpha = mask[(5 + i // 30) * 60 + 10 + i % 30]
        pixels[4 * i + 3] = alpha if opaque else alpha // 2
    addition = Addition("result", area, bytes(pixels), mask, captured.area)
    yield from stage.run(apply_steps(captured.layer_ref, addition, "layer"))
    yield from stage.settle()
    (folder / "layer.raw").write_bytes(bytes(document.rootNode().projectionPixelData(0, 0, 60, 40)))
    yield from stage.undo()
    yield from stage.run(apply_steps(captured.layer_ref, addition, form))
    yield from stage.settle()
    (folder / "other.raw").write_bytes(bytes(document.rootNode().projectionPixelData(0, 0, 60, 40)))
    stage.save(folder / "other.kra")
    yield 0.3
    yield from stage.undo()
    return [node.name() for node in document.topLevelNodes()], len(stage.app.documents())


@pytest.mark.parametrize("opaque", [True, False])
@pytest.mark.parametrize("form", ["transparency", "group"])
def test_a_transparency_mask_looks_like_a_layer_with_a_selection_mask_and_is_one_undo_step(
    krita: RemoteKrita, tmp_path: Path, form: str, opaque: bool
) -> None:
    undone, documents = krita.run(add_in_another_form, folder=tmp_path, opaque=opaque, form=form)
    assert undone == ["Source"]
    assert documents == 1
    layer, other = (np.frombuffer((tmp_path / f"{name}.raw").read_bytes(), np.uint8) for name in ("layer", "other"))
    assert np.abs(layer.astype(int) - other).max() <= 1
    assert (layer != 255).any()
    kinds = [node.kind for node in Kra(tmp_path / "other.kra").nodes()]
    group = ["grouplayer"] if form == "group" else []
    assert kinds == [*group, "paintlayer", "transparencymask", "paintlayer"]


@pytest.mark.parametrize("form", ["layer", "transparency", "group"])
def test_variations_take_turns_in_one_layer_and_one_undo_takes_it_away(krita: RemoteKrita, form: str) -> None:
    def turns(stage, form):
        from diffedit.canvas.apply import apply_steps
        from diffedit.canvas.capture import capture_steps
        from diffedit.canvas.exchange import exchange_steps, remove_layer
        from diffedit.model.ports import Addition
        from diffedit_protocol.messages import Bounds

        document = yield from stage.new(60, 40)
        layer = document.activeNode()
        yield from stage.settle()
        captured = yield from stage.run(capture_steps(document, layer))

        def variation(name, colour, area):
            return Addition(name, area, bytes([*colour, 255]) * area.pixels, b"\xff" * area.pixels, area)

        first = variation("first", (200, 10, 10), Bounds(0, 0, 20, 20))
        second = variation("second", (10, 200, 10), Bounds(0, 0, 20, 20))
        layer_id = yield from stage.run(apply_steps(captured.layer_ref, first, form))
        yield from stage.settle()
        colours, names = [], []
        for now, wanted in ((first, second), (second, first)):
            yield from stage.run(exchange_steps(captured.layer_ref, layer_id, now.area, wanted))
            yield from stage.settle()
            colours.append(list(bytes(document.rootNode().projectionPixelData(5, 5, 1, 1))))
            names.append([node.name() for node in document.topLevelNodes()][-1])
        yield from stage.undo()
        undone = len(document.topLevelNodes())
        yield from stage.redo()
        remove_layer(captured.layer_ref, layer_id, "first")
        yield from stage.settle()
        return colours, names, undone, len(document.topLevelNodes())

    colours, names, undone, removed = krita.run(turns, form=form)
    assert colours == [[10, 200, 10, 255], [10, 10, 200, 255]]
    assert names == ["second", "first"]
    assert undone == removed == 1
