"""The grounds of the scenes, drawn from noise: the same texture number gives the same ground at every size."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Name of the ground -> the words that place a thing on it.
PHRASES = {
    "grass": "on grass",
    "sand": "on sand",
    "water": "on water",
    "snow": "on snow",
    "bricks": "on bricks",
    "sky": "in the sky",
    "blue": "on a blue background",
    "pink": "on a pink background",
    "yellow": "on a yellow background",
    "gray": "on a gray background",
}
BACKGROUNDS = tuple(PHRASES)
TEXTURES = 64  # different textures of every ground

_PLAIN = {"blue": (66, 84, 196), "pink": (244, 164, 194), "yellow": (244, 214, 84), "gray": (140, 140, 142)}
# Two ends of a colour ramp, dark and light, sRGB.
_RAMPS = {
    "grass": ((52, 112, 36), (116, 176, 70)),
    "sand": ((206, 166, 108), (240, 214, 162)),
    "water": ((22, 98, 158), (72, 164, 206)),
    "snow": ((206, 218, 234), (252, 253, 255)),
    "bricks": ((150, 72, 58), (184, 98, 78)),
    "sky": ((92, 168, 232), (240, 247, 254)),
}

Plane = NDArray[np.float32]


@lru_cache(maxsize=1024)
def background(name: str, texture: int, size: int) -> NDArray[np.uint8]:
    """The ground `name`: (size, size, 3) uint8 sRGB, read-only. `texture` in 0..TEXTURES-1 picks one of its looks."""
    rng = np.random.default_rng((BACKGROUNDS.index(name), texture))
    if name in _PLAIN:
        pixels = plain(rng, size, _PLAIN[name])
    elif name == "bricks":
        pixels = _bricks(rng, size)
    else:
        pixels = ramp(_SHADES[name](rng, size), *_RAMPS[name])
    result = pixels.clip(0, 255).round().astype(np.uint8)
    result.flags.writeable = False
    return result


def _noise(rng: np.random.Generator, size: int, rows: int, columns: int) -> Plane:
    """Smooth noise with `rows` x `columns` knots, mean 0, standard deviation about 1: (size, size)."""
    knots = rng.standard_normal((rows, columns)).astype(np.float32)
    return np.asarray(Image.fromarray(knots).resize((size, size), Image.Resampling.BICUBIC), np.float32)


def _axes(size: int) -> tuple[Plane, Plane]:
    """Rows and columns in 0..1, pixel centres."""
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size
    return np.repeat(centres[:, None], size, 1), np.repeat(centres[None, :], size, 0)


def ramp(shade: Plane, dark: tuple[int, int, int], light: tuple[int, int, int]) -> Plane:
    """`shade` in 0..1 -> colours between `dark` and `light`: (size, size, 3)."""
    weight = shade.clip(0, 1)[..., None]
    return np.asarray(dark, np.float32) * (1 - weight) + np.asarray(light, np.float32) * weight


def _grass(rng: np.random.Generator, size: int) -> Plane:
    return 0.5 + 0.12 * _noise(rng, size, 12, 26) + 0.10 * _noise(rng, size, 4, 4)


def _sand(rng: np.random.Generator, size: int) -> Plane:
    return 0.5 + 0.10 * _noise(rng, size, 22, 22) + 0.12 * _noise(rng, size, 6, 2)


def _water(rng: np.random.Generator, size: int) -> Plane:
    y, x = _axes(size)
    bend = 0.35 * np.sin(2 * np.pi * (x * rng.uniform(1, 2) + rng.random()))
    return (0.5 + 0.3 * np.sin(2 * np.pi * (y * rng.uniform(4, 6) + bend + rng.random()))).astype(np.float32)


def _snow(rng: np.random.Generator, size: int) -> Plane:
    return 0.6 + 0.2 * _noise(rng, size, 6, 5) + 0.05 * _noise(rng, size, 18, 18)


def _sky(rng: np.random.Generator, size: int) -> Plane:
    y, _ = _axes(size)
    clouds = np.clip(_noise(rng, size, 7, 5) - 0.3, 0, 2)
    return (0.4 * y + 0.35 * clouds).astype(np.float32)


_SHADES = {"grass": _grass, "sand": _sand, "water": _water, "snow": _snow, "sky": _sky}


def _bricks(rng: np.random.Generator, size: int) -> Plane:
    """Courses of bricks of one size, each brick a shade of its own, with light joints."""
    courses, per_course, joint = 8, 4, 0.07
    y, x = _axes(size)
    course = np.floor((y + rng.random() / courses) * courses).astype(int)
    across = (x + rng.random() / per_course) * per_course + 0.5 * (course % 2)
    in_course, in_brick = (y * courses) % 1, across % 1
    shades = 0.5 + 0.18 * rng.standard_normal((courses + 2, per_course + 3))
    wall = ramp(shades[course, across.astype(int)].astype(np.float32), *_RAMPS["bricks"])
    is_joint = (in_course < 2 * joint) | (in_brick < joint)
    return np.where(is_joint[..., None], np.array((196, 168, 150), np.float32), wall)


def plain(rng: np.random.Generator, size: int, colour: tuple[int, int, int]) -> Plane:
    """One colour with a gentle linear light across it and a small tint of its own."""
    y, x = _axes(size)
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + 0.22 * ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle))
    return (np.array(colour, np.float32) * light[..., None] + rng.uniform(-8, 8, 3)).astype(np.float32)
