"""What edits resulted in: a mask whose threshold can still be moved, and variations that wait to be chosen."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from diffedit_protocol.messages import Bounds

from diffedit_protocol.messages import Bounds
from ..qt import QtGui
from .inputs import EditInputs, describe

if TYPE_CHECKING:
    from ..canvas.fingerprint import Fingerprint
    from ..canvas.layers import LayerRef

SAMPLES = 1 << 16  # of a soft map: the share that a threshold selects is then known to a fraction of a percent


@dataclass(frozen=True)
class FoundMask:
    """A mask that was found from the words, as a soft map of `area` of the image.

    `soft_map`: 0..255, one byte per px, row by row; a pixel is in the mask from `round(threshold × 255)` on.
    `threshold`: what the backend chose or was told. `fingerprint`: of the layer as it was searched. `selection`: what
    limited the search, a plane of `area`, or None.
    """

    ref: LayerRef
    area: Bounds
    soft_map: bytes
    threshold: float
    fingerprint: Fingerprint
    selection: bytes | None = None

    @cached_property
    def _counts(self) -> Counter[int]:
        """How often each value stands among evenly spread samples."""
        stride = max(1, len(self.soft_map) // SAMPLES) | 1  # odd: no column of a power of two is preferred
        return Counter(self.soft_map[::stride])

    def share(self, threshold: float) -> float:
        """How much of the area is in the mask at `threshold`, 0 to 1."""
        level = round(threshold * 255)
        return sum(n for value, n in self._counts.items() if value >= level) / max(1, self._counts.total())


@dataclass(frozen=True)
class Variation:
    """One result: `pixels` are RGBA, 8-bit sRGB, straight alpha, of `area` of the image; `mask` is a plane of `area`.

    `state`: "waiting", "shown" (in the document, not accepted) or "added". `layer_id`: of the layer that shows it.
    """

    ref: LayerRef
    area: Bounds
    pixels: bytes
    mask: bytes
    inputs: EditInputs
    seed: int
    thumbnail: QtGui.QImage
    state: str = "waiting"
    layer_id: str = ""

    @property
    def name(self) -> str:
        """What its layer is called."""
        return describe(self.inputs.source, self.inputs.target, self.seed)


def bounds_in_image(area: Bounds, bounds: Bounds) -> Bounds:
    """Bounds in px of the sent picture, which was `area` of the image, as an area of the image."""
    return Bounds(area.x + bounds.x, area.y + bounds.y, bounds.width, bounds.height)


def crop(plane: bytes, width: int, bounds: Bounds) -> bytes:
    """The part `bounds` of a plane that is `width` px wide."""
    first = bounds.y * width + bounds.x
    return b"".join(plane[start : start + bounds.width] for start in range(first, first + bounds.height * width, width))
