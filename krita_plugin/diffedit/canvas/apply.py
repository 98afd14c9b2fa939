"""Adds what an edit resulted in as one new layer above the source, or above all: ONE undo step, the source untouched.

The layer and its mask are built on a copy of the document, where the undo steps of building go, and then added to the
real one as a whole. It is in the document's own colour space, as if it had been painted there.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from diffedit_protocol.messages import Bounds
from krita import Document, Node, Selection

from ..model.kept_colours import multiplied
from ..model.ports import Addition, FrameSpan, LayerRef, ResultForm
from ..model.steps import CanvasRefusal
from ..translation import tr
from .colour import DIRECT_STRIP, SRGB8, Converter, bgra_to_rgba, composite, discard, rgba_to_bgra, rows, space_of
from .frames import go_to, keyframes_of, sheet_with_keyframes
from .layers import bounds_of, check_geometry, children, drift, find_again, host_of, idle, node_with_id, slot_above
from .mask_shape import trimmed
from .transparency import opened, transparency_mask
from .undoable_selection import outdate_outline, prepared

TURNS = 8  # of the event loop, after which Krita has made an added layer the active one

Piece: TypeAlias = tuple[FrameSpan | None, Addition]  # what is shown, and in which frames of an animation

_added: dict[str, tuple[int, ...]] = {}  # of the layers that show results: their checksums when they were shown


def apply_steps(ref: LayerRef, addition: Addition, form: ResultForm = "layer") -> Generator[Any, None, str]:
    """Adds `addition` above the layer of `ref`, moved with it if it was moved; returns the id of what was added.

    `form`: "layer" with the selection mask under it, "transparency" for one with a transparency mask, or "group" of
    such a layer. In an animated picture it shows in the frames of `ref` only. One step per strip, and one per call that
    takes long; nothing in the document changes before all is built. CanvasRefusal when document or layer are gone.
    """
    return (yield from _apply(((ref, addition),), form))


def apply_frames_steps(parts: Sequence[tuple[LayerRef, Addition]]) -> Generator[Any, None, str]:
    """Adds one layer that shows each addition in the frames of its reference, all of the same layer; of its selection
    mask, what any of theirs holds. Otherwise as `apply_steps`."""
    return (yield from _apply(parts, "layer"))


def _apply(parts: Sequence[tuple[LayerRef, Addition]], form: ResultForm) -> Generator[Any, None, str]:
    ref = parts[0][0]
    document, layer = find_again(ref)
    yield from idle(document)
    yield from prepared(document)
    document, layer = find_again(ref)
    check_geometry(ref, document)
    active = document.activeNode()
    spans = [span for part, _ in parts if (span := part.span) is not None and not span.everything]
    workshop = sheet_with_keyframes(document, keyframes_of(spans)) if spans else document.clone()
    try:
        yield
        pieces: list[Piece] = []
        clipped = False
        for part, addition in parts:
            document, layer = find_again(ref)
            moved = addition.moved(*drift(ref, layer))
            laid, inherits = yield from composed(document, part, moved)
            pieces.append((part.span if spans else None, laid))
            clipped = clipped or inherits
        build = {"layer": _layer, "transparency": _masked, "group": _group}[form]
        node = yield from build(workshop, pieces)
        yield from idle(workshop)
        # Turns of the event loop have passed: the document may be gone, and a stroke may be under way.
        document, layer = find_again(ref)
        yield from idle(document)
        node.setInheritAlpha(clipped)
        if not ref.whole:
            _mix_as(node, layer)
        add(document, node, layer)
        if form != "layer":  # Krita composes with a transparency mask as if there were none until it is told to
            document.refreshProjection()
        node_id = str(node.uniqueId().toString())
        yield from _activate(document, active, node_id)
        if not spans or (len(parts) == 1 and spans[0].holds(document.currentTime())):  # else another frame is shown
            _added[node_id] = yield from painted_sums(node)
        return node_id
    finally:
        discard(workshop)


def painted_sums(node: Node) -> Generator[Any, None, tuple[int, ...]]:
    """Checksums of what a result's layer holds, of a group its layer."""
    layer = children(node)[0] if node.type() == "grouplayer" else node
    area, sums = bounds_of(layer.bounds()), []
    for strip in area.strips(DIRECT_STRIP):
        sums.append(zlib.crc32(layer.pixelData(strip.x, strip.y, strip.width, strip.height)))
        yield
    return area.x, area.y, *sums


