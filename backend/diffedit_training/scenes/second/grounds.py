"""The grounds of the second edition: the first edition's, and photographs, cut and coloured anew for every look."""

from __future__ import annotations

import json
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..backgrounds import BACKGROUNDS, background, plain, ramp
from ..edition import SECOND, SECOND_FOLDER
from .styles import soften

_GREEN = (84, 168, 92)
_PHOTOGRAPHS: dict[str, list[str]] = json.loads((SECOND_FOLDER / "grounds.json").read_text())
_TILE_BELOW = 200  # px: smaller photographs are laid side by side, every other one mirrored, so that no seam shows
_SHORTEST = 0.5  # share of a photograph's shorter side that is cut out at least
# Grey photographs are coloured: pairs of colours, dark and light, sRGB.
_RAMPS: dict[str, tuple[tuple[tuple[int, int, int], tuple[int, int, int]], ...]] = {
    "grass": (((40, 92, 30), (128, 184, 78)), ((70, 110, 34), (166, 190, 88))),
    "sand": (((190, 150, 96), (244, 220, 172)), ((200, 172, 130), (250, 236, 204))),
    "bricks": (((124, 58, 46), (206, 140, 118)), ((104, 62, 52), (190, 110, 88))),
    "gravel": (((74, 72, 70), (196, 192, 186)), ((88, 78, 66), (206, 190, 166))),
    "stones": (((62, 66, 72), (176, 180, 182)), ((92, 78, 64), (190, 172, 148))),
    "wood": (((96, 58, 28), (206, 156, 98)), ((120, 76, 44), (226, 182, 130))),
    "paper": (((196, 188, 168), (250, 246, 234)), ((212, 204, 196), (252, 250, 246))),
    "bark": (((54, 40, 30), (150, 124, 98)), ((60, 56, 50), (156, 148, 136))),
    "marble": (((190, 186, 184), (250, 248, 246)),),
}


@lru_cache(maxsize=256)
def ground(name: str, texture: int, size: int, style: str = "plain") -> NDArray[np.uint8]:
    """The ground `name`: (size, size, 3) uint8 sRGB, read-only. `texture` in 0..TEXTURES-1 picks one of its looks.

    Every other look of a ground of the first edition that there are photographs of is a photograph.
    """
    if name in BACKGROUNDS and (texture % 2 == 0 or name not in _PHOTOGRAPHS):
        pixels = background(name, texture, size)
    elif name == "green":
        pixels = _rounded(plain(np.random.default_rng((texture, 90)), size, _GREEN))
    else:
        pixels = _photograph(name, texture, size)
    result = np.array(soften(Image.fromarray(pixels), style, size))
    result.flags.writeable = False
    return result


def _photograph(name: str, texture: int, size: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng((SECOND.grounds.index(name), texture, 91))
    photograph = _load(name, int(rng.integers(len(_PHOTOGRAPHS[name]))))
    width, height = photograph.size
    side = min(width, height) * rng.uniform(_SHORTEST, 1)
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    cut = photograph.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    pixels = np.asarray(cut, np.float32)
    if rng.random() < 0.5:
        pixels = pixels[::-1]
    if np.abs(pixels.max(-1) - pixels.min(-1)).mean() < 4 and name in _RAMPS:  # grey
        grey = pixels.mean(-1)
        dark, light = _RAMPS[name][int(rng.integers(len(_RAMPS[name])))]
        return _rounded(ramp(0.5 + 0.22 * (grey - grey.mean()) / max(1.0, float(grey.std())), dark, light))
    return _rounded(pixels * rng.uniform(0.88, 1.14))


def _rounded(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(pixels.clip(0, 255).round(), np.uint8)


@cache
def _load(name: str, number: int) -> Image.Image:
    with Image.open(SECOND_FOLDER / "grounds" / f"{name}-{number}.webp") as opened:
        photograph = opened.convert("RGB")
    if max(photograph.size) >= _TILE_BELOW:
        return photograph
    tile = np.asarray(photograph)
    row = np.hstack([tile, tile[:, ::-1]])
    return Image.fromarray(np.vstack([row, row[::-1]]))
