"""A small picture of the whole, in which the worked-on part is shown as it becomes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .area import WorkArea

Pixels = NDArray[np.uint8]

LONGEST_SIDE = 256  # px


class Thumbnail:
    """The picture (H, W, 3) reduced to at most LONGEST_SIDE px; the work area's crop can be replaced."""

    def __init__(self, picture: Pixels, area: WorkArea) -> None:
        height, width = picture.shape[:2]
        self._area = area
        scale = min(1.0, LONGEST_SIDE / max(height, width))
        self._size = (max(1, round(width * scale)), max(1, round(height * scale)))
        crop = area.crop
        left, top = round(crop.x * scale), round(crop.y * scale)
        right, bottom = round((crop.x + crop.width) * scale), round((crop.y + crop.height) * scale)
        self._place = (left, top)
        self._crop_size = (max(1, right - left), max(1, bottom - top))
        self._picture = picture
        self._small: Image.Image | None = None

    def with_work(self, pixels: Pixels) -> Pixels:
        """The thumbnail with `pixels`, the model's padded picture, in place of the crop."""
        if self._small is None:  # made for the first preview: many edits ask for none
            self._small = Image.fromarray(self._picture).resize(self._size, Image.Resampling.BILINEAR)
        shown = self._small.copy()
        work = Image.fromarray(pixels[: self._area.height, : self._area.width])
        shown.paste(work.resize(self._crop_size, Image.Resampling.BILINEAR), self._place)
        return np.asarray(shown)
