"""What the canvas cannot do for the artist, said in a sentence that names the thing and the way out."""

from __future__ import annotations

SENTENCES = {
    "NO_DOCUMENT": "Open a picture first.",
    "NO_LAYER": "Choose a paint layer: no layer is active in '{document}'.",
    "LAYER_KIND": "Choose a paint layer: '{layer}' is a {kind}.",
    "LOCKED": "'{layer}' is locked. Unlock it, or choose another layer.",
    "HIDDEN": "'{layer}' is hidden. Show it, or choose another layer.",
    "EMPTY": "'{layer}' is empty. Choose a layer with something on it.",
    "NOTHING_SELECTED": "'{layer}' has nothing inside the selection. Choose another layer, or deselect.",
    "DOCUMENT_GONE": "'{document}' was closed; the result is kept in History.",
    "LAYER_GONE": "'{layer}' was deleted; the result is kept in History.",
    "NOT_ADDED": "Krita did not add the layer to '{document}'; the result is kept in History.",
    "HISTORY_TOO_LARGE": "The history is too large to be kept in the file: {size} KiB, at most {limit} KiB.",
}
LAYER_KINDS = {
    "adjustmentlayer": "filter layer",
    "generatorlayer": "fill layer",
    "filllayer": "fill layer",
    "filterlayer": "filter layer",
}


class CanvasRefusal(Exception):
    """`code` is a key of SENTENCES; `template` and `names` are there for a translation, `sentence` is in English."""

    def __init__(self, code: str, **names: object) -> None:
        self.code = code
        self.template = SENTENCES[code]
        self.names = names
        super().__init__(self.sentence)

    @property
    def sentence(self) -> str:
        return self.template.format(**self.names)
