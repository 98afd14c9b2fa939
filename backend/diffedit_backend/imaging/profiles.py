"""Colours before and after the engine, which works in opaque sRGB: ICC profiles of files, and transparency, laid on
white and taken off again."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from ..types import Pixels, Plane

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}  # Pillow's mode by a profile's colour space


@dataclass(frozen=True)
class Profile:
    """An ICC profile that was read without fault; `space`: its colour space, such as "RGB" or "GRAY"."""

    data: bytes
    space: str

    @classmethod
    def of(cls, data: bytes) -> Profile:
        """Raises ValueError for data that is no profile, or one that cannot be used."""
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
            own = cls(data, str(profile.profile.xcolor_space).strip())
            if own.space in _MODES:  # some faults show only when colours are converted
                own.to_srgb(Image.new(_MODES[own.space], (1, 1)))
        except (OSError, ImageCms.PyCMSError) as error:
            raise ValueError(str(error)) from error
        return own

    def fits(self, colours: int) -> bool:
        """Whether it is a profile for this many colour channels; with any other the colours stay as they are."""
        return self.space == ("RGB" if colours == 3 else "GRAY")

    def to_srgb(self, image: Image.Image) -> Image.Image:
        """An RGB image of one in the profile's colour space."""
        own, srgb = ImageCms.ImageCmsProfile(io.BytesIO(self.data)), ImageCms.createProfile("sRGB")
        return _transformed(image, own, srgb, "RGB")

    def from_srgb(self, colours: Pixels) -> NDArray[np.uint8]:
        """sRGB colours (H, W, 3) in the profile's space: (H, W, 3), or (H, W, 1) where it is one of greys."""
        own, srgb = ImageCms.ImageCmsProfile(io.BytesIO(self.data)), ImageCms.createProfile("sRGB")
        image = _transformed(Image.fromarray(np.ascontiguousarray(colours)), srgb, own, _MODES[self.space])
        values = np.asarray(image)
        return values[..., None] if values.ndim == 2 else values


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """An RGB image of one in Pillow's mode LAB."""
    return _transformed(image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "RGB")


def _transformed(image: Image.Image, source: object, target: object, mode: str) -> Image.Image:
    result = ImageCms.profileToProfile(image, source, target, outputMode=mode)
    assert result is not None  # None is what a conversion in place returns
    return result


_PAPER = 255.0  # white: what artists see behind a transparent layer


def composite_on_white(pixels: Pixels) -> Pixels:
    """(H, W, 3) of a picture (H, W, 3 or 4, straight alpha)."""
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return np.rint(pixels[..., :3] * alpha + _PAPER * (1 - alpha)).astype(np.uint8)


def uncomposite(pixels: Pixels, alpha: Plane) -> Pixels:
    """The straight colours that, at `alpha` (H, W), come nearest to `pixels` (H, W, 3) when laid on the paper."""
    if alpha.min(initial=255) == 255:
        return pixels
    share = np.maximum(alpha[..., None].astype(np.float32), 1) / 255
    return np.rint(np.clip((pixels - _PAPER * (1 - share)) / share, 0, 255)).astype(np.uint8)
