"""Keeps the history of edits inside the .kra, as an annotation that Krita saves and reads again."""

from __future__ import annotations

from krita import Document

from ..model.steps import CanvasRefusal
from ..qt import QtCore
from ..translation import tr

KEY = "diffedit/history"
DESCRIPTION = "Edits made with DiffEdit"
LIMIT = 256 * 1024  # bytes: a .kra should not grow by what it remembers


def write_history(document: Document, history: bytes, limit: int = LIMIT) -> None:
    """Replaces the document's history; CanvasRefusal HISTORY_TOO_LARGE leaves the old one as it was."""
    if len(history) > limit:
        sentence = tr(
            "The history is too large to be kept in the file: {size} KiB, at most {limit} KiB.",
            size=-(-len(history) // 1024),
            limit=limit // 1024,
        )
        raise CanvasRefusal("HISTORY_TOO_LARGE", sentence)
    document.setAnnotation(KEY, DESCRIPTION, QtCore.QByteArray(history))


def read_history(document: Document) -> bytes:
    """The document's history; b"" when it has none."""
    return bytes(document.annotation(KEY))
