"""The selection mask that is active, drawn in red: Krita draws none, and one would paint on it blindly."""

from __future__ import annotations

import zlib

from krita import Document, Node

from ..model.steps import CanvasRefusal
from ..qt import sip
from .documents import active_document, id_of
from .layers import canvas_area, is_busy
from .mask_shape import grey_image, thinned
from .overlay import MaskOverlay

SHOWN_SIDE = 1024  # px: of a larger mask every second, third ... px is drawn


class ActiveMaskOverlay:
    """`look()` is called some times a second: Krita has no signal for a mask that becomes active or is painted on."""

    def __init__(self) -> None:
        self._overlay: MaskOverlay | None = None
        self._shown = ("", "", 0)  # document, mask, checksum
        self._left = ("", "")  # what the artist sent away with Esc

    def look(self) -> None:
        """Draws the active selection mask as it is now, or takes the overlay away where there is none."""
        try:
            document = active_document()
        except CanvasRefusal:
            self.take_away()
            return
        mask = document.activeNode()
        if mask is None or mask.type() != "selectionmask" or not mask.visible() or _is_global(mask):
            self.take_away()
            self._left = ("", "")
            return
        ids = (id_of(document), str(mask.uniqueId().toString()))
        if ids == self._left or is_busy(document):
            return
        self._draw(document, mask, ids)

    def take_away(self) -> None:
        if self._overlay is not None and not sip.isdeleted(self._overlay):
            self._overlay.take_away()
        self._overlay, self._shown = None, ("", "", 0)

    def _draw(self, document: Document, mask: Node, ids: tuple[str, str]) -> None:
        selection, area = mask.selection(), canvas_area(document)
        plane = b"" if selection is None else bytes(selection.pixelData(0, 0, area.width, area.height))
        shown = (*ids, zlib.crc32(plane))
        there = self._overlay is not None and not sip.isdeleted(self._overlay) and self._overlay.isVisible()
        if shown == self._shown and there:
            return
        if ids != self._shown[:2] or not there:
            self.take_away()
        try:
            if self._overlay is None:
                self._overlay = MaskOverlay(document, lambda: self._leave(ids))
        except CanvasRefusal:
            return  # no canvas to draw on: nothing depends on it
        if plane:
            step = -(-max(area.width, area.height) // SHOWN_SIDE)
            thin, width, height = thinned(plane, area.width, area.height, step)
            self._overlay.show_mask(grey_image(thin, width, height), area)
        self._shown = shown

    def _leave(self, ids: tuple[str, str]) -> None:
        self._left = ids
        self.take_away()


def _is_global(mask: Node) -> bool:
    """Whether it is the picture's own selection, which Krita shows by its marching ants."""
    parent = mask.parentNode()
    return parent is None or parent.parentNode() is None
