"""The things of the scenes: Noto emoji, scaled, turned, mirrored and recoloured on demand, each result cached."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .scene import Thing

ARTWORK = Path(__file__).parent / "artwork"

CLASSES = ("apple", "pear", "banana", "orange", "horse", "zebra", "cat", "dog", "car", "bus", "tree", "flower")

# Hue in degrees. The first colour of a class is the one that its artwork has.
HUES = {"red": 2, "pink": 331, "yellow": 48, "green": 105, "blue": 218}
COLOURS = {
    "apple": ("red", "green"),
    "car": ("red", "blue", "green", "yellow"),
    "flower": ("pink", "red", "blue", "yellow"),
}

_HUE_REACH = 40  # degrees around the artwork's own hue that count as its paint; leaves and wheels keep their colours
_MIN_PAINT_SATURATION = 70  # of 255: greys and glass are no paint
_HALVED_UP_TO = 112  # px: smaller sprites are drawn from the artwork at half its size, which is quicker
_FAINT = 24  # of 255: softer edge pixels are dropped, so that "alpha > 0" is a crisp mask


@dataclass(frozen=True)
class Sprite:
    """One thing, ready to be laid on a picture.

    rgb: (h, w, 3) uint16, sRGB times alpha; alpha: (h, w, 1) uint16 in 0..255.
    """

    rgb: NDArray[np.uint16]
    alpha: NDArray[np.uint16]


@dataclass
class SpriteCache:
    """Sprites for pictures of one size; the scenes quantise scale and angle, so that a few thousand sprites are all."""

    sprites: dict[tuple[str, str | None, int, int, bool], Sprite] = field(default_factory=dict)

    def sprite(self, thing: Thing, size: int) -> Sprite:
        """A thing as it is laid on a picture of `size` px: its longer side is scale times size before it is turned."""
        key = (thing.name, thing.colour, round(thing.scale * size), thing.degrees, thing.mirrored)
        if key not in self.sprites:
            name, colour, pixels, *_ = key
            self.sprites[key] = draw(_artwork(name, colour, halved=pixels <= _HALVED_UP_TO), *key[2:])
        return self.sprites[key]


def draw(art: Image.Image, pixels: int, degrees: int, mirrored: bool) -> Sprite:
    """Artwork (RGBA), its longer side `pixels` long, then turned by `degrees` (counter-clockwise)."""
    if mirrored:
        art = art.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    scale = pixels / max(art.size)
    turned = art.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    size = (max(1, round(turned.width * scale)), max(1, round(turned.height * scale)))
    rgba = np.asarray(
        turned.resize(size, Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BILINEAR), np.uint16
    )
    alpha = np.where(rgba[..., 3:] < _FAINT, 0, rgba[..., 3:]).astype(np.uint16)
    return Sprite(rgba[..., :3] * alpha, alpha)


@lru_cache(maxsize=128)
def _artwork(name: str, colour: str | None, halved: bool) -> Image.Image:
    """The artwork, cropped to what is visible, its paint turned to `colour` (None: as drawn)."""
    if halved:
        return _artwork(name, colour, halved=False).reduce(2)
    art = Image.open(ARTWORK / f"{name}.png").convert("RGBA")
    art = art.crop(art.getchannel("A").getbbox())
    if colour is None or colour == COLOURS[name][0]:
        return art
    return repaint(art, HUES[COLOURS[name][0]], HUES[colour])


def repaint(art: Image.Image, own: int, wanted: int) -> Image.Image:
    """Artwork (RGBA) whose paint of the hue `own` has the hue `wanted`, both in degrees."""
    hsv = np.array(art.convert("RGB").convert("HSV"), np.int32)
    offset = (hsv[..., 0] * 360 // 256 - own + 180) % 360 - 180
    paint = (np.abs(offset) < _HUE_REACH) & (hsv[..., 1] > _MIN_PAINT_SATURATION)
    hsv[..., 0] = np.where(paint, ((wanted + offset // 2) % 360) * 256 // 360, hsv[..., 0])
    rgb = Image.fromarray(hsv.astype(np.uint8), "HSV").convert("RGB")
    return Image.merge("RGBA", (*rgb.split(), art.getchannel("A")))
