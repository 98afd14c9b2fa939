"""Who edits: what the benchmark asks of an editor, and what it gets back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .cases import EditCase, Picture

Plane = NDArray[np.uint8]

DEFAULT_RATIO = 0.8  # the encoding ratio that the paper, the library and `EditRequest` start from


@dataclass(frozen=True)
class Edited:
    """One edit. Pictures are (H, W, 3), planes (H, W), all uint8 and of the source's size.

    delivered: the picture that a user gets. decoded: what the decoder made, before anything of the source was pasted
    back; None where there is no decoder. mask: where the edit was allowed. soft_map: the map that the mask was cut
    from; None where a mask is all there is. evaluations: samples through the UNet. seconds: wall time of the edit,
    the model being loaded; cpu_seconds: the process's time on all cores.
    """

    delivered: Picture
    mask: Plane
    soft_map: Plane | None = None
    decoded: Picture | None = None
    evaluations: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


class Editor(Protocol):
    """Something that edits pictures by words.

    takes_ratio: whether the encoding ratio changes its edits, so that a curve can be drawn over it.
    """

    name: str
    takes_ratio: bool

    def edit(self, case: EditCase, ratio: float) -> Edited:
        """Edit the case at an encoding ratio in (0, 1]."""
        ...


def pasted(case: EditCase, edited: Edited) -> Picture:
    """The decoder's picture laid over the source with the mask: bit for bit the source where the mask is 0."""
    if edited.decoded is None:
        return edited.delivered
    weight = edited.mask[..., None].astype(np.float64) / 255
    return np.rint(case.source + weight * (edited.decoded.astype(np.float64) - case.source)).astype(np.uint8)
