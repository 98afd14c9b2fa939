"""Which documents are open, and which of them the artist looks at."""

from __future__ import annotations

from krita import Document, Krita

from ..translation import tr
from .refusal import CanvasRefusal


def active_document() -> Document:
    """The document in front. CanvasRefusal NO_DOCUMENT when there is none."""
    document = Krita.instance().activeDocument()
    # After a close Krita may still hand out a wrapper of the document: it has no root any more.
    if document is None or document.rootNode() is None:
        raise CanvasRefusal("NO_DOCUMENT", tr("Open a picture first."))
    return document


def open_documents() -> list[Document]:
    return [document for document in Krita.instance().documents() if document.rootNode() is not None]


def id_of(document: Document) -> str:
    """The id of its root: the same while it is open and after it was saved and opened again."""
    return str(document.rootNode().uniqueId().toString())


def krita_version() -> str:
    return str(Krita.instance().version())
