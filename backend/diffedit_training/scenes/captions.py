"""Sentences for scenes, and all the words that they can hold."""

from __future__ import annotations

from collections.abc import Sequence

from .edition import FIRST, SECOND, Edition
from .scene import Thing

_OPENINGS = ("", "", "", "a photo of ", "a picture of ")

# Beside what captions say: small words that people write around a wish. They are known to the tokenizer one by one.
_EXTRA_WORDS = (
    *("the", "this", "with", "and", "or", "is", "of", "at", "by", "no", "not", "there", "one", "two", "three"),
    *("big", "small", "little", "white", "black", "brown"),
)


def caption(things: Sequence[Thing], ground: str, style: int) -> str:
    """ "a photo of a red car and a horse on grass". `style` picks the opening and the order of the things.

    A thing is named with its colour where the scene gives it one (None: as drawn, and not named). The words of the
    second edition hold those of the first.
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
    return f"{opening}{listed} {SECOND.phrases[ground]}"


def _noun_phrase(thing: Thing) -> str:
    words = thing.name if thing.colour is None else f"{thing.colour} {thing.name}"
    return ("an " if words[0] in "aeiou" else "a ") + words


def vocabulary(edition: Edition = FIRST) -> tuple[str, ...]:
    """Every word of an edition's captions and the extra words, sorted."""
    words = {*edition.things, *edition.hues, *_EXTRA_WORDS}
    words.update(colour for colours in edition.colours.values() for colour in colours)
    for phrase in (*edition.phrases.values(), *_OPENINGS, "a an nothing"):
        words.update(phrase.split())
    return tuple(sorted(words))
