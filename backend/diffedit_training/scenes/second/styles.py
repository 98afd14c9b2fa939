"""Ways of painting a scene, all deterministic.

A way has two halves. `soften` looks at neighbouring pixels, so it is applied to grounds and drawings before they are
put together; `finish` changes every pixel by itself, so it is applied to the whole picture. Hence a thing changes no
pixel outside of its mask.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

STYLES = ("plain", "oil", "watercolour", "poster", "faded")
CHANCES = (0.48, 0.16, 0.14, 0.10, 0.12)

_OIL, _WASH = 1 / 64, 1 / 180  # reach of the filters as shares of the picture's side
_POSTER_STEP = 36  # of 255, between two tones


def soften(picture: Image.Image, style: str, size: int) -> Image.Image:
    """A ground (RGB) or a drawing (RGBA, as large as it will be) for a picture of `size` px; alpha stays."""
    if style not in ("oil", "watercolour"):
        return picture
    if picture.mode == "RGBA":
        alpha = picture.getchannel("A")
        shown = np.asarray(picture)[np.asarray(alpha) > 128]
        mean = (int(c) for c in shown[:, :3].mean(0)) if len(shown) else (128, 128, 128)
        opaque = Image.new("RGB", picture.size, tuple(mean))
        opaque.paste(picture, mask=alpha)
        return Image.merge("RGBA", (*soften(opaque, style, size).split(), alpha))
    if style == "watercolour":
        return picture.filter(ImageFilter.GaussianBlur(max(0.4, size * _WASH)))
    return picture.filter(ImageFilter.MedianFilter(max(3, round(size * _OIL) // 2 * 2 + 1)))


def finish(pixels: NDArray[np.uint8], style: str) -> NDArray[np.uint8]:
    """A whole picture (size, size, 3) uint8 sRGB, pixel by pixel."""
    if style == "plain":
        return pixels
    values = pixels.astype(np.float32)
    if style == "poster":
        lightness = values.max(-1, keepdims=True).clip(min=1)
        values *= np.round(lightness / _POSTER_STEP).clip(min=1) * _POSTER_STEP / lightness
    elif style == "faded":
        grey = values.mean(-1, keepdims=True)
        values = (grey + 0.7 * (values - grey)) * np.array((0.86, 0.80, 0.72), np.float32) + (34, 32, 26)
    else:
        values *= _grain(len(pixels), coarse=style == "oil")[..., None]
        if style == "watercolour":
            values = 255 - 0.85 * (255 - values)
    return values.clip(0, 255).round().astype(np.uint8)


def _grain(size: int, coarse: bool) -> NDArray[np.float32]:
    """The weave of a canvas, or the tooth of paper: factors about 1, (size, size)."""
    if coarse:
        line = np.sin(np.arange(size, dtype=np.float32) / size * (2 * np.pi * 64))
        return 1 + 0.04 * np.asarray(line[:, None] * line[None, :], np.float32)
    knots = np.random.default_rng(3).standard_normal((96, 96)).astype(np.float32)
    grain = Image.fromarray(knots).resize((size, size), Image.Resampling.BILINEAR)
    return 1 + 0.03 * np.asarray(grain, np.float32)
