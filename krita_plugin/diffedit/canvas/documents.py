"""Which documents are open, which of them the artist looks at, and the history of edits that each keeps in its .kra, as
an annotation that Krita saves and reads again."""

from __future__ import annotations

from krita import Document, Krita, Node, Window

from ..model.steps import CanvasRefusal
from ..qt import QtCore, QtWidgets
from ..translation import tr

_open: list[tuple[Document, str]] = []
_count = 0
_last_window: QtWidgets.QWidget | None = None


def window_in_front() -> Window | None:
    """The window that the artist used last. Where another program is in front Krita itself names its first window."""
    global _last_window
    krita = Krita.instance()
    if QtWidgets.QApplication.activeWindow() is None and _last_window is not None:
        for window in krita.windows():
            if window.qwindow() == _last_window:
                return window
    window = krita.activeWindow()
    _last_window = None if window is None else window.qwindow()
    return window


def document_in(qwindow: QtWidgets.QWidget) -> Document | None:
    """The document that is in front in Krita's window `qwindow`; None without one, or where that is none of Krita's."""
    for window in Krita.instance().windows():
        if window.qwindow() == qwindow:
            view = window.activeView()
            document = None if view is None else view.document()
            return None if document is None or document.rootNode() is None else document
    return None


def active_document() -> Document:
    """The document in front. CanvasRefusal NO_DOCUMENT when there is none."""
    window, document = window_in_front(), Krita.instance().activeDocument()
    if window is not None and len(Krita.instance().windows()) > 1:
        document = document_in(window.qwindow())
    # After a close Krita may still hand out a wrapper of the document: it has no root any more.
    if document is None or document.rootNode() is None:
        raise CanvasRefusal("NO_DOCUMENT", tr("Open a picture first."))
    return document


def selected_nodes() -> list[Node]:
    """What is selected in the layer list of the window in front."""
    window = window_in_front()
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


HISTORY_KEY = "diffedit/history"
HISTORY_DESCRIPTION = "Edits made with DiffEdit"
HISTORY_LIMIT = 256 * 1024  # bytes: a .kra should not grow by what it remembers


def write_history(document: Document, history: bytes, limit: int = HISTORY_LIMIT) -> None:
    """Replaces the document's history; CanvasRefusal HISTORY_TOO_LARGE leaves the old one as it was."""
    if len(history) > limit:
        sentence = tr(
            "The history is too large to be kept in the file: {size} KiB, at most {limit} KiB.",
            size=-(-len(history) // 1024),
            limit=limit // 1024,
        )
        raise CanvasRefusal("HISTORY_TOO_LARGE", sentence)
    document.setAnnotation(HISTORY_KEY, HISTORY_DESCRIPTION, QtCore.QByteArray(history))


def read_history(document: Document) -> bytes:
    """The document's history; b"" when it has none."""
    return bytes(document.annotation(HISTORY_KEY))
