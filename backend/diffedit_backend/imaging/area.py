"""Which part of a picture is worked on, and at which size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from diffedit_protocol.messages import Bounds
from numpy.typing import NDArray
from PIL import Image

from ..types import Pixels, Plane

# What a model sees around a selection, as a share of the selection's longer side on each side.
_CONTEXT = 0.35
# A crop must win this much resolution; otherwise the whole picture says more about what is seen.
_WORTH_A_CROP = 0.75
# The longer side may be this many native sides: beyond it, models repeat their subject.
_LONGEST = 2.0
# Detail is drawn where it is this much finer than the edit itself,
_WORTH_DETAIL = 1.25
# over a region of at most this many native sides: 8 are some 200 windows, and 4096 px with Stable Diffusion 1.
_LONGEST_DETAILED = 8.0
_LONGEST_THUMBNAIL = 256  # px
_ROUNDING = 1e-6  # px: a border that misses a pixel by less does not touch it


@dataclass(frozen=True)
class WorkArea:
    """`crop`: the part of the picture. `width`, `height`: its size for the model. `padded_*`: with sides of whole
    multiples.

    The padding, at the right and the bottom, mirrors the picture.
    """

    crop: Bounds
    width: int
    height: int
    padded_width: int
    padded_height: int

    @property
    def scale(self) -> float:
        """Px of the model's picture per px of the crop."""
        return self.width / self.crop.width


def choose_area(width: int, height: int, region: Bounds | None, native: int, multiple: int) -> WorkArea:
    """The area for a picture of `width` x `height` px whose edit is limited to `region`.

    The crop is the region with its context, as square as the picture allows, or the whole picture where a crop would
    win little. It is scaled, keeping its aspect, to the area of the model's native square.
    """
    crop = Bounds(0, 0, width, height)
    if region is not None:
        close = _with_context(region, width, height)
        if max(close.width, close.height) <= _WORTH_A_CROP * max(width, height):
            crop = close
    scale = min(native / math.sqrt(crop.width * crop.height), _LONGEST * native / max(crop.width, crop.height))
    work_width, work_height = max(1, round(crop.width * scale)), max(1, round(crop.height * scale))
    return WorkArea(crop, work_width, work_height, _up(work_width, multiple), _up(work_height, multiple))


def detailed_area(area: WorkArea, region: Bounds, native: int, multiple: int) -> WorkArea | None:
    """The area of `region`, inside of `area`'s crop, at the picture's own resolution or as near to it as is bounded.

    None where that is hardly finer than `area` is already. Around the region there is half a native side of context.
    """
    scale = min(1.0, _LONGEST_DETAILED * native / max(region.width, region.height))
    if scale < _WORTH_DETAIL * area.scale:
        return None
    x, width = _widened(region.x - area.crop.x, region.width, native / 2 / scale, area.crop.width)
    y, height = _widened(region.y - area.crop.y, region.height, native / 2 / scale, area.crop.height)
    crop = Bounds(area.crop.x + x, area.crop.y + y, width, height)
    work_width, work_height = max(1, round(width * scale)), max(1, round(height * scale))
    return WorkArea(crop, work_width, work_height, _up(work_width, multiple), _up(work_height, multiple))


def _widened(start: int, length: int, by: float, limit: int) -> tuple[int, int]:
    first, last = max(0, math.floor(start - by)), min(limit, math.ceil(start + length + by))
    return first, last - first


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _with_context(region: Bounds, width: int, height: int) -> Bounds:
    side = round(max(region.width, region.height) * (1 + 2 * _CONTEXT))
    x, crop_width = _interval(region.x, region.width, side, width)
    y, crop_height = _interval(region.y, region.height, side, height)
    return Bounds(x, y, crop_width, crop_height)


