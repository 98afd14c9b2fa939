"""Which documents are open, and which of them the artist looks at."""

from __future__ import annotations

from krita import Document, Krita, Node

from ..model.steps import CanvasRefusal
from ..translation import tr

_open: list[tuple[Document, str]] = []
_count = 0


def active_document() -> Document:
    """The document in front. CanvasRefusal NO_DOCUMENT when there is none."""
    document = Krita.instance().activeDocument()
    # After a close Krita may still hand out a wrapper of the document: it has no root any more.
    if document is None or document.rootNode() is None:
        raise CanvasRefusal("NO_DOCUMENT", tr("Open a picture first."))
    return document


def selected_nodes() -> list[Node]:
    """What is selected in the layer list of the window in front."""
    window = Krita.instance().activeWindow()
    view = None if window is None else window.activeView()
    return [] if view is None else list(view.selectedNodes())


def open_documents() -> list[Document]:
    return [document for document in Krita.instance().documents() if document.rootNode() is not None]


def id_of(document: Document) -> str:
    """An id of an open document, the same as long as it is open and given to no other one.

    The id of its root would not do: *Create Copy from Current Image* makes a document with the same one, *Flatten
    Image* gives the same document another.
    """
    global _count
    _open[:] = [(known, key) for known, key in _open if known.rootNode() is not None]
    for known, key in _open:
        if known == document:
            return key
    _count += 1
    _open.append((document, f"document-{_count}"))
    return _open[-1][1]


def krita_version() -> str:
    return str(Krita.instance().version())
