"""Reads what an edit works on: the layer's pixels as 8-bit sRGB, the selection, and a mask kept on the layer.

The layer is read from a copy of the document that shares its memory (2 to 10 ms to make), so that it is one moment's
picture even if the artist paints on while the strips are read.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from diffedit_protocol.messages import Bounds
from krita import Document, Node, Selection

from ..model.ports import Capture, Fingerprint, FrameSpan, InputKind
from ..model.steps import CanvasRefusal
from ..translation import tr
from .colour import (
    DIRECT_STRIP,
    SRGB8,
    Converter,
    alpha_of,
    bgra_to_rgb,
    bgra_to_rgba,
    discard,
    rgb_to_rgba,
    rgba_to_rgb,
    space_of,
)
from .fingerprint import reader, style_of
from .frames import go_to
from .layers import (
    bounds_of,
    canvas_area,
    check_workable,
    idle,
    layer_of,
    layer_ref,
    node_with_id,
)


def capture_steps(
    document: Document,
    node: Node,
    context: int = 0,
    kind: InputKind = "layer",
    span: FrameSpan | None = None,
    before: Capture | None = None,
) -> Generator[Any, None, Capture]:
    """Captures the layer of `node`, or all visible layers, within the canvas and, if there is a selection, its bounds
    and `context` px around. `span`: frames of an animation, None for what is shown now. `before`: what was captured
    last; of its strips those that are the same still are taken from there.

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
        source: Node = copy.rootNode() if ref.whole else node_with_id(copy.rootNode(), ref.layer_id)
        yield from idle(copy)
        seen, extent = source, source.bounds()
        if not ref.whole and style_of(source):
            seen = _alone(copy, source)
            yield from idle(copy)
            extent = seen.bounds()
        area = captured_area(document, source, bounds_of(extent), context)
        reading = yield from _read_strips(copy, source, seen, area, before)
        coarser = space_of(seen) != SRGB8
        selected = None if selection is None else (yield from read_plane(selection, area))
        painted = None if mask is None else (yield from read_plane(mask.selection(), area))
    finally:
        discard(copy)
    if reading.empty:
        raise _empty(document.rootNode() if ref.whole else layer)
    yield
    pixels = yield from _joined(reading, before)
    everything = selected is not None and selected.count(255) == len(selected)
    if everything:
        selected = None  # everything is selected: as good as nothing
    name = "" if mask is None else mask.name()
    yield
    return Capture(
        ref, area, reading.channels, pixels, selected, painted, name, reading.fingerprint, everything, coarser
    )


def _alone(copy: Document, layer: Node) -> Node:
    """Makes `copy`, a copy of a document, show `layer` with its style and nothing else; returns what shows it.

    Krita draws a style when it mixes layers. Opaque and not mixed: opacity and blend mode are those of the layer that
    shows the result.
    """
    twin = layer.duplicate()
    twin.setOpacity(255)
    twin.setBlendingMode("normal")
    twin.setInheritAlpha(False)
    for other in copy.topLevelNodes():
        other.setVisible(False)
    root = copy.rootNode()
    root.addChildNode(twin, None)
    copy.refreshProjection()
    return root


def captured_area(document: Document, layer: Node, extent: Bounds, context: int = 0) -> Bounds:
    """The part of the image that a capture reads: the layer, which shows in `extent`, within the canvas, within the
    selection grown by `context`."""
    canvas = canvas_area(document)
    whole = layer.parentNode() is None
    shown = canvas if whole else extent & canvas
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


@dataclass(frozen=True)
class _Reading:
    """`strips`: B, G, R, A of 8 bits, None for one that is as it was `before`."""

    strips: list[bytes | None]
    fingerprint: Fingerprint
    opaque: bool
    empty: bool

    @property
    def channels(self) -> int:
        return 3 if self.opaque else 4


def _read_strips(
    copy: Document, source: Node, seen: Node, area: Bounds, before: Capture | None
) -> Generator[Any, None, _Reading]:
    """What is `seen` of the layer `source` in `area`, in most cases itself; whether all of it is opaque, and whether
    nothing shows. The checksums are of `source`'s own pixels: they are what is looked at later."""
    read, space = reader(source), space_of(seen)
    see = read if seen is source else seen.projectionPixelData
    strips: list[bytes | None] = []
    sums: list[int] = []
    opaque, empty = True, True
    converter = Converter(copy, space, SRGB8)
    yield from converter.prepare()
    with converter as to_srgb:
        style = "" if seen is source else style_of(source)
        known = Fingerprint(area, to_srgb.strip_pixels, (), (space.model, space.depth, space.profile), style)
        same = () if before is None or replace(before.fingerprint, sums=()) != known else before.fingerprint.sums
        for i, strip in enumerate(area.strips(to_srgb.strip_pixels)):
            own = bytes(read(strip.x, strip.y, strip.width, strip.height))
            sums.append(zlib.crc32(own))
            pixels: bytes | None = None
            if before is not None and same and same[i] == sums[i]:
                alpha = b"\xff" if before.channels == 3 else before.pixels[_span(strip, area, 4)][3::4]
            else:
                shown = own if seen is source else bytes(see(strip.x, strip.y, strip.width, strip.height))
                converted = to_srgb(shown, strip)
                pixels, alpha = converted, alpha_of(converted)
            strips.append(pixels)
            opaque = opaque and alpha.count(255) == len(alpha)
            empty = empty and alpha.count(0) == len(alpha)
            yield
    return _Reading(strips, replace(known, sums=tuple(sums)), opaque, empty)


def _joined(reading: _Reading, before: Capture | None) -> Generator[Any, None, bytes]:
    """The pixels in the wire's order; those of `before` themselves where nothing is another."""
    area, channels = reading.fingerprint.area, reading.channels
    if before is not None and channels == before.channels and all(strip is None for strip in reading.strips):
        return before.pixels
    # Its value is its own memory, while b"".join would copy all of it in one step: 40 ms at 4096 × 4096.
    joined = io.BytesIO(bytes(channels * area.pixels))
    for strip, pixels in zip(area.strips(reading.fingerprint.strip_pixels), reading.strips, strict=True):
        if pixels is None:
            assert before is not None
            part = before.pixels[_span(strip, area, before.channels)]
            if before.channels != channels:
                part = rgba_to_rgb(part) if channels == 3 else rgb_to_rgba(part)
        else:
            part = bgra_to_rgb(pixels) if channels == 3 else bgra_to_rgba(pixels)
        joined.write(part)
        yield
    return joined.getvalue()


def _span(strip: Bounds, area: Bounds, channels: int) -> slice:
    """Where a strip of whole rows lies in the pixels of `area`."""
    row = area.width * channels
    return slice((strip.y - area.y) * row, (strip.y - area.y + strip.height) * row)
