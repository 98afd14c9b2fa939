"""Shows another result in a layer that shows one already, and takes such a layer away again.

Krita's `setPixelData` leaves no undo step, so looking through variations costs none: the layer's addition stays the one
step that undo takes back.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from diffedit_protocol.messages import Bounds
from krita import Document, Node

from ..model.ports import Addition, LayerRef
from ..model.steps import CanvasRefusal
from ..translation import tr
from .apply import composed, paint_steps, painted_sums, remember_pixels, was_painted_on
from .frames import go_to
from .layers import check_geometry, children, find_document, idle, node_with_id
from .transparency import opened


def exchange_steps(ref: LayerRef, layer_id: str, shown: Bounds, addition: Addition) -> Generator[Any, None, None]:
    """Replaces what the layer or group `layer_id` shows in `shown` by `addition`, and its name. Its mask stays.

    CanvasRefusal DOCUMENT_GONE; LAYER_GONE when the layer was deleted, by an undo for example; PAINTED when the artist
    painted on it.
    """
    document, top = _find(ref, layer_id, addition.name)
    yield from idle(document)
    if ref.span is not None and not ref.span.holds(document.currentTime()):
        go_to(document, ref.span.time)  # pixels are read and set in the frame that is shown
        yield from idle(document)
    if was_painted_on(layer_id, (yield from painted_sums(top))):
        sentence = tr("'{layer}' was painted on, so it stays. The other result is on a new layer.", layer=top.name())
        raise CanvasRefusal("PAINTED", sentence)
    check_geometry(ref, document)
    addition, _ = yield from composed(document, ref, addition)
    document, top = _find(ref, layer_id, addition.name)
    layer, pixels = top, addition.pixels
    if top.type() == "grouplayer":
        layer = children(top)[0]
    if any(child.type() == "transparencymask" for child in children(layer)):
        pixels, _ = opened(addition.pixels, addition.mask_of_area())
    if shown != addition.area:
        pixel_bytes = len(bytes(layer.pixelData(shown.x, shown.y, 1, 1)))
        for strip in shown.strips(1 << 20):
            layer.setPixelData(bytes(strip.pixels * pixel_bytes), strip.x, strip.y, strip.width, strip.height)
            yield
    yield from paint_steps(document, layer, pixels, addition.area)
    document, top = _find(ref, layer_id, addition.name)
    top.setName(addition.name)
    layer.setName(addition.name)
    # No call refreshes one node and leaves no undo step; without this the canvas, and what is exported, stay as they
    # were.
    document.refreshProjection()
    yield from idle(document)
    document.setModified(True)
    remember_pixels(layer_id, (yield from painted_sums(top)))


def remove_layer(ref: LayerRef, layer_id: str, name: str) -> None:
    """Takes the layer or group away: an undo step of its own. CanvasRefusal as above."""
    _, layer = _find(ref, layer_id, name)
    layer.remove()


def _find(ref: LayerRef, layer_id: str, name: str) -> tuple[Document, Node]:
    document = find_document(ref)
    layer = node_with_id(document.rootNode(), layer_id)
    if layer is None:
        raise CanvasRefusal("LAYER_GONE", tr("'{layer}' is not in the picture any more.", layer=name))
    return document, layer
