"""Which layer is meant, whether it can be worked with, and how it is found again later. Main thread only."""

from __future__ import annotations

import os
from collections.abc import Iterator

from diffedit_protocol.messages import Bounds
from krita import Document, Node

from ..model.ports import LayerRef
from ..model.steps import CanvasRefusal
from ..qt import QtCore, sip
from ..translation import tr
from .documents import active_document, id_of, open_documents
from .fingerprint import OWN_PIXELS

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
    """The layer that a mask belongs to; a layer is its own."""
    while node.type().endswith("mask") and node.parentNode().parentNode() is not None:
        node = node.parentNode()
    return node


def check_workable(layer: Node) -> None:
    """CanvasRefusal when `layer` is of a kind without a picture, or locked or hidden, itself or a group around it."""
    if layer.type() not in OWN_PIXELS + PROJECTED:
        raise CanvasRefusal("LAYER_KIND", _kind_sentence(layer))
    if layer.type() == "grouplayer" and layer.passThroughMode():
        raise CanvasRefusal(
            "LAYER_KIND", tr("'{layer}' lets its layers pass through. Choose one of them.", layer=layer.name())
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
        case kind:
            return tr("Choose a paint layer: '{layer}' is a {kind}.", layer=layer.name(), kind=kind)


def name_of(document: Document) -> str:
    """How the artist knows the document: its file's name, or its title."""
    return os.path.basename(document.fileName()) or document.name() or "Unnamed"


def layer_ref(document: Document, node: Node) -> LayerRef:
    """Notes where the layer of `node` is, a layer or one of its masks, for `find_again`."""
    layer = layer_of(node)
    position = layer.position()
    mask_id = node.uniqueId().toString() if node.type() == "selectionmask" and node != layer else ""
    return LayerRef(
        id_of(document),
        layer.uniqueId().toString(),
        name_of(document),
        layer.name(),
        (position.x(), position.y()),
        mask_id,
    )


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
    layer = node_with_id(document.rootNode(), ref.layer_id)
    if layer is None:
        raise CanvasRefusal(
            "LAYER_GONE", tr("'{layer}' was deleted; the result is kept in History.", layer=ref.layer_name)
        )
    return document, layer


def node_with_id(root: Node, node_id: str) -> Node | None:
    """The node of that id below `root`. (Krita 5.1's own nodeByUniqueID answers with a paint layer that is no Node.)"""
    for child in children(root):
        found = child if child.uniqueId().toString() == node_id else node_with_id(child, node_id)
        if found is not None:
            return found
    return None


def drift(ref: LayerRef, layer: Node) -> tuple[int, int]:
    """How far the layer was moved since `ref` was noted, in px."""
    position = layer.position()
    return position.x() - ref.position[0], position.y() - ref.position[1]


def slot_above(layer: Node) -> tuple[Node, Node | None]:
    """(parent, above) for addChildNode, which answers True but adds nothing where the parent cannot hold layers."""
    return layer.parentNode(), layer


def children(node: Node) -> list[Node]:
    """The nodes inside `node`, bottom first; a list's wrappers are never freed unless given back to Python."""
    found = node.childNodes()
    for child in found:
        sip.transferback(child)
    return list(found)


def canvas_area(document: Document) -> Bounds:
    return Bounds(0, 0, document.width(), document.height())


def bounds_of(rectangle: QtCore.QRect) -> Bounds:
    """A QRect as an Bounds; empty ones have width 0 or height 0."""
    return Bounds(rectangle.x(), rectangle.y(), max(0, rectangle.width()), max(0, rectangle.height()))


def idle(document: Document) -> Iterator[None]:
    """Yields until nothing is being painted or computed in `document`, without blocking Krita's main thread.

    CanvasRefusal DOCUMENT_GONE when it was closed meanwhile: its wrapper has no root any more.
    """
    if document.rootNode() is None:
        raise CanvasRefusal("DOCUMENT_GONE", tr("The picture was closed before it was read."))
    while is_busy(document):
        yield


def is_busy(document: Document) -> bool:
    """Whether a stroke or a transformation is under way in `document`, or something is computed."""
    if not document.tryBarrierLock():
        return True
    document.unlock()
    return False
