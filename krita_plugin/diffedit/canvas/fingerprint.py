"""Notices that a layer is not any more as it was captured: checksums of its strips, then and now.

Krita has no signal for changed pixels. One strip of a megapixel is read and summed in some 5 ms, so the layer is looked
at strip by strip, a few at a time, by whoever shows something that holds only as long as the layer stays the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from krita import Node

from ..model.ports import Fingerprint
from ..qt import QtCore

OWN_PIXELS = ("paintlayer",)  # of all others Krita gives what they show
CHANGING_MASKS = ("transparencymask", "filtermask", "transformmask", "colorizemask")  # their layer shows otherwise


def reader(layer: Node) -> Callable[[int, int, int, int], QtCore.QByteArray]:
    """What reads the pixels of `layer`: (x, y, width, height) of the image -> bytes in its own colour space."""
    own = layer.type() in OWN_PIXELS and not any(child.type() in CHANGING_MASKS for child in layer.childNodes())
    return layer.pixelData if own else layer.projectionPixelData


def style_of(layer: Node) -> str:
    """The layer's style (drop shadow, stroke, glow) as Krita writes it; "" for none. No pixels of a layer show it."""
    return str(layer.layerStyleToAsl())


class ChangeWatch:
    """Looks whether a layer still is as it was when `fingerprint` was taken."""

    def __init__(self, fingerprint: Fingerprint) -> None:
        self._sums = fingerprint.sums
        self._style = fingerprint.style
        self._restyled = False
        self._strips = list(fingerprint.area.strips(fingerprint.strip_pixels))
        self._next = 0
        self._changed: set[int] = set()

    @property
    def known(self) -> bool:
        """Whether any strip, or the layer's style, was another when it was last looked at."""
        return bool(self._changed) or self._restyled

    def look(self, layer: Node, dx: int, dy: int, pixels: int) -> bool:
        """Looks at the next strips, about `pixels` px in all; whether any strip is known to be another now.

        (dx, dy): how far the layer was moved since. A strip that is as it was again, by an undo, counts as unchanged
        when its turn comes.
        """
        read = reader(layer)
        self._restyled = style_of(layer) != self._style
        while pixels > 0:
            strip = self._strips[self._next].moved(dx, dy)
            now = zlib.crc32(read(strip.x, strip.y, strip.width, strip.height))
            if now == self._sums[self._next]:
                self._changed.discard(self._next)
            else:
                self._changed.add(self._next)
            pixels -= strip.pixels
            self._next += 1
            if self._next == len(self._strips):
                self._next = 0
                break
        return self.known
