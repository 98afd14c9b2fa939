"""The editions of the scenes: what there is to be seen, and the words for it.

The first is the world of the bundled model and of the benchmarks' figures; it never changes, to the bit. The second has
more things, several drawings of each, photographs among the grounds, and ways of painting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .art import CLASSES, COLOURS, HUES
from .backgrounds import PHRASES

EDITIONS = (1, 2)
SECOND_FOLDER = Path(__file__).parent / "second"

# Name of a ground of the second edition alone -> the words that place a thing on it.
_NEW_PHRASES = {
    "gravel": "on gravel",
    "stones": "on stones",
    "wood": "on wood",
    "marble": "on marble",
    "paper": "on paper",
    "bark": "on bark",
    "green": "on a green background",
}
_NEW_COLOURS = {
    "bus": ("yellow", "red", "blue", "green"),
    "balloon": ("red", "blue", "green", "yellow"),
    "umbrella": ("blue", "red", "green", "yellow"),
}


@dataclass(frozen=True, eq=False)
class Edition:
    """One world of scenes.

    things: names of what can be shown. colours: the colours that some of them come in; named in a caption where the
    scene gives one. hues: those colours, in degrees. phrases: name of a ground -> the words that place a thing on it.
    drawings: how many drawings of each thing there are. own_colour: whether a thing without a colour of its own in the
    scene is drawn in the first of its colours (else in whatever colour the drawing has).
    """

    number: int
    things: tuple[str, ...]
    colours: Mapping[str, tuple[str, ...]]
    hues: Mapping[str, int]
    phrases: Mapping[str, str]
    drawings: Mapping[str, int]
    own_colour: bool

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process has its own."""
        return edition, (self.number,)

    @property
    def grounds(self) -> tuple[str, ...]:
        return tuple(self.phrases)


FIRST = Edition(1, CLASSES, COLOURS, HUES, PHRASES, MappingProxyType(dict.fromkeys(CLASSES, 1)), own_colour=True)


def _second() -> Edition:
    drawings = {
        name: len(sources) for name, sources in json.loads((SECOND_FOLDER / "drawings.json").read_text()).items()
    }
    return Edition(
        2,
        tuple(drawings),
        MappingProxyType(COLOURS | _NEW_COLOURS),
        HUES,
        MappingProxyType(PHRASES | _NEW_PHRASES),
        MappingProxyType(drawings),
        own_colour=False,
    )


SECOND = _second()


def edition(number: int) -> Edition:
    """The edition of a number; ValueError for one that there is not."""
    if number not in EDITIONS:
        raise ValueError(f"There is no edition {number} of the scenes; there are {', '.join(map(str, EDITIONS))}.")
    return FIRST if number == 1 else SECOND
