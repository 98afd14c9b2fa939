"""Picture files of any kind, read so that what an edit leaves alone keeps its samples bit for bit.

A file is held twice over: `samples` as the file holds them (8 or 16 bits, grey or colour, its own profile), and
`pixels` as the engine wants them (8 bits, sRGB). An edit is laid into the samples; `results.py` writes them.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from diffedit_protocol.errors import BadInputError
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..types import Pixels, Plane
from .deep import has_deep_colours, is_cut_to_8_bits, read_deep
from .metadata import Metadata, orientation_of
from .profiles import Profile, lab_to_srgb

Samples = NDArray[Any]  # (H, W, 1 to 4) uint8 or uint16: grey, grey and alpha, RGB, RGBA

# ITU-R BT.601 luma, as Pillow converts colour to grey.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_TO_8_BITS = np.rint(np.arange(65_536) / 257).astype(np.uint8)  # of 16 bits
_DEEP_GREYS = ("I;16", "I;16B", "I;16L", "I;16N")
_PLAIN_MODES = ("1", "L", "LA", "La", "RGB", "RGBA", "RGBa", "P", "PA")


@dataclass(frozen=True, eq=False)
class PictureFile:
    """A picture as read, upright.

    profile: of the samples, None for sRGB. remarks: sentences on what could not be kept or was not looked at.
    """

    samples: Samples
    pixels: Pixels
    profile: Profile | None = None
    metadata: Metadata = field(default_factory=Metadata)
    remarks: tuple[str, ...] = ()

    @property
    def is_grey(self) -> bool:
        return self.samples.shape[2] < 3

    @property
    def size(self) -> tuple[int, int]:
        """Width, height in px."""
        return self.samples.shape[1], self.samples.shape[0]


def read_picture(path: Path) -> PictureFile:
    """Read any picture that Pillow reads. Raises BadInputError with a sentence for what is none."""
    if not path.exists():
        raise BadInputError(f"There is no file '{path}'.")
    if not path.is_file():
        raise BadInputError(f"'{path}' is no file.")
    try:
        return decode_picture(path.read_bytes(), path.name)
    except OSError as error:
        raise BadInputError(f"'{path}' cannot be read: {error.strerror or error}.") from error


def decode_picture(data: bytes, name: str) -> PictureFile:
    """The picture in the content of a file; `name` is for sentences. Raises BadInputError."""
    if not data:
        raise BadInputError(f"'{name}' is empty (0 bytes).")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, on large pictures and odd EXIF, which stop nothing here
            with Image.open(io.BytesIO(data)) as image:
                file = _read(name, image, lambda: Image.open(io.BytesIO(data)))
                if file.samples.dtype == np.uint8 and is_cut_to_8_bits(image.format, data):
                    sentence = f"'{name}' has more than 8 bits per channel, of which 8 are read."
                    file = replace(file, remarks=(*file.remarks, sentence))
                return file
    except UnidentifiedImageError as error:
        raise BadInputError(f"'{name}' is no picture that can be read. Save it as PNG.") from error
    except Image.DecompressionBombError as error:
        raise BadInputError(f"'{name}' is too large to be opened safely: {error}") from error
    except BadInputError:
        raise
    except Exception as error:  # OSError, SyntaxError, struct.error, ...: Pillow raises many kinds for damaged files
        raise BadInputError(f"'{name}' is damaged: {error}. Save it again as PNG.") from error


def _read(name: str, image: Image.Image, reopened: Callable[[], Image.Image]) -> PictureFile:
    remarks = list(_remarks_on_frames(name, image))
    profile, sentence = _profile(name, image.info.get("icc_profile"))
    remarks += sentence
    if image.mode in _DEEP_GREYS or (image.mode == "I" and image.format == "PPM"):
        samples: Samples = np.asarray(image).astype(np.uint16)[..., None]
        samples = _with_transparency(samples, image.info.get("transparency"))
    elif has_deep_colours(image):
        with reopened() as again:
            deep = read_deep(image, again)
        if deep is None:
            raise BadInputError(f"'{name}' has 16-bit colours in a format that is not read here. Save it as PNG.")
        samples = _with_transparency(deep, image.info.get("transparency"))
    elif image.mode in ("I", "F"):
        raise BadInputError(f"'{name}' has 32-bit samples. Save it with 8 or 16 bits per channel.")
    else:
        if image.mode in _PLAIN_MODES:
            converted = image.convert(_plain_mode(image))
        else:
            converted, profile = _in_srgb(image, profile), None
            remarks.append(f"The {image.mode} picture was converted to sRGB.")
        samples = np.asarray(converted)
        samples = samples[..., None] if samples.ndim == 2 else samples
    samples = np.ascontiguousarray(_upright(samples, orientation_of(image)))
    return PictureFile(samples, _pixels(samples, profile), profile, Metadata.of(image), tuple(remarks))


def _remarks_on_frames(name: str, image: Image.Image) -> list[str]:
    """What a result will not hold of a file with several pictures."""
    count = int(getattr(image, "n_frames", 1))
    if count <= 1:
        return []
    if image.format == "PSD":  # Pillow counts its layers, and gives the merged picture
        return [f"'{name}' has layers; the merged picture is edited, and the result has no layers."]
    return [f"'{name}' holds {count} pictures (frames or pages); the first is edited, the result holds no other."]


def _profile(name: str, data: bytes | None) -> tuple[Profile | None, list[str]]:
    """The profile of a file and, where it cannot be used, a remark."""
    if not data:
        return None, []
    try:
        return Profile.of(data), []
    except ValueError:
        return None, [f"The colour profile of '{name}' is damaged; its colours are taken for sRGB."]


def _with_transparency(samples: Samples, transparent: object) -> Samples:
    """16-bit samples with an alpha channel where the file names one colour as transparent (PNG's chunk tRNS)."""
    if not isinstance(transparent, (int, tuple)):
        return samples
    clear = (samples == np.array(transparent, np.uint16)).all(axis=2, keepdims=True)
    return np.concatenate((samples, np.where(clear, np.uint16(0), np.uint16(65535))), axis=2)


def _plain_mode(image: Image.Image) -> str:
    """The mode out of L, LA, RGB and RGBA that holds everything of the image."""
    if image.mode in ("1", "L"):
        return "LA" if "transparency" in image.info else "L"
    if image.mode in ("LA", "La"):
        return "LA"
    return "RGBA" if image.mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info else "RGB"


def _in_srgb(image: Image.Image, profile: Profile | None) -> Image.Image:
    """An image of a mode that has no place here (CMYK, LAB, YCbCr, HSV) as RGB, by its profile where it has one."""
    if profile is not None and profile.space == image.mode == "CMYK":
        return profile.to_srgb(image)
    return lab_to_srgb(image) if image.mode == "LAB" else image.convert("RGB")


def _upright(samples: Samples, orientation: int) -> Samples:
    """Apply EXIF's orientation 1 to 8."""
    if orientation >= 5:
        samples = samples.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples


def _pixels(samples: Samples, profile: Profile | None) -> Pixels:
    pixels = samples if samples.dtype == np.uint8 else _TO_8_BITS[samples]
    colours = 1 if pixels.shape[2] <= 2 else 3
    own, alpha = pixels[..., :colours], pixels[..., colours:]
    if profile is not None and profile.fits(colours):
        image = Image.fromarray(np.ascontiguousarray(own[..., 0] if colours == 1 else own))
        own = np.asarray(profile.to_srgb(image))
    elif colours == 1:
        own = np.repeat(own, 3, axis=2)
    return np.concatenate((own, alpha), axis=2)


def lay_in(file: PictureFile, edited: Pixels, mask: Plane) -> Samples:
    """The file's samples with the colours of `edited` (H, W, 3 or 4) where `mask` (H, W) is; equal elsewhere."""
    colours = np.ascontiguousarray(edited[..., :3])
    count = 1 if file.is_grey else 3
    if file.profile is not None and file.profile.fits(count):
        values: NDArray[Any] = file.profile.from_srgb(colours)
    elif file.is_grey:
        values = np.rint(colours @ _LUMA)[..., None]
    else:
        values = colours
    result = file.samples.copy()
    own = result[..., :count]
    full = 257 if result.dtype == np.uint16 else 1
    share = mask[..., None].astype(np.float32) / 255
    blended = np.rint(own + share * (values.astype(np.float32) * full - own)).astype(result.dtype)
    own[...] = np.where(mask[..., None] > 0, blended, own)
    return result


def plane_of(file: PictureFile, name: str, width: int, height: int) -> Plane:
    """A selection or mask: the luminance of a picture of exactly that size; `name` is for sentences."""
    if file.size != (width, height):
        raise BadInputError(
            f"'{name}' is {file.size[0]} × {file.size[1]} px; it must be {width} × {height} px like the picture."
        )
    return np.rint(file.pixels[..., :3] @ _LUMA).astype(np.uint8)


def read_plane(path: Path, width: int, height: int) -> Plane:
    """The selection or mask in a file. Raises BadInputError."""
    return plane_of(read_picture(path), path.name, width, height)
