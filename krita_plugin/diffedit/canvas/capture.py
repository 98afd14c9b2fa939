"""Reads what an edit works on: the layer's pixels as 8-bit sRGB, the selection, and a mask kept on the layer.

The layer is read from a copy of the document that shares its memory (2 to 10 ms to make), so that it is one moment's
picture even if the artist paints on while the strips are read.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator
from dataclasses import replace
from typing import Any

from diffedit_protocol.messages import Bounds
from krita import Document, Node, Selection

from ..model.ports import Capture, Fingerprint, FrameSpan, InputKind
from ..model.steps import CanvasRefusal
from ..translation import tr
from .animation import go_to
from .colour import DIRECT_STRIP, SRGB8, Converter, discard, space_of
from .fingerprint import reader
from .layers import (
    bounds_of,
    canvas_area,
    check_workable,
    idle,
    layer_of,
    layer_ref,
    node_with_id,
)
from .pixels import alpha_of, bgra_to_rgb, bgra_to_rgba


def capture_steps(
    document: Document, node: Node, context: int = 0, kind: InputKind = "layer", span: FrameSpan | None = None
) -> Generator[Any, None, Capture]:
    """Captures the layer of `node`, or all visible layers, within the canvas and, if there is a selection, its bounds
    and `context` px around. `span`: frames of an animation, None for what is shown now.

    One step per strip. CanvasRefusal when the layer cannot be worked with, is empty, or has nothing inside the
    selection.
    """
    layer = layer_of(node)
    if kind == "layer":
        check_workable(layer)
    yield from idle(document)
    ref = layer_ref(document, node, kind)
    if span is not None:
        ref = replace(ref, span=span)
    selection = document.selection()
    mask = node_with_id(document.rootNode(), ref.mask_id) if ref.mask_id else None
    copy = document.clone()
    try:
        yield
        if ref.span is not None and ref.span.time != copy.currentTime():
            go_to(copy, ref.span.time)
            copy.refreshProjection()
        source = copy.rootNode() if ref.whole else node_with_id(copy.rootNode(), ref.layer_id)
        yield from idle(copy)
        area = captured_area(document, source, context)
        strips, fingerprint, opaque, empty = yield from _read_strips(copy, source, area)
        coarser = space_of(source) != SRGB8
        selected = None if selection is None else (yield from read_plane(selection, area))
        painted = None if mask is None else (yield from read_plane(mask.selection(), area))
    finally:
        discard(copy)
    if empty:
        raise _empty(document.rootNode() if ref.whole else layer)
    yield
    reorder = bgra_to_rgb if opaque else bgra_to_rgba
    for i, strip in enumerate(strips):
        yield
        strips[i] = reorder(strip)
    everything = selected is not None and selected.count(255) == len(selected)
    if everything:
        selected = None  # everything is selected: as good as nothing
    name = "" if mask is None else mask.name()
    yield
    return Capture(
        ref, area, 3 if opaque else 4, b"".join(strips), selected, painted, name, fingerprint, everything, coarser
    )


def captured_area(document: Document, layer: Node, context: int = 0) -> Bounds:
    """The part of the image that a capture reads: layer within the canvas, within the selection grown by `context`."""
    canvas = canvas_area(document)
    whole = layer.parentNode() is None
    shown = canvas if whole else bounds_of(layer.bounds()) & canvas
    if shown.empty:
        raise _empty(layer)
    selection = document.selection()
    if selection is None:
        return shown
    selected = Bounds(selection.x(), selection.y(), selection.width(), selection.height()) & canvas
    if (selected & shown).empty:
        raise CanvasRefusal(
            "NOTHING_SELECTED",
            tr("'{layer}' is empty inside the selection. Choose another layer, or deselect.", layer=layer.name()),
        )
    return selected.grown(context) & shown


def _empty(layer: Node) -> CanvasRefusal:
    if layer.parentNode() is None:
        return CanvasRefusal("EMPTY", tr("The picture is empty. Paint or open something first."))
    sentence = tr("'{layer}' is empty. Choose another layer.", layer=layer.name())
    return CanvasRefusal("EMPTY", sentence)


def read_plane(selection: Selection, area: Bounds) -> Generator[Any, None, bytes]:
    """A selection as a plane of `area`: 0 outside of it to 255 wholly selected."""
    parts = []
    for strip in area.strips(4 * DIRECT_STRIP):
        parts.append(bytes(selection.pixelData(strip.x, strip.y, strip.width, strip.height)))
        yield
    return b"".join(parts)


def _read_strips(
    copy: Document, source: Node, area: Bounds
) -> Generator[Any, None, tuple[list[bytes], Fingerprint, bool, bool]]:
    """The layer's pixels in `area` as strips of B, G, R, A; their fingerprint; whether all of it is opaque, and whether
    nothing shows."""
    read = reader(source)
    strips, sums, opaque, empty = [], [], True, True
    with Converter(copy, space_of(source), SRGB8) as to_srgb:
        for strip in area.strips(to_srgb.strip_pixels):
            own = bytes(read(strip.x, strip.y, strip.width, strip.height))
            sums.append(zlib.crc32(own))
            pixels = to_srgb(own, strip)
            strips.append(pixels)
            alpha = alpha_of(pixels)
            opaque = opaque and alpha.count(255) == len(alpha)
            empty = empty and alpha.count(0) == len(alpha)
            yield
    return strips, Fingerprint(area, to_srgb.strip_pixels, tuple(sums)), opaque, empty
