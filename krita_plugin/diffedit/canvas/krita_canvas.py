"""The canvas that the model works with, in a real Krita: see `model.ports.Canvas`."""

from __future__ import annotations

from collections.abc import Callable, Generator

from diffedit_protocol.messages import Bounds
from krita import Document, Selection

from ..model.ports import Addition, Capture, FoundMask, LayerRef, MaskForm, PaintedMask, ResultForm
from ..model.steps import CanvasRefusal
from ..translation import tr
from . import apply, capture, documents, exchange, layers
from .annotations import read_history, write_history
from .live_mask import LiveMask, select


class KritaCanvas:
    """Main thread only. Documents are known by the ids of `documents.id_of`."""

    def active_document(self) -> str:
        """The id of the document in front. CanvasRefusal NO_DOCUMENT when there is none."""
        return documents.id_of(documents.active_document())

    def document_name(self, document_id: str) -> str:
        return layers.name_of(_open(document_id))

    def open_documents(self) -> list[str]:
        return [documents.id_of(document) for document in documents.open_documents()]

    def active_layer(self) -> LayerRef:
        """What an edit would work on. CanvasRefusal NO_DOCUMENT or NO_LAYER when there is nothing."""
        document, node = layers.active_node()
        return layers.layer_ref(document, node)

    def capture_steps(self, layer_ref: LayerRef, context: int) -> Generator[None, None, Capture]:
        try:
            document, layer = layers.find_again(layer_ref)
        except CanvasRefusal as refusal:
            raise CanvasRefusal(refusal.code, tr("The picture was closed before it was read.")) from refusal
        node = layers.node_with_id(layer, layer_ref.mask_id) if layer_ref.mask_id else layer
        return (yield from capture.capture_steps(document, node or layer, context))

    def read_plane(self, painted: PaintedMask, area: Bounds) -> Generator[None, None, bytes]:
        assert isinstance(painted, Selection)
        return (yield from capture.read_plane(painted, area))

    def live_mask(self, found: FoundMask, form: MaskForm, leave: Callable[[], None]) -> LiveMask:
        return LiveMask(found, form, leave)

    def select(self, layer_ref: LayerRef, plane: bytes, area: Bounds) -> None:
        """Makes `plane` of `area`, moved with its layer, the artist's selection."""
        document, layer = layers.find_again(layer_ref)
        select(document, plane, area.moved(*layers.drift(layer_ref, layer)))

    def keep_mask_steps(self, layer_ref: LayerRef, name: str, plane: bytes, area: Bounds) -> Generator[None, None, str]:
        return apply.keep_mask_steps(layer_ref, name, plane, area)

    def apply_steps(self, layer_ref: LayerRef, addition: Addition, form: ResultForm) -> Generator[None, None, str]:
        return apply.apply_steps(layer_ref, addition, form)

    def exchange_steps(
        self, layer_ref: LayerRef, layer_id: str, shown: Bounds, addition: Addition
    ) -> Generator[None, None, None]:
        return exchange.exchange_steps(layer_ref, layer_id, shown, addition)

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


def _open(document_id: str) -> Document:
    return next(d for d in documents.open_documents() if documents.id_of(d) == document_id)


def _described() -> str:
    try:
        document = documents.active_document()
    except CanvasRefusal:
        return "Document: none"
    return (
        f"Document: {document.width()} × {document.height()} px, {document.colorModel()} {document.colorDepth()}, "
        f"{document.colorProfile()}"
    )