def _interval(start: int, length: int, wanted: int, limit: int) -> tuple[int, int]:
    """`wanted` px around [start, start + length), moved rather than cut at the picture's borders."""
    wanted = min(wanted, limit)
    first = start + (length - wanted) // 2
    return min(max(first, 0), limit - wanted), wanted


def bounds_of(plane: Plane) -> Bounds:
    """The smallest rectangle that holds every pixel above 0; width 0 when there is none."""
    columns = np.flatnonzero(plane.any(axis=0))
    if len(columns) == 0:
        return Bounds(0, 0, 0, 0)
    rows = np.flatnonzero(plane.any(axis=1))
    return Bounds(int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1))


def cut(pixels: NDArray[np.uint8], bounds: Bounds) -> NDArray[np.uint8]:
    """A view of the part of an array (H, W, ...) within bounds."""
    return pixels[bounds.y : bounds.y + bounds.height, bounds.x : bounds.x + bounds.width]


def to_work(picture: Pixels, area: WorkArea) -> Pixels:
    """The crop of a picture (H, W, 3) at the model's size, padded by mirroring."""
    scaled = resized(cut(picture, area.crop), area.width, area.height)
    pad = ((0, area.padded_height - area.height), (0, area.padded_width - area.width), (0, 0))
    return np.ascontiguousarray(np.pad(scaled, pad, mode="symmetric"))


def from_work(pixels: Pixels, area: WorkArea) -> Pixels:
    """The model's picture, without its padding, at the crop's size."""
    return resized(pixels[: area.height, : area.width], area.crop.width, area.crop.height)


def resized(pixels: Pixels, width: int, height: int, filter_: Image.Resampling = Image.Resampling.LANCZOS) -> Pixels:
    """An array (H, W) or (H, W, 3) uint8 at another size."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), filter_))


def to_cells(plane: Plane, area: WorkArea, factor: int) -> NDArray[np.float32]:
    """A plane (H, W) of the picture as (h, w) float32 in [0, 1] at latent resolution: the highest value in every cell.

    A cell that the mask touches at all must be free, since its pixels are decoded from it; the padding is outside.
    """
    part = cut(plane, area.crop)
    h, w = area.padded_height // factor, area.padded_width // factor
    # The crop's pixel borders of each cell; a cell smaller than a pixel reads the pixel that it lies in.
    rows = np.arange(h + 1) * factor * area.crop.height / area.height
    columns = np.arange(w + 1) * factor * area.crop.width / area.width
    return (_highest(_highest(part, rows, 0), columns, 1) / np.float32(255)).astype(np.float32)


def content_cells(area: WorkArea, factor: int) -> NDArray[np.bool_]:
    """(h, w): the latent cells that lie in the picture, not in its padding."""
    rows = np.arange(area.padded_height // factor) * factor < area.height
    columns = np.arange(area.padded_width // factor) * factor < area.width
    return np.logical_and.outer(rows, columns)


def _highest(plane: Plane, borders: NDArray[np.float64], axis: int) -> Plane:
    """The highest value between neighbouring borders, every pixel that is touched included; 0 beyond the plane."""
    length = plane.shape[axis]
    beyond = np.zeros_like(plane.take([0], axis=axis))  # so that an index of `length` is one that reduceat knows
    first = np.floor(borders[:-1] + _ROUNDING).clip(max=length)
    last = np.ceil(borders[1:] - _ROUNDING).clip(max=length)
    spans = np.stack((first, last), axis=1).astype(np.intp).ravel()
    return np.maximum.reduceat(np.concatenate((plane, beyond), axis=axis), spans, axis=axis).take(
        np.arange(0, len(spans), 2), axis=axis
    )


class Thumbnail:
    """The picture (H, W, 3) reduced to at most _LONGEST_THUMBNAIL px; the work area's crop can be replaced."""

    def __init__(self, picture: Pixels, area: WorkArea) -> None:
        height, width = picture.shape[:2]
        self._area = area
        scale = min(1.0, _LONGEST_THUMBNAIL / max(height, width))
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
