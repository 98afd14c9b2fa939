"""What a scene is made of, as numbers; its caption, and all the words that captions can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .art import CLASSES, COLOURS, HUES
from .backgrounds import PHRASES


@dataclass(frozen=True)
class Thing:
    """One object. `x`, `y`: its centre, `scale`: its longer side, all as shares of the picture's side."""

    name: str
    x: float
    y: float
    scale: float
    colour: str | None = None
    degrees: int = 0
    mirrored: bool = False

    def box(self, size: int, margin: float = 1.1) -> tuple[int, int, int, int]:
        """The square around the thing in px (left, top, right, bottom), `margin` times its scale."""
        half = self.scale * size * margin / 2
        x, y = self.x * size, self.y * size
        return round(x - half), round(y - half), round(x + half), round(y + half)


@dataclass(frozen=True)
class Scene:
    """Everything that is to be seen: a ground and the things on it, in the order of the caption."""

    ground: str
    texture: int
    mirrored: bool
    light: float
    things: tuple[Thing, ...]


_OPENINGS = ("", "", "", "a photo of ", "a picture of ")

# Beside what captions say: small words that people write around a wish. They are known to the tokenizer one by one.
_EXTRA_WORDS = (
    *("the", "this", "with", "and", "or", "is", "of", "at", "by", "no", "not", "there", "one", "two", "three"),
    *("big", "small", "little", "white", "black", "brown"),
)


def caption(things: Sequence[Thing], ground: str, style: int) -> str:
    """ "a photo of a red car and a horse on grass". `style` picks the opening and the order of the things.

    A thing is named with its colour where the scene gives it one (None: as drawn, and not named).
    """
    opening = _OPENINGS[style % len(_OPENINGS)]
    named = [_noun_phrase(thing) for thing in things]
    if style // 8 % 2:
        named.reverse()
    if not named:
        listed = "nothing"
    elif len(named) == 1:
        listed = named[0]
    else:
        listed = ", ".join(named[:-1]) + " and " + named[-1]
    return f"{opening}{listed} {PHRASES[ground]}"


def _noun_phrase(thing: Thing) -> str:
    words = thing.name if thing.colour is None else f"{thing.colour} {thing.name}"
    return ("an " if words[0] in "aeiou" else "a ") + words


def vocabulary() -> tuple[str, ...]:
    """Every word of the captions and the extra words, sorted."""
    words = {*CLASSES, *HUES, *_EXTRA_WORDS}
    words.update(colour for colours in COLOURS.values() for colour in colours)
    for phrase in (*PHRASES.values(), *_OPENINGS, "a an nothing"):
        words.update(phrase.split())
    return tuple(sorted(words))
