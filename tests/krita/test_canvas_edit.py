"""One edit from the layer to the saved .kra, with a made-up result: what is added, undone, and never changed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from diffedit_krita_driver.kra import Kra
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 150, 110
HOLE = (40, 20, 60, 70)  # x, y, width, height of the edit within the picture


def noise(seed: int, height: int = HEIGHT, width: int = WIDTH, channels: int = 4) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def edit_and_save(stage, source, pixels, mask, folder, area):
    """Paints `source` (BGRA), captures it, adds `pixels` (RGBA) with `mask`, saves; undoes, saves; redoes, saves."""

    from diffedit.canvas.apply import apply_steps
    from diffedit.canvas.capture import capture_steps
    from diffedit.model.ports import Addition
    from diffedit_protocol.messages import Bounds

    folder = Path(folder)
    document = yield from stage.new(150, 110)
    layer = document.activeNode()
    layer.setName("Source")
    layer.setPixelData(Path(source).read_bytes(), 0, 0, 150, 110)
    yield from stage.refresh()
    stage.save(folder / "before.kra")
    captured = yield from stage.run(capture_steps(document, layer))
    (folder / "captured.raw").write_bytes(captured.pixels)
    addition = Addition(
        "a horse → a zebra (41)",
        Bounds(*area),
        Path(pixels).read_bytes(),
        Path(mask).read_bytes(),
        captured.area,
    )
    yield from stage.run(apply_steps(captured.layer_ref, addition))
    yield from stage.settle()
    active = document.activeNode().name()
    stage.save(folder / "added.kra")
    yield from stage.undo()
    undone = [node.name() for node in document.topLevelNodes()]
    stage.save(folder / "undone.kra")
    yield from stage.redo()
    stage.save(folder / "redone.kra")
    area = captured.area
    return {
        "channels": captured.channels,
        "active": active,
        "undone": undone,
        "area": [area.x, area.y, area.width, area.height],
    }


@pytest.fixture(scope="module")
def edited(shared_krita, tmp_path_factory):
    """(what Krita told, its folder, source RGBA, edit RGBA, mask): made once for the tests below."""
    folder = tmp_path_factory.mktemp("edit")
    source = noise(1)
    x, y, width, height = HOLE
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[y : y + height, x : x + width] = noise(2, height, width, 1)[..., 0]
    pixels = noise(3, height, width)
    pixels[..., 3] = mask[y : y + height, x : x + width]
    (folder / "source.raw").write_bytes(source[..., [2, 1, 0, 3]].tobytes())
    (folder / "pixels.raw").write_bytes(pixels.tobytes())
    (folder / "mask.raw").write_bytes(mask.tobytes())
    reported = shared_krita.clean().run(
        edit_and_save,
        source=folder / "source.raw",
        pixels=folder / "pixels.raw",
        mask=folder / "mask.raw",
        folder=folder,
        area=HOLE,
    )
    return reported, folder, source, pixels, mask


def rgba(kra: Kra, name: str, area: tuple[int, int, int, int] | None = None) -> NDArray[np.uint8]:
    return kra.pixels(kra.node(name), area)[..., [2, 1, 0, 3]]


def shown(kra: Kra) -> NDArray[np.uint8]:
    """The picture as it is seen: the colour behind a wholly transparent pixel is nobody's business, Krita's neither."""
    merged = np.array(Image.open(io.BytesIO(kra.merged())).convert("RGBA"))
    merged[merged[..., 3] == 0] = 0
    return merged


RESULT = "a horse → a zebra (41)"


def test_the_capture_is_the_layer_byte_for_byte(edited) -> None:
    reported, folder, source, _, _ = edited
    assert reported["channels"] == 4
    assert reported["area"] == [0, 0, WIDTH, HEIGHT]
    assert (folder / "captured.raw").read_bytes() == source.tobytes()


def test_the_new_layer_stands_above_its_source_with_its_selection_mask_under_it(edited) -> None:
    reported, folder, *_ = edited
    kra = Kra(folder / "added.kra")
    assert [(node.name, node.kind) for node in kra.layers] == [(RESULT, "paintlayer"), ("Source", "paintlayer")]
    assert [(mask.name, mask.kind) for mask in kra.layers[0].children] == [(RESULT, "selectionmask")]
    assert reported["active"] == "Source"


def test_the_new_layer_holds_the_edit_and_nothing_else(edited) -> None:
    _, folder, _, pixels, _ = edited
    kra = Kra(folder / "added.kra")
    layer = rgba(kra, RESULT)
    x, y, width, height = HOLE
    inside = layer[y : y + height, x : x + width]
    assert np.array_equal(inside, pixels)
    layer[y : y + height, x : x + width] = 0
    assert not layer.any()


def test_the_selection_mask_is_the_mask_byte_for_byte(edited) -> None:
    _, folder, _, _, mask = edited
    kra = Kra(folder / "added.kra")
    assert np.array_equal(kra.pixels(kra.layers[0].children[0])[..., 0], mask)


def test_the_source_layer_is_untouched(edited) -> None:
    _, folder, source, _, _ = edited
    for state in ("before", "added", "undone", "redone"):
        assert np.array_equal(rgba(Kra(folder / f"{state}.kra"), "Source"), source), state


def test_outside_the_mask_the_picture_does_not_change_by_one_bit(edited) -> None:
    _, folder, _, _, mask = edited
    before, after = (shown(Kra(folder / f"{state}.kra")) for state in ("before", "added"))
    assert np.array_equal(before[mask == 0], after[mask == 0])
    assert not np.array_equal(before[mask == 255], after[mask == 255])


def test_one_undo_removes_layer_and_mask_and_one_redo_brings_them_back(edited) -> None:
    reported, folder, *_ = edited
    assert reported["undone"] == ["Source"]
    undone, added, redone = (Kra(folder / f"{state}.kra") for state in ("undone", "added", "redone"))
    assert [node.name for node in undone.nodes()] == ["Source"]
    assert [node.name for node in redone.nodes()] == [RESULT, RESULT, "Source"]
    for node, again in zip(added.nodes(), redone.nodes(), strict=True):
        assert np.array_equal(added.pixels(node), redone.pixels(again))
