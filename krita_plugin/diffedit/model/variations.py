"""The results of an edit that wait to be chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diffedit_protocol.messages import Bounds

from ..qt import QtGui
from .inputs import EditInputs
from .ports import LayerRef
from .texts import layer_name

VariationState = Literal["waiting", "shown", "added"]


@dataclass(frozen=True)
class Variation:
    """One result: `pixels` are RGBA, 8-bit sRGB, straight alpha, of `area` of the image; `mask` is a plane of `area`.

    `source_alpha`: what was sent had this alpha there, None where it was opaque.

    `job`: which brought it. `changed`: see `Addition`.

    `state`: "waiting", "shown" (in the document, not accepted) or "added". `layer_id`: of the layer that shows it.
    `undone`: its layer was taken away, by an undo for example; the state that comes back with it.
    """

    layer_ref: LayerRef
    area: Bounds
    pixels: bytes
    mask: bytes
    inputs: EditInputs
    seed: int
    thumbnail: QtGui.QImage
    source_alpha: bytes | None = None
    changed: bytes | None = None
    state: VariationState = "waiting"
    layer_id: str = ""
    undone: VariationState | None = None
    job: str = ""

    @property
    def undecided(self) -> bool:
        """Whether it was neither accepted, ever, nor dropped."""
        return self.state != "added" and self.undone != "added"

    @property
    def result(self) -> tuple[str, int]:
        """Which result it is, whatever became of it: the job that brought it, and its seed."""
        return self.job, self.seed

    @property
    def name(self) -> str:
        """What its layer is called."""
        return layer_name(self.inputs.source, self.inputs.target, self.seed)


def bounds_in_image(area: Bounds, bounds: Bounds) -> Bounds:
    """Bounds in px of the sent picture, which was `area` of the image, as an area of the image."""
    return Bounds(area.x + bounds.x, area.y + bounds.y, bounds.width, bounds.height)


def crop(plane: bytes, width: int, bounds: Bounds, channels: int = 1) -> bytes:
    """The part `bounds` of a plane, or of pixels of `channels` bytes, that is `width` px wide."""
    first, step, size = (bounds.y * width + bounds.x) * channels, width * channels, bounds.width * channels
    return b"".join(plane[start : start + size] for start in range(first, first + bounds.height * step, step))