def remember_pixels(node_id: str, sums: tuple[int, ...]) -> None:
    """What the result's layer holds now is the plugin's own doing."""
    _added[node_id] = sums


def was_painted_on(node_id: str, sums: tuple[int, ...]) -> bool:
    """Whether the artist painted on a result since it was shown."""
    return _added.get(node_id, sums) != sums


def _activate(document: Document, node: Node | None, instead_of: str) -> Generator[Any, None, None]:
    """Makes `node` active again where Krita, some turns later, made the added layer `instead_of` so: the next edit then
    works on what the artist chose, and not on a result's cut-out."""
    for _ in range(TURNS):
        yield
        active = document.activeNode() if document.rootNode() is not None else None
        if active is not None and active.uniqueId().toString() == instead_of:
            yield
            break
    if document.rootNode() is None or node is None or node.parentNode() is None:
        return
    active = document.activeNode()
    if active is None or active.uniqueId().toString() == instead_of:
        document.setActiveNode(node)


def _mix_as(node: Node, layer: Node) -> None:
    """The result of a layer is mixed with what lies beneath as that layer is."""
    node.setOpacity(layer.opacity())
    if layer.blendingMode() != node.blendingMode():
        node.setBlendingMode(layer.blendingMode())
    if layer.inheritAlpha():
        node.setInheritAlpha(True)


def composed(document: Document, ref: LayerRef, addition: Addition) -> Generator[Any, None, tuple[Addition, bool]]:
    """The addition as it is laid over its source (see `_over_source`), transparent where that keeps its colours."""
    laid, clipped = yield from _over_source(document, ref, addition)
    if laid.changed is None:
        return laid, clipped
    pixels = bytearray(laid.pixels)
    pixels[3::4] = multiplied(laid.pixels[3::4], laid.changed, laid.area.width, laid.area.height)
    return replace(laid, pixels=bytes(pixels)), clipped


def _over_source(document: Document, ref: LayerRef, addition: Addition) -> Generator[Any, None, tuple[Addition, bool]]:
    """The addition as it must be laid over a source that is not opaque, so that source and result together show what
    the edit shows; and whether it takes its alpha from what is beneath.

    Laid over paint of alpha 127 with alpha 127 of its own, it would make 191. In place of that the layer's alpha is
    the mask alone; its colours are those of the edit over what lies below the source, where something does, and Krita
    keeps the alpha that is there ("inherit alpha").
    """
    alpha = addition.source_alpha
    if alpha is None or alpha.count(255) == len(alpha):
        return addition, False
    mask, area = addition.mask_of_area(), addition.area
    pixels = bytearray(addition.pixels)
    if not ref.whole and (backdrop := (yield from _backdrop(document, ref, area))) is not None:
        edit = bytearray(addition.pixels)
        edit[3::4] = alpha
        pixels = bytearray(composite(backdrop, bytes(edit), area.width, area.height))
    pixels[3::4] = mask
    return replace(addition, pixels=bytes(pixels)), True


def _backdrop(document: Document, ref: LayerRef, area: Bounds) -> Generator[Any, None, bytes | None]:
    """What is seen in `area` without the source and all above it: sRGB RGBA. None where that is nothing.

    It is read from a copy of its own, in which they are removed.
    """
    copy = document.clone()
    try:
        source = node = node_with_id(copy.rootNode(), ref.layer_id)
        if source is None:
            return None
        while node is not None and node.parentNode() is not None:
            beside = children(node.parentNode())
            for above in beside[beside.index(node) + (0 if node == source else 1) :][::-1]:
                if above != node:
                    above.remove()
            node = node.parentNode()
        source.remove()
        if ref.span is not None:
            go_to(copy, ref.span.time)
        copy.refreshProjection()
        yield from idle(copy)
        root, parts = copy.rootNode(), []
        with Converter(copy, space_of(root), SRGB8) as to_srgb:
            for strip in area.strips(to_srgb.strip_pixels):
                part = bytes(root.projectionPixelData(strip.x, strip.y, strip.width, strip.height))
                parts.append(bgra_to_rgba(to_srgb(part, strip)))
                yield
        seen = b"".join(parts)
        return None if seen[3::4].count(0) == len(seen) // 4 else seen
    finally:
        discard(copy)


