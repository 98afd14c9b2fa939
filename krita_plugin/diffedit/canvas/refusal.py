"""What the canvas cannot do for the artist, said in a sentence that names the thing and the way out."""

from __future__ import annotations


class CanvasRefusal(Exception):
    """`sentence` is for the artist, in his language; `code` for programs:

    NO_DOCUMENT, NO_LAYER: nothing is open or no layer active · LAYER_KIND, LOCKED, HIDDEN, EMPTY: the layer cannot be
    worked with · NOTHING_SELECTED: it has nothing inside the selection · DOCUMENT_GONE, LAYER_GONE: closed or deleted
    meanwhile · NOT_ADDED: Krita did not add the layer · HISTORY_TOO_LARGE: not kept in the file ·
    NO_CANVAS: the active view shows none that is known.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
