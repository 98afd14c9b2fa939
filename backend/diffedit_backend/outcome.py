"""What an edit results in. No torch here: the command line and the tests of a remote edit use it without a model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from diffedit_protocol.messages import Bounds, Stage

from .imaging.area import cut
from .types import Pixels, Plane


@dataclass(frozen=True)
class Edit:
    """One variation: `pixels` (h, w, 4) uint8, straight alpha, of the outcome's bounds; alpha = mask x source alpha."""

    seed: int
    pixels: Pixels


@dataclass(frozen=True)
class EditWarning:
    """Something that the artist should know, though the edit succeeded."""

    code: str
    sentence: str


@dataclass(frozen=True)
class EditOutcome:
    """`mask`, `soft_map`: (H, W) uint8 of the picture's size. `soft_map` is None when the caller's mask was used.

    mask = feather(grow(soft_map >= round(255 * threshold))) * selection, see `diffedit.mask`. `bounds`: where mask > 0.
    `evaluations`: samples through the UNet. `seconds`: by stage. `ground`: the soft map is that of a ground.
    """

    mask: Plane
    soft_map: Plane | None
    threshold: float
    bounds: Bounds
    edits: tuple[Edit, ...] = ()
    evaluations: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[EditWarning, ...] = ()
    ground: bool = False


def paste(picture: Pixels, outcome: EditOutcome, index: int = 0) -> Pixels:
    """The picture (H, W, 3 or 4) with one edit laid in: equal bit for bit outside the mask, its alpha everywhere."""
    result = picture.copy()
    if outcome.bounds.empty:
        return result
    colours = cut(result, outcome.bounds)[..., :3]
    share = cut(outcome.mask, outcome.bounds)[..., None].astype(np.float32) / 255
    edited = outcome.edits[index].pixels[..., :3]
    colours[...] = np.rint(colours + share * (edited.astype(np.float32) - colours))
    return result


class Stopwatch:
    """Sums what `measure(stage)` blocks take, by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
