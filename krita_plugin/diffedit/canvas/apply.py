"""Adds what an edit resulted in as one new layer above the source: ONE undo step, the source untouched.

The layer and its mask are built on a copy of the document, where the undo steps of building go, and then added to the
real one as a whole. It is in the document's own colour space, as if it had been painted there.
"""

from __future__ import annotations

from collections.abc import Generator

from diffedit_protocol.messages import Bounds
from krita import Document, Node, Selection

from ..model.ports import Addition, LayerRef, ResultForm
from ..model.steps import CanvasRefusal
from ..translation import tr
from .colour import DIRECT_STRIP, SRGB8, Converter, discard, space_of
from .layers import drift, find_again, idle, slot_above
from .outline import outdate_outline, prepared
from .pixels import rgba_to_bgra, rows
from .transparency import opened, transparency_mask


def apply_steps(ref: LayerRef, addition: Addition, form: ResultForm = "layer") -> Generator[None, None, str]:
    """Adds `addition` above the layer of `ref`, moved with it if it was moved; returns the id of what was added.

    `form`: "layer" with the selection mask under it, or "group" of a layer with a transparency mask. One step per
    strip, and one per call that takes long; nothing in the document changes before all is built. CanvasRefusal when
    document or layer are gone.
    """
    document, layer = find_again(ref)
    yield from idle(document)
    yield from prepared(document)
    document, layer = find_again(ref)
    workshop = document.clone()
    try:
        yield
        document, layer = find_again(ref)
        dx, dy = drift(ref, layer)
        build = _group if form == "group" else _layer
        node = yield from build(workshop, addition.moved(dx, dy))
        yield from idle(workshop)
        # Turns of the event loop have passed: the document may be gone, and a stroke may be under way.
        document, layer = find_again(ref)
        yield from idle(document)
        add(document, node, layer)
        node_id = str(node.uniqueId().toString())
        yield
        return node_id
    finally:
        discard(workshop)


def keep_mask_steps(ref: LayerRef, name: str, mask: bytes, area: Bounds) -> Generator[None, None, str]:
    """Adds `mask`, a plane of `area`, as a selection mask under the layer of `ref`: one undo step. Returns its id."""
    document, layer = find_again(ref)
    selection = Selection()
    yield from write_plane(selection, mask, area.moved(*drift(ref, layer)))
    document, layer = find_again(ref)
    yield from idle(document)
    node = _selection_mask(document, name, selection)
    layer.addChildNode(node, None)
    _check_added(document, node)
    return str(node.uniqueId().toString())


def add(document: Document, node: Node, layer: Node) -> None:
    """Adds `node` above `layer` as one undo step."""
    parent, above = slot_above(layer)
    parent.addChildNode(node, above)
    _check_added(document, node)


def _check_added(document: Document, node: Node) -> None:
    """addChildNode answers True even where nothing was added."""
    document.waitForDone()
    if node.parentNode() is None:
        sentence = tr("Krita did not add '{name}'; the result is kept in History.", name=node.name())
        raise CanvasRefusal("NOT_ADDED", sentence)


def write_plane(selection: Selection, plane: bytes, area: Bounds) -> Generator[None, None, None]:
    """Sets `selection` from a plane of `area`, 0..255."""
    for strip in area.strips(4 * DIRECT_STRIP):
        part = rows(plane, area.width, strip.y - area.y, strip.height)
        selection.setPixelData(part, strip.x, strip.y, strip.width, strip.height)
        yield


def _layer(workshop: Document, addition: Addition) -> Generator[None, None, Node]:
    """A paint layer with the selection mask under it."""
    layer = workshop.createNode(addition.name, "paintlayer")
    yield from paint_steps(workshop, layer, addition.pixels, addition.area)
    selection = Selection()
    yield from write_plane(selection, addition.mask, addition.mask_area)
    layer.addChildNode(_selection_mask(workshop, addition.name, selection), None)
    return layer


def _group(workshop: Document, addition: Addition) -> Generator[None, None, Node]:
    """A group that holds a paint layer with a transparency mask. (Krita's API gives a group itself no mask.)"""
    area = addition.area
    pixels, plane = opened(addition.pixels, addition.mask_of_area())
    yield
    layer = workshop.createNode(addition.name, "paintlayer")
    yield from paint_steps(workshop, layer, pixels, area)
    mask = transparency_mask(workshop, addition.name)
    for strip in area.strips(4 * DIRECT_STRIP):
        part = rows(plane, area.width, strip.y - area.y, strip.height)
        mask.setPixelData(part, strip.x, strip.y, strip.width, strip.height)
        yield
    layer.addChildNode(mask, None)
    group = workshop.createGroupLayer(addition.name)
    group.addChildNode(layer, None)
    return group


def _selection_mask(document: Document, name: str, selection: Selection) -> Node:
    # Without setSelection first, the mask would hold nothing; it shares the selection from then on.
    mask = document.createSelectionMask(name)
    outdate_outline(document, selection)
    mask.setSelection(selection)
    return mask


def paint_steps(document: Document, node: Node, rgba: bytes, area: Bounds) -> Generator[None, None, None]:
    """Sets the pixels of `area` of a layer: 8-bit sRGB RGBA, converted to the layer's colour space. Not undoable."""
    with Converter(document, SRGB8, space_of(node)) as from_srgb:
        for strip in area.strips(from_srgb.strip_pixels):
            part = rgba_to_bgra(rows(rgba, area.width, strip.y - area.y, strip.height, 4))
            node.setPixelData(from_srgb(part, strip), strip.x, strip.y, strip.width, strip.height)
            yield
