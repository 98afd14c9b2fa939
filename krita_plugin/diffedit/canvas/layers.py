"""Which layer is meant, whether it can be worked with, and how it is found again later. Main thread only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from krita import Document, Krita, Node

from ..qt import QtCore, sip
from .area import Area
from .refusal import LAYER_KINDS, CanvasRefusal

# What is read by its own pixels, and what by what it shows: Krita gives no pixels of its own for the latter.
OWN_PIXELS = ("paintlayer",)
PROJECTED = ("grouplayer", "vectorlayer", "clonelayer", "filelayer")


@dataclass(frozen=True)
class Place:
    """A layer of a document, by the ids that stay the same while the document is open, and by the names to tell of it.

    `position` is the layer's offset in px when this was noted, so that a result follows a layer that is moved
    meanwhile.
    """

    document_id: str
    layer_id: str
    document_name: str
    layer_name: str
    position: tuple[int, int]


def active_layer() -> tuple[Document, Node]:
    """The active document and the layer that an edit would work on: of a mask, the layer that it belongs to.

    CanvasRefusal NO_DOCUMENT or NO_LAYER when there is none.
    """
    document = Krita.instance().activeDocument()
    # After a close Krita may still hand out a wrapper of the document: it has no root any more.
    if document is None or document.rootNode() is None:
        raise CanvasRefusal("NO_DOCUMENT")
    node = document.activeNode()
    if node is None or node.parentNode() is None:
        raise CanvasRefusal("NO_LAYER", document=name_of(document))
    return document, layer_of(node)


def layer_of(node: Node) -> Node:
    """The layer that a mask belongs to; a layer is its own."""
    while node.type().endswith("mask") and node.parentNode().parentNode() is not None:
        node = node.parentNode()
    return node


def check_workable(layer: Node) -> None:
    """CanvasRefusal when `layer` is of a kind without a picture, or locked or hidden, itself or a group around it."""
    if layer.type() not in OWN_PIXELS + PROJECTED:
        kind = LAYER_KINDS.get(layer.type(), layer.type())
        raise CanvasRefusal("LAYER_KIND", layer=layer.name(), kind=kind)
    if layer.type() == "grouplayer" and layer.passThroughMode():
        raise CanvasRefusal("LAYER_KIND", layer=layer.name(), kind="pass-through group")
    node = layer
    while node.parentNode() is not None:
        if node.locked():
            raise CanvasRefusal("LOCKED", layer=node.name())
        if not node.visible():
            raise CanvasRefusal("HIDDEN", layer=node.name())
        node = node.parentNode()


def name_of(document: Document) -> str:
    """How the artist knows the document: its file's name, or its title."""
    return os.path.basename(document.fileName()) or document.name() or "Unnamed"


def place_of(document: Document, layer: Node) -> Place:
    """Notes where `layer` is, for `find_again`."""
    position = layer.position()
    return Place(
        document.rootNode().uniqueId().toString(),
        layer.uniqueId().toString(),
        name_of(document),
        layer.name(),
        (position.x(), position.y()),
    )


def find_document(place: Place) -> Document:
    """CanvasRefusal DOCUMENT_GONE when it was closed."""
    for document in Krita.instance().documents():
        root = document.rootNode()
        if root is not None and root.uniqueId().toString() == place.document_id:
            return document
    raise CanvasRefusal("DOCUMENT_GONE", document=place.document_name)


def find_again(place: Place) -> tuple[Document, Node]:
    """The document and the layer of `place`; CanvasRefusal DOCUMENT_GONE or LAYER_GONE."""
    document = find_document(place)
    layer = document.nodeByUniqueID(QtCore.QUuid(place.layer_id))
    if layer is None or layer.parentNode() is None:
        raise CanvasRefusal("LAYER_GONE", layer=place.layer_name)
    return document, layer


def drift(place: Place, layer: Node) -> tuple[int, int]:
    """How far the layer was moved since `place` was noted, in px."""
    position = layer.position()
    return position.x() - place.position[0], position.y() - place.position[1]


def slot_above(layer: Node) -> tuple[Node, Node | None]:
    """(parent, above) for addChildNode, which answers True but adds nothing where the parent cannot hold layers."""
    return layer.parentNode(), layer


def children(node: Node) -> list[Node]:
    """The nodes inside `node`, bottom first. Wrappers of a list are never freed unless they are given back to Python."""
    found = node.childNodes()
    for child in found:
        sip.transferback(child)
    return list(found)


def canvas_area(document: Document) -> Area:
    return Area(0, 0, document.width(), document.height())


def area_of(rectangle: QtCore.QRect) -> Area:
    """A QRect as an Area; empty ones have width 0 or height 0."""
    return Area(rectangle.x(), rectangle.y(), max(0, rectangle.width()), max(0, rectangle.height()))


def idle(document: Document) -> Iterator[None]:
    """Yields until nothing is being painted or computed in `document`, without blocking Krita's main thread."""
    while not document.tryBarrierLock():
        yield
    document.unlock()
