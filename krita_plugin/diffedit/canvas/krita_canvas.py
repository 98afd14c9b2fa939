"""The canvas that the model works with, in a real Krita: see `model.ports.Canvas`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

from diffedit_protocol.messages import Bounds
from krita import Document, Node, Selection

from ..model.ports import Addition, Capture, FoundMask, InputKind, LayerRef, MaskForm, PaintedMask, ResultForm
from ..model.steps import CanvasRefusal
from ..translation import tr
from . import apply, capture, documents, exchange, layers
from .colour import SRGB8, SRGB16, space_of
from .documents import read_history, write_history
from .frames import spans_in
from .live_mask import LiveMask, select
from .overlay import ActiveMaskOverlay
from .undoable_selection import select_undoably


class KritaCanvas:
    """Main thread only. Documents are known by the ids of `documents.id_of`."""

    def __init__(self) -> None:
        self._active_mask = ActiveMaskOverlay()
        self._last_capture: Capture | None = None

    def active_document(self) -> str:
        """The id of the document in front. CanvasRefusal NO_DOCUMENT when there is none."""
        return documents.id_of(documents.active_document())

    def document_in(self, window: object) -> str:
        """The id of the document in front in that window of Krita's; "" without one."""
        document = documents.document_in(window)
        return "" if document is None else documents.id_of(document)

    def document_name(self, document_id: str) -> str:
        return layers.name_of(_open(document_id))

    def document_path(self, document_id: str) -> str:
        """The document's file; "" for one that was never saved."""
        return str(_open(document_id).fileName())

    def document_side(self, document_id: str) -> int:
        """px: the larger side of the picture."""
        document = _open(document_id)
        return int(max(document.width(), document.height()))

    def mask_in_use(self) -> str:
        """The name of the selection mask that an edit would use now; "" for none."""
        mask = _mask_in_use()
        return "" if mask is None else str(mask.name())

    def colour_notice(self, document_id: str) -> str:
        """What the document's colours lose in an edit, as a sentence; "" for nothing."""
        document = _open(document_id)
        space = space_of(document)
        if space.model == "GRAYA":
            return tr("'{document}' is a grey picture: the result is grey, too.", document=layers.name_of(document))
        if space in (SRGB8, SRGB16):
            return ""
        return tr(
            "The model works in 8-bit sRGB: where the edit changed the picture, finer or stronger colours are "
            "limited to that."
        )

    def show_active_mask(self) -> None:
        """Draws the selection mask that is active, as it is now; called some times a second."""
        self._active_mask.look()

    def leave_mask(self) -> None:
        """Hides that mask, so that no edit uses it; it stays in the picture."""
        mask = _mask_in_use()
        if mask is None:
            return
        document, node = layers.active_node()
        if node == mask:
            document.setActiveNode(mask.parentNode())
        mask.setVisible(False)

    def open_documents(self) -> list[str]:
        return [documents.id_of(document) for document in documents.open_documents()]

    def has_selection(self) -> bool:
        """Whether something is selected in the document in front."""
        try:
            return documents.active_document().selection() is not None
        except CanvasRefusal:
            return False

    def active_layer(self, kind: InputKind) -> LayerRef:
        """What an edit would work on. CanvasRefusal NO_DOCUMENT or NO_LAYER when there is nothing."""
        document, node = layers.active_node()
        return layers.layer_ref(document, node, kind)

    def chosen_layers(self) -> list[LayerRef]:
        """The layers that are selected in Krita's layer list, bottom first, each for itself. CanvasRefusal for one that
        cannot be edited."""
        document, node = layers.active_node()
        chosen = {layers.layer_of(n).uniqueId().toString() for n in documents.selected_nodes()}
        chosen.add(layers.layer_of(node).uniqueId().toString())
        found = [layer for layer in layers.all_layers(document.rootNode()) if layer.uniqueId().toString() in chosen]
        for layer in found:
            layers.check_workable(layer)
        return [layers.layer_ref(document, layer, "layer") for layer in found]

    def frame_range(self) -> tuple[int, int]:
        """The first and the last frame that are played of the picture in front."""
        document = documents.active_document()
        return int(document.playBackStartTime()), int(document.playBackEndTime())

    def frames(self, kind: InputKind, first: int, last: int) -> list[LayerRef]:
        """What an edit of the frames `first` to `last` would work on: one for all frames that show the same. [] where
        nothing is animated; CanvasRefusal as `active_layer`, and for a layer that cannot be edited."""
        document, node = layers.active_node()
        if kind == "layer":
            layers.check_workable(layers.layer_of(node))
        noted = layers.layer_ref(document, node, kind)
        seen = layers.seen_nodes(document.rootNode() if kind == "visible" else layers.layer_of(node))
        return [replace(noted, span=span) for span in spans_in(document, seen, first, last)]

    def capture_steps(self, layer_ref: LayerRef, context: int) -> Generator[Any, None, Capture]:
        try:
            document, _ = layers.find_again(layer_ref)
        except CanvasRefusal as refusal:
            raise CanvasRefusal(refusal.code, tr("The picture was closed before it was read.")) from refusal
        host = layers.host_of(layer_ref, document)
        node = layers.node_with_id(host, layer_ref.mask_id) if layer_ref.mask_id else None
        kind: InputKind = "visible" if layer_ref.whole else "layer"
        before, self._last_capture = self._last_capture, None
        steps = capture.capture_steps(document, node or host, context, kind, layer_ref.span, before)
        self._last_capture = yield from steps
        return self._last_capture

    def read_plane(self, painted: PaintedMask, area: Bounds) -> Generator[Any, None, bytes]:
        assert isinstance(painted, Selection)
        return (yield from capture.read_plane(painted, area))

    def live_mask(self, found: FoundMask, form: MaskForm, leave: Callable[[], None]) -> LiveMask:
        return LiveMask(found, form, leave)

    def select(self, layer_ref: LayerRef, plane: bytes, area: Bounds) -> None:
        """Makes `plane` of `area`, moved with its layer, the artist's selection: one undo step where Krita can."""
        document, layer = layers.find_again(layer_ref)
        area = area.moved(*layers.drift(layer_ref, layer))
        if layers.is_busy(document) or not select_undoably(document, plane, area):
            select(document, plane, area)

    def keep_mask_steps(self, layer_ref: LayerRef, name: str, plane: bytes, area: Bounds) -> Generator[Any, None, str]:
        return apply.keep_mask_steps(layer_ref, name, plane, area)

    def apply_steps(self, layer_ref: LayerRef, addition: Addition, form: ResultForm) -> Generator[Any, None, str]:
        return apply.apply_steps(layer_ref, addition, form)

    def apply_frames_steps(self, parts: Sequence[tuple[LayerRef, Addition]]) -> Generator[Any, None, str]:
        return apply.apply_frames_steps(parts)

    def exchange_steps(
        self, layer_ref: LayerRef, layer_id: str, shown: Bounds, addition: Addition
    ) -> Generator[Any, None, None]:
        return exchange.exchange_steps(layer_ref, layer_id, shown, addition)

    def has_layer(self, layer_ref: LayerRef, layer_id: str) -> bool:
        """Whether the layer is in its document now; True for a document that is closed: nothing is known of it."""
        try:
            document = layers.find_document(layer_ref)
        except CanvasRefusal:
            return True
        return layers.node_with_id(document.rootNode(), layer_id) is not None

    def remove_layer(self, layer_ref: LayerRef, layer_id: str, name: str) -> None:
        exchange.remove_layer(layer_ref, layer_id, name)

    def read_history(self, document_id: str) -> bytes:
        return read_history(_open(document_id))

    def write_history(self, document_id: str, history: bytes) -> None:
        """Into the document, if it is still open."""
        for document in documents.open_documents():
            if documents.id_of(document) == document_id:
                write_history(document, history)

    def description(self) -> list[str]:
        """Krita and the document in front, for a report."""
        return [f"Krita {documents.krita_version()}", _described()]


def _mask_in_use() -> Node | None:
    try:
        _, node = layers.active_node()
    except CanvasRefusal:
        return None
    return layers.kept_mask(layers.layer_of(node), node)


def _open(document_id: str) -> Document:
    """CanvasRefusal DOCUMENT_GONE where Krita does not list it any more; it may still be the active one then."""
    found = next((d for d in documents.open_documents() if documents.id_of(d) == document_id), None)
    if found is None:
        raise CanvasRefusal("DOCUMENT_GONE", tr("Open a picture first."))
    return found


def _described() -> str:
    try:
        document = documents.active_document()
    except CanvasRefusal:
        return "Document: none"
    return (
        f"Document: {document.width()} × {document.height()} px, {document.colorModel()} {document.colorDepth()}, "
        f"{document.colorProfile()}"
    )
