"""Sets the artist's selection so that Krita can take it back, and draws its outline ("marching ants").

`Selection.setPixelData` leaves the outline that Krita computed before, an empty one, and Krita takes it for valid: the
selection works, and nothing is seen of it. Adding a selection with an outdated outline outdates the sum's too, so that
it is computed when it is shown. Cropping a document leaves such a one behind; emptied, it changes nothing but that.

`Document.setSelection` leaves no undo step. *Select Opaque (Replace)* does, and takes the alpha of the active layer. So
a paint layer lends its place for a moment: its pixels give way to the mask, Krita selects, and they are written back,
all in one turn of the event loop. `setPixelData` leaves no undo step and draws nothing, so nobody sees it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from diffedit_protocol.messages import Bounds
from krita import Document, Krita, Node, Selection

from .colour import discard
from .layers import all_layers, bounds_of, children

_outdated: Selection | None = None


def outdate_outline(document: Document, selection: Selection) -> None:
    """Lets Krita compute the outline of `selection` anew when it is shown; its pixels stay as they are. 0.1 ms.

    `document` lends a copy, once per Krita; `prepared` takes that in turns.
    """
    for _ in prepared(document):
        pass
    selection.add(_outdated)


def prepared(document: Document) -> Iterator[None]:
    """Makes the empty selection with an outdated outline, unless there is one already."""
    global _outdated
    if _outdated is not None:
        return
    copy = document.clone()
    try:
        yield
        copy.setBatchmode(True)
        copy.resizeImage(0, 0, 4, 4)
        for node in children(copy.rootNode()):
            node.remove()
        copy.waitForDone()
        yield
        selection = Selection()
        selection.select(0, 0, 4, 4, 255)
        copy.setSelection(selection)
        copy.waitForDone()
        copy.crop(0, 0, 2, 2)
        copy.waitForDone()
        cropped = copy.selection().duplicate()
    finally:
        discard(copy)
    cropped.setPixelData(bytes(4 * 4), 0, 0, 4, 4)
    _outdated = cropped
    yield


ACTION = "selectopaque"
_ALPHA = {"U8": "<B", "U16": "<H", "F16": "<e", "F32": "<f"}
_WHITE = {"U8": 255, "U16": 65535, "F16": 1.0, "F32": 1.0}


def select_undoably(document: Document, plane: bytes, area: Bounds) -> bool:
    """Makes `plane` of `area`, 0..255, the selection of the document in front: one undo step. False where that is not
    possible, without a paint layer for example; nothing is changed then."""
    action = Krita.instance().action(ACTION)
    active, lender = document.activeNode(), _lender(document)
    if action is None or lender is None or document != Krita.instance().activeDocument():
        return False
    region = _around(bounds_of(lender.bounds()), area)
    own = bytes(lender.pixelData(*region))
    try:
        document.setActiveNode(lender)
        if document.activeNode() != lender or not action.isEnabled():
            return False
        lender.setPixelData(bytes(len(own)), *region)
        lender.setPixelData(_pixels(plane, lender.colorDepth(), len(own) // (region[2] * region[3])), *_box(area))
        action.trigger()
        document.waitForDone()
    finally:
        lender.setPixelData(own, *region)
        if active is not None:
            document.setActiveNode(active)
    return True


def _lender(document: Document) -> Node | None:
    """A visible, unlocked paint layer without masks: the active one, if it is such."""
    layers = all_layers(document.rootNode())
    active = document.activeNode()
    layers.sort(key=lambda layer: layer != active)
    return next((layer for layer in layers if _lends(layer)), None)


def _lends(layer: Node) -> bool:
    node = layer
    while node is not None and node.parentNode() is not None:
        if not node.visible() or node.locked():
            return False
        node = node.parentNode()
    masks = [child for child in layer.childNodes() if child.type() != "selectionmask"]
    return layer.type() == "paintlayer" and not masks and layer.colorDepth() in _ALPHA


def _pixels(plane: bytes, depth: str, size: int) -> bytes:
    """Pixels of `size` bytes that are 0 but for their alpha, the last value of each."""
    values = [struct.pack(_ALPHA[depth], _WHITE[depth] * v // 255 if depth[0] == "U" else v / 255) for v in range(256)]
    width = len(values[0])
    data = bytearray(size * len(plane))
    for i in range(width):
        data[size - width + i :: size] = plane.translate(bytes(value[i] for value in values))
    return bytes(data)


def _around(one: Bounds, other: Bounds) -> tuple[int, int, int, int]:
    if one.empty:
        return _box(other)
    left, top = min(one.x, other.x), min(one.y, other.y)
    return left, top, max(one.right, other.right) - left, max(one.bottom, other.bottom) - top


def _box(area: Bounds) -> tuple[int, int, int, int]:
    return area.x, area.y, area.width, area.height
