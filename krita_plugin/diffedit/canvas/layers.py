"""Which layer is meant, whether it can be worked with, and how it is found again later. Main thread only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from diffedit_protocol.messages import Bounds
from krita import Document, Node

from ..model.ports import Geometry, InputKind, LayerRef
from ..model.steps import BUSY, CanvasRefusal
from ..qt import QtCore, sip
from ..translation import tr
from .documents import active_document, id_of, open_documents
from .fingerprint import OWN_PIXELS
from .frames import span_at

SMALL = 32  # rows, and parts of each, that show whether a picture was turned
SAMPLED_OF_ROW = 1024  # px
# How a depth is read from memory, and its white. The bits of a half float, read as a whole number, grow with it.
_NUMBERS: dict[str, tuple[Literal["B", "H", "f"], float]] = {
    "U8": ("B", 255),
    "U16": ("H", 65535),
    "F16": ("H", 0x3C00),
    "F32": ("f", 1.0),
}
# Read by what they show: Krita gives no pixels of their own for them.
PROJECTED = ("grouplayer", "vectorlayer", "clonelayer", "filelayer")


def active_node() -> tuple[Document, Node]:
    """The active document and what is active in its stack, a layer or a mask.

    CanvasRefusal NO_DOCUMENT or NO_LAYER when there is none.
    """
    document = active_document()
    node = document.activeNode()
    if node is None or node.parentNode() is None:
        raise CanvasRefusal(
            "NO_LAYER", tr("Choose a paint layer: none is active in '{document}'.", document=name_of(document))
        )
    return document, node


def layer_of(node: Node) -> Node:
    """The layer that a mask belongs to; a layer is its own. Of the picture's own selection, the topmost layer."""
    while node.type().endswith("mask") and node.parentNode().parentNode() is not None:
        node = node.parentNode()
    if node.type().endswith("mask"):
        beside = [child for child in children(node.parentNode()) if not child.type().endswith("mask")]
        return beside[-1] if beside else node
    return node


def check_workable(layer: Node) -> None:
    """CanvasRefusal when `layer` is of a kind without a picture, or locked or hidden, itself or a group around it."""
    if layer.type() not in OWN_PIXELS + PROJECTED:
        raise CanvasRefusal("LAYER_KIND", _kind_sentence(layer))
    if layer.type() == "grouplayer" and layer.passThroughMode():
        raise CanvasRefusal(
            "LAYER_KIND", tr("'{layer}' is a pass-through group. Choose one of its layers.", layer=layer.name())
        )
    node = layer
    while node.parentNode() is not None:
        if node.locked():
            sentence = tr("'{layer}' is locked. Unlock it, or choose another layer.", layer=node.name())
            raise CanvasRefusal("LOCKED", sentence)
        if not node.visible():
            sentence = tr("'{layer}' is hidden. Show it, or choose another layer.", layer=node.name())
            raise CanvasRefusal("HIDDEN", sentence)
        node = node.parentNode()


def _kind_sentence(layer: Node) -> str:
    match layer.type():
        case "filterlayer":
            return tr("Choose a paint layer: '{layer}' is a filter layer.", layer=layer.name())
        case "filllayer":
            return tr("Choose a paint layer: '{layer}' is a fill layer.", layer=layer.name())
        case _:
            return tr("Choose a paint layer: '{layer}' cannot be edited.", layer=layer.name())


def name_of(document: Document) -> str:
    """How the artist knows the document: its file's name, or its title."""
    return os.path.basename(document.fileName()) or document.name() or "Unnamed"


def layer_ref(document: Document, node: Node, kind: InputKind = "layer") -> LayerRef:
    """Notes where the layer of `node` is, a layer or one of its masks, or the whole picture, for `find_again`."""
    layer = layer_of(node)
    position = layer.position()
    mask = kept_mask(layer, node)
    return LayerRef(
        id_of(document),
        layer.uniqueId().toString() if kind == "layer" else "",
        name_of(document),
        layer.name(),
        (position.x(), position.y()),
        layer.uniqueId().toString(),
        "" if mask is None else mask.uniqueId().toString(),
        geometry_of(document),
        span_at(document, seen_nodes(document.rootNode() if kind == "visible" else layer), document.currentTime()),
    )


