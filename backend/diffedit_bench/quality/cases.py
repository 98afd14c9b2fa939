"""What is to be edited, and what a perfect edit of it would be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from diffedit_protocol.errors import BadInputError
from numpy.typing import NDArray

if TYPE_CHECKING:
    from diffedit_training.judge import Judge

Picture = NDArray[np.uint8]
Region = NDArray[np.bool_]

KINDS = ("swap", "colour", "background", "delete", "add")
# No word of "an apple on grass" -> "an apple and a pear on grass" says where the pear goes, so no mask is the true one.
DEFAULT_KINDS = KINDS[:4]

_FIRST_SEED = 700_000_000  # far from the seeds on which settings were chosen and the judge was tested
_SEEDS_PER_RUN = 100_000
_NOISE_SEEDS = 2**32  # an edit's request takes no larger seed; a scene does


@dataclass(frozen=True)
class EditCase:
    """One edit to be asked for. Pictures are (H, W, 3) uint8 sRGB, regions (H, W) bool; what is not known is None.

    mask: what a perfect edit has to find. changed: every place where source and target may differ. succeeds: whether
    an edited picture has become what the target text says. ground: where the true edit shows ground that a thing
    covered in the source. thing: where the true edit shows the new thing. seed: what every editor draws its noise from,
    below 2**32.
    """

    name: str
    kind: str
    source: Picture
    source_text: str
    target_text: str
    seed: int
    mask: Region | None = None
    changed: Region | None = None
    target: Picture | None = None
    succeeds: Callable[[Picture], bool] | None = None
    ground: Region | None = None
    thing: Region | None = None


@dataclass(frozen=True)
class Cases:
    """A set of cases by name, each made when it is asked for."""

    names: tuple[str, ...]
    load: Callable[[str], EditCase]

    def __len__(self) -> int:
        return len(self.names)


def bundled_cases(
    count: int, seed: int, size: int, kinds: tuple[str, ...] = DEFAULT_KINDS, judge: Judge | None = None
) -> Cases:
    """The first `count` held-out cases of a seed, `size` px wide and high, the kinds of edit taking turns.

    judge: says whether an edit has succeeded; the scenes are of its edition (default: the first one's, which ships).
    A longer run begins with the cases of a shorter one. Raises BadInputError for a seed below 0.
    """
    if seed < 0:
        raise BadInputError(f"--seed must be 0 or more, not {seed}.")
    from diffedit_training.judge import Judge
    from diffedit_training.scenes.scenes import Kind, Pair, Scenes

    judging = judge or Judge.load()
    scenes = Scenes(size, "heldout", judging.edition)
    numbered: dict[str, tuple[int, Kind]] = {
        f"{kinds[i % len(kinds)]}-{i:04d}": (_FIRST_SEED + seed * _SEEDS_PER_RUN + i, kinds[i % len(kinds)])  # type: ignore[misc]
        for i in range(count)
    }

    def load(name: str) -> EditCase:
        case_seed, kind = numbered[name]
        pair: Pair = scenes.pair(case_seed, kind)
        return EditCase(
            name=name,
            kind=kind,
            source=pair.source,
            source_text=pair.source_caption,
            target_text=pair.target_caption,
            seed=case_seed % _NOISE_SEEDS,
            mask=pair.mask,
            changed=pair.changed,
            target=pair.target,
            succeeds=lambda edited: judging.success(pair, edited),
            ground=pair.ground,
            thing=pair.thing,
        )

    return Cases(tuple(numbered), load)