def keep_mask_steps(ref: LayerRef, name: str, mask: bytes, area: Bounds) -> Generator[Any, None, str]:
    """Adds `mask`, a plane of `area`, as a selection mask under the layer of `ref`: one undo step. Returns its id."""
    document, layer = find_again(ref)
    selection = Selection()
    yield from write_plane(selection, mask, area.moved(*drift(ref, layer)))
    document, layer = find_again(ref)
    yield from idle(document)
    node = _selection_mask(document, name, selection)
    host_of(ref, document).addChildNode(node, None)
    _check_added(document, node)
    node_id = str(node.uniqueId().toString())
    for _ in range(2):
        yield  # an active node that is set in the same turn is forgotten
    if document.rootNode() is not None and node.parentNode() is not None:
        document.setActiveNode(node)  # to be painted on
    yield
    return node_id


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


def write_plane(selection: Selection, plane: bytes, area: Bounds) -> Generator[Any, None, None]:
    """Sets `selection`, an empty one, from a plane of `area`, 0..255.

    Only where it is not 0: Krita would look through all the rest, for 0.3 s at 4096 × 4096, whenever it asks how far
    the selection reaches.
    """
    for strip in area.strips(DIRECT_STRIP):
        part, left, top, width, height = trimmed(
            rows(plane, area.width, strip.y - area.y, strip.height), strip.width, strip.height
        )
        if part:
            selection.setPixelData(part, strip.x + left, strip.y + top, width, height)
        yield


def _layer(workshop: Document, pieces: Sequence[Piece]) -> Generator[Any, None, Node]:
    """A paint layer with the selection mask under it."""
    layer = yield from _painted(workshop, pieces)
    selection = Selection()
    yield from write_plane(selection, pieces[0][1].mask, pieces[0][1].mask_area)
    for _, addition in pieces[1:]:
        own = Selection()
        yield from write_plane(own, addition.mask, addition.mask_area)
        selection.add(own)  # 0.3 s at 4096²
    yield
    layer.addChildNode(_selection_mask(workshop, layer.name(), selection), None)
    return layer


def _painted(workshop: Document, pieces: Sequence[Piece]) -> Generator[Any, None, Node]:
    """A paint layer of `pieces`; of an animated one, `workshop` is the sheet that has its keyframes."""
    span, addition = pieces[0]
    if span is None:
        layer = workshop.createNode(addition.name, "paintlayer")
        yield from paint_steps(workshop, layer, addition.pixels, addition.area)
        return layer
    sheet = children(workshop.rootNode())[0]
    for span, addition in pieces:
        if span is not None:
            go_to(workshop, span.first)
        yield from idle(workshop)
        yield from paint_steps(workshop, sheet, addition.pixels, addition.area)
    layer = sheet.duplicate()
    layer.setName(pieces[0][1].name)
    return layer


def _group(workshop: Document, pieces: Sequence[Piece]) -> Generator[Any, None, Node]:
    """A group that holds a paint layer with a transparency mask. (Krita's API gives a group itself no mask.)"""
    layer = yield from _masked(workshop, pieces)
    group = workshop.createGroupLayer(layer.name())
    group.addChildNode(layer, None)
    return group


def _masked(workshop: Document, pieces: Sequence[Piece]) -> Generator[Any, None, Node]:
    """A paint layer with a transparency mask: black on the mask shows the old picture, white the result."""
    span, addition = pieces[0]
    area = addition.area
    pixels, plane = opened(addition.pixels, addition.mask_of_area())
    yield
    layer = yield from _painted(workshop, [(span, replace(addition, pixels=pixels))])
    mask = transparency_mask(workshop, addition.name)
    for strip in area.strips(4 * DIRECT_STRIP):
        part = rows(plane, area.width, strip.y - area.y, strip.height)
        mask.setPixelData(part, strip.x, strip.y, strip.width, strip.height)
        yield
    layer.addChildNode(mask, None)
    return layer


def _selection_mask(document: Document, name: str, selection: Selection) -> Node:
    # Without setSelection first, the mask would hold nothing; it shares the selection from then on.
    mask = document.createSelectionMask(name)
    outdate_outline(document, selection)
    mask.setSelection(selection)
    return mask


def paint_steps(document: Document, node: Node, rgba: bytes, area: Bounds) -> Generator[Any, None, None]:
    """Sets the pixels of `area` of a layer: 8-bit sRGB RGBA, converted to the layer's colour space. Not undoable."""
    with Converter(document, SRGB8, space_of(node)) as from_srgb:
        for strip in area.strips(from_srgb.strip_pixels):
            part = rgba_to_bgra(rows(rgba, area.width, strip.y - area.y, strip.height, 4))
            node.setPixelData(from_srgb(part, strip), strip.x, strip.y, strip.width, strip.height)
            yield