def seen_nodes(layer: Node) -> list[Node]:
    """`layer` and all below it that may change what it shows: hidden ones do not."""
    return [layer, *(node for child in children(layer) if child.visible() for node in seen_nodes(child))]


def geometry_of(document: Document) -> Geometry:
    """Reads some rows: Krita's own thumbnail reads all px, which takes a second at 4096 × 4096."""
    root, width, height = document.rootNode(), document.width(), document.height()
    code, white = _NUMBERS[document.colorDepth()]
    step = -(-width // SAMPLED_OF_ROW)
    places = [(2 * i + 1) * height // (2 * SMALL) for i in range(SMALL // 2)]
    parts = []
    for y in places + [height - 1 - place for place in reversed(places)]:  # the same from either end
        values = memoryview(bytes(root.projectionPixelData(0, y, width, 1))).cast(code)
        channels = len(values) // width
        parts.append(_means([values[channel :: channels * step].tolist() for channel in range(channels)], white))
    return Geometry(width, height, b"".join(parts))


def _means(channels: Sequence[Sequence[float]], white: float) -> bytes:
    """The mean of each channel in each of SMALL parts of a row, as bytes, part by part: 0 black to 255 `white`."""
    length, means = len(channels[0]), []
    for i in range(SMALL):
        first = i * length // SMALL
        end = max(first + 1, (i + 1) * length // SMALL)
        for channel in channels:
            mean = sum(channel[first:end]) / (end - first) / white
            means.append(round(255 * mean) if 0 <= mean <= 1 else 255 * (mean > 1))  # 0 too for what is no number
    return bytes(means)


def check_geometry(ref: LayerRef, document: Document) -> None:
    """CanvasRefusal GEOMETRY when the picture was scaled, turned or mirrored since `ref` was noted: a result would lie
    wrong. What was painted since is no matter."""
    before = ref.geometry
    if before is None:
        return
    now = geometry_of(document)
    if ref.span is not None and document.currentTime() != ref.span.time:  # another frame: only its size can be compared
        now = replace(now, thumbnail=before.thumbnail)
    moved = (before.width, before.height) != (now.width, now.height) or _turned(before.thumbnail, now.thumbnail)
    if moved:
        sentence = tr(
            "'{document}' was scaled, cropped, rotated or mirrored during the edit, so the result does not fit. "
            "It is kept in History.",
            document=name_of(document),
        )
        raise CanvasRefusal("GEOMETRY", sentence)


def _turned(before: bytes, now: bytes) -> bool:
    """Whether the small picture is rather a mirrored or turned one of before than one that was painted on."""
    if before == now or len(before) != len(now):  # of other channels: nothing can be said
        return False
    size = len(before) // (SMALL * SMALL)
    row = size * SMALL
    rows = [[before[y + x : y + x + size] for x in range(0, row, size)] for y in range(0, len(before), row)]
    across = [row[::-1] for row in rows]
    upright = (across, rows[::-1], across[::-1])
    aside = [[list(column) for column in zip(*way, strict=True)] for way in (rows, *upright)]
    ways = (*upright, *aside)

    def difference(picture: list[list[bytes]]) -> int:
        data = b"".join(b"".join(row) for row in picture)
        return sum(abs(a - b) for a, b in zip(data, now, strict=True))

    return min(difference(way) for way in ways) < difference(rows) // 2


def kept_mask(layer: Node, node: Node | None = None) -> Node | None:
    """The selection mask that an edit of `layer` uses: `node` if it is one, else the layer's topmost visible one. The
    mask of a result of ours is none: it has the name of its layer."""
    masks = [child for child in children(layer) if child.type() == "selectionmask" and child.name() != layer.name()]
    if node is not None and any(mask == node for mask in masks):
        return node
    shown = [mask for mask in masks if mask.visible()]
    return shown[-1] if shown else None


def find_document(ref: LayerRef) -> Document:
    """CanvasRefusal DOCUMENT_GONE when it was closed."""
    for document in open_documents():
        if id_of(document) == ref.document_id:
            return document
    raise CanvasRefusal(
        "DOCUMENT_GONE", tr("'{document}' was closed; the result is kept in History.", document=ref.document_name)
    )


def find_again(ref: LayerRef) -> tuple[Document, Node]:
    """The document and the layer of `ref`; CanvasRefusal DOCUMENT_GONE or LAYER_GONE."""
    document = find_document(ref)
    if ref.whole:
        return document, document.rootNode()
    layer = node_with_id(document.rootNode(), ref.layer_id)
    if layer is None:
        raise CanvasRefusal(
            "LAYER_GONE", tr("'{layer}' was deleted; the result is kept in History.", layer=ref.layer_name)
        )
    return document, layer


def host_of(ref: LayerRef, document: Document) -> Node:
    """The layer that masks are added to: the one that was active, or the one that is now."""
    host = node_with_id(document.rootNode(), ref.host_id)
    if host is None:
        host = layer_of(document.activeNode())
    return host


def node_with_id(root: Node, node_id: str) -> Node | None:
    """The node of that id below `root`. (Krita 5.1's own nodeByUniqueID answers with a paint layer that is no Node.)"""
    for child in children(root):
        found = child if child.uniqueId().toString() == node_id else node_with_id(child, node_id)
        if found is not None:
            return found
    return None


def drift(ref: LayerRef, layer: Node) -> tuple[int, int]:
    """How far the layer was moved since `ref` was noted, in px; of the whole picture, the layer that was active."""
    if ref.whole:
        host = node_with_id(layer, ref.host_id)
        if host is None:
            return 0, 0
        layer = host
    position = layer.position()
    return position.x() - ref.position[0], position.y() - ref.position[1]


def slot_above(layer: Node) -> tuple[Node, Node | None]:
    """(parent, above) for addChildNode, which answers True but adds nothing where the parent cannot hold layers."""
    return (layer, None) if layer.parentNode() is None else (layer.parentNode(), layer)


def children(node: Node) -> list[Node]:
    """The nodes inside `node`, bottom first; a list's wrappers are never freed unless given back to Python."""
    found = node.childNodes()
    for child in found:
        sip.transferback(child)
    return list(found)


def all_layers(root: Node) -> list[Node]:
    """Every layer below `root`, bottom first, those of groups before the group."""
    found = []
    for child in children(root):
        if not child.type().endswith("mask"):
            found += [*all_layers(child), child]
    return found


def canvas_area(document: Document) -> Bounds:
    return Bounds(0, 0, document.width(), document.height())


def bounds_of(rectangle: QtCore.QRect) -> Bounds:
    """A QRect as Bounds; empty ones have width 0 or height 0."""
    return Bounds(rectangle.x(), rectangle.y(), max(0, rectangle.width()), max(0, rectangle.height()))


def idle(document: Document) -> Iterator[str]:
    """Yields until nothing is being painted or computed in `document`, without blocking Krita's main thread.

    CanvasRefusal DOCUMENT_GONE when it was closed meanwhile: its wrapper has no root any more.
    """
    if document.rootNode() is None:
        raise CanvasRefusal("DOCUMENT_GONE", tr("The picture was closed before it was read."))
    while is_busy(document):
        yield BUSY


def is_busy(document: Document) -> bool:
    """Whether a stroke or a transformation is under way in `document`, or something is computed."""
    if not document.tryBarrierLock():
        return True
    document.unlock()
    return False
