"""The drawings of the second edition's things as sprites: scaled, turned, mirrored, repainted, in a way of painting."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np
from PIL import Image

from ..art import Sprite, draw, repaint
from ..edition import SECOND, SECOND_FOLDER
from ..scene import Thing
from .styles import soften

_KEPT = 600  # sprites: there are far too many to keep them all
_VIVID, _REACH = 70, 40  # of 255; degrees: what counts as paint, as in the first edition
_UNFIT = {("bus", 3), ("umbrella", 5)}  # its windows are of one hue, its paint is of many
_MIN_PAINT = 0.3  # share of a drawing that has to be paint of one hue before it can be shown in another colour


@dataclass
class DrawingCache:
    """Sprites for pictures of one size, the last few hundred of them kept."""

    sprites: dict[tuple[Thing, int, str], Sprite] = field(default_factory=dict)

    def sprite(self, thing: Thing, size: int, style: str) -> Sprite:
        """A thing as it is laid on a picture of `size` px. With a colour it is one of the drawings that take paint."""
        key = (
            Thing(thing.name, 0, 0, thing.scale, thing.colour, thing.degrees, thing.mirrored, thing.drawing),
            size,
            style,
        )
        found = self.sprites.pop(key, None)
        if found is None:
            found = _draw(thing, size, style)
            if len(self.sprites) >= _KEPT:
                del self.sprites[next(iter(self.sprites))]
        self.sprites[key] = found
        return found


def _draw(thing: Thing, size: int, style: str) -> Sprite:
    art = artwork(thing.name, thing.colour, thing.drawing)
    pixels = round(thing.scale * size)
    if style != "plain":
        scale = pixels / max(art.size)
        small = art.resize(tuple(max(1, round(side * scale)) for side in art.size), Image.Resampling.LANCZOS)
        art = soften(small, style, size)
    return draw(art, pixels, thing.degrees, thing.mirrored)


@lru_cache(maxsize=512)
def artwork(name: str, colour: str | None, drawing: int) -> Image.Image:
    """A drawing (RGBA) as it came, or another one that takes paint, in a colour."""
    if colour is None:
        return _load(name, drawing % SECOND.drawings[name])
    painted = paintable(name)
    number, own = painted[drawing % len(painted)]
    wanted = SECOND.hues[colour]
    art = _load(name, number)
    return art if abs((own - wanted + 180) % 360 - 180) < 12 else repaint(art, own, wanted)


@cache
def paintable(name: str) -> tuple[tuple[int, int], ...]:
    """The drawings of a thing that are mostly of one vivid hue, each with that hue in degrees."""
    found = []
    for number in range(SECOND.drawings[name]):
        if (name, number) in _UNFIT:
            continue
        art = _load(name, number)
        hsv = np.asarray(art.convert("RGB").convert("HSV"), np.int32)[np.asarray(art.getchannel("A")) > 128]
        hues = hsv[hsv[:, 1] > _VIVID, 0] * 360 // 256
        counts = np.bincount(hues, minlength=360)
        spread = sum(np.roll(counts, shift) for shift in range(-15, 16))
        own = int(np.argmax(spread))
        share = (np.abs((hues - own + 180) % 360 - 180) < _REACH).sum() / max(1, len(hsv))
        if share >= _MIN_PAINT:
            found.append((number, own))
    return tuple(found)


@lru_cache(maxsize=512)
def _load(name: str, number: int) -> Image.Image:
    with Image.open(SECOND_FOLDER / "drawings" / f"{name}-{number}.webp") as art:
        return art.convert("RGBA")
