"""Picture files of any kind in and out, so that what an edit leaves alone keeps its samples bit for bit.

A file is read twice over: `samples` as the file holds them (8 or 16 bits, grey or colour, its own profile), and
`pixels` as the engine wants them (8 bits, sRGB). An edit is laid into the samples.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diffedit_protocol.errors import BadInputError
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from .png16 import UnreadablePng, is_png16, read_png16, write_png16

Samples = NDArray[Any]  # uint8 or uint16

_ORIENTATION = 0x0112
_ALPHA_MODES = ("LA", "RGBA")
_LOSSY = (".jpg", ".jpeg")
# ITU-R BT.601 luma, as Pillow converts colour to grey.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, eq=False)
class PictureFile:
    """A picture as read. samples: (H, W, 1 to 4) uint8 or uint16, upright; pixels: (H, W, 3 or 4) uint8, sRGB, straight
    alpha.

    profile: the ICC profile of the samples. remark: what could not be kept, "" when all was.
    """

    samples: Samples
    pixels: NDArray[np.uint8]
    profile: bytes | None = None
    remark: str = ""

    @property
    def is_grey(self) -> bool:
        return self.samples.shape[2] < 3


def read_picture(path: Path) -> PictureFile:
    """Read any picture that Pillow reads. Raises BadInputError with a sentence for what is none."""
    if not path.is_file():
        raise BadInputError(f"There is no file '{path}'.")
    if path.stat().st_size == 0:
        raise BadInputError(f"'{path.name}' is empty (0 bytes).")
    try:
        with Image.open(path) as image:
            return _read(path, image)
    except UnidentifiedImageError as error:
        raise BadInputError(f"'{path.name}' is no picture that can be read. Save it as PNG.") from error
    except Image.DecompressionBombError as error:
        raise BadInputError(f"'{path.name}' is too large to be opened safely: {error}") from error
    except (OSError, SyntaxError, UnreadablePng) as error:
        raise BadInputError(f"'{path.name}' is damaged: {error}. Save it again as PNG.") from error


def _read(path: Path, image: Image.Image) -> PictureFile:
    profile, orientation = image.info.get("icc_profile"), image.getexif().get(_ORIENTATION, 1)
    remark = ""
    if is_png16(path):
        samples: Samples = read_png16(path)
    elif image.mode in ("I;16", "I;16B", "I;16L", "I;16N"):
        samples = np.asarray(image).astype(np.uint16)[..., None]
    elif "16" in str(image.tile[0][3] if image.tile else ""):
        raise BadInputError(
            f"'{path.name}' has 16-bit colours in a format that is not read here. Save it as 16-bit PNG."
        )
    elif image.mode in ("I", "F"):
        raise BadInputError(f"'{path.name}' has 32-bit samples. Save it with 8 or 16 bits per channel.")
    else:
        converted = image.convert(_plain_mode(image))
        if image.mode not in ("1", "L", "LA", "RGB", "RGBA", "P", "PA"):
            remark, profile = f"The {image.mode} picture was converted to sRGB.", None
        samples = np.asarray(converted)
        samples = samples[..., None] if samples.ndim == 2 else samples
    samples = np.ascontiguousarray(_upright(samples, int(orientation)))
    return PictureFile(samples, _pixels(samples, profile), profile, remark)


def _plain_mode(image: Image.Image) -> str:
    """The mode out of L, LA, RGB and RGBA that holds everything of the image."""
    if image.mode in ("1", "L"):
        return "LA" if "transparency" in image.info else "L"
    if image.mode in ("LA", "La"):
        return "LA"
    return "RGBA" if image.mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info else "RGB"


def _upright(samples: Samples, orientation: int) -> Samples:
    """Apply EXIF's orientation 1 to 8."""
    if orientation >= 5:
        samples = samples.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples


def _pixels(samples: Samples, profile: bytes | None) -> NDArray[np.uint8]:
    pixels = samples if samples.dtype == np.uint8 else np.rint(samples / 257).astype(np.uint8)
    channels = pixels.shape[2]
    if channels <= 2:
        return np.concatenate((np.repeat(pixels[..., :1], 3, axis=2), pixels[..., 1:]), axis=2)
    pixels = pixels.copy()
    if profile is not None:
        pixels[..., :3] = _converted(pixels[..., :3], profile, to_srgb=True)
    return pixels


def _converted(colours: NDArray[np.uint8], profile: bytes, *, to_srgb: bool) -> NDArray[np.uint8]:
    """Colours (H, W, 3) between a file's profile and sRGB; unchanged where the profile is not one of RGB colours."""
    own, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    if own.profile.xcolor_space.strip() != "RGB":
        return colours
    source, target = (own, srgb) if to_srgb else (srgb, own)
    image = Image.fromarray(np.ascontiguousarray(colours))
    return np.asarray(ImageCms.profileToProfile(image, source, target, outputMode="RGB"))


def lay_in(file: PictureFile, edited: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Samples:
    """The file's samples with the colours of `edited` (H, W, 3 or 4) where `mask` (H, W) is; equal elsewhere."""
    colours = np.ascontiguousarray(edited[..., :3])
    if file.is_grey:
        values = np.rint(colours @ _LUMA)[..., None]
    elif file.profile is not None:
        values = _converted(colours, file.profile, to_srgb=False)
    else:
        values = colours
    result = file.samples.copy()
    own = result[..., : 1 if file.is_grey else 3]
    full = 257 if result.dtype == np.uint16 else 1
    share = mask[..., None].astype(np.float32) / 255
    blended = np.rint(own + share * (values.astype(np.float32) * full - own)).astype(result.dtype)
    own[...] = np.where(mask[..., None] > 0, blended, own)
    return result


def write_picture(path: Path, file: PictureFile, samples: Samples) -> None:
    """Write samples with the profile of the file that they come from; the format follows the name's ending.

    Raises BadInputError where the format cannot hold them.
    """
    channels, deep = samples.shape[2], samples.dtype == np.uint16
    ending = path.suffix.lower()
    if ending in _LOSSY and (channels in (2, 4) or deep):
        raise BadInputError(f"JPEG holds neither transparency nor 16 bits. Name the result '{path.stem}.png'.")
    if deep and ending not in (".png", *((".tif", ".tiff") if channels == 1 else ())):
        raise BadInputError(f"A result with 16 bits per channel is written as PNG. Name it '{path.stem}.png'.")
    if deep and channels > 1:
        write_png16(path, samples, file.profile)
        return
    options: dict[str, Any] = {"icc_profile": file.profile} if file.profile is not None else {}
    if ending == ".webp":
        options["lossless"] = True
    elif ending in _LOSSY:
        options["quality"] = 95
    try:
        Image.fromarray(samples[..., 0] if channels == 1 else samples).save(path, **options)
    except (ValueError, KeyError) as error:
        raise BadInputError(
            f"'{path.name}' does not end in a picture format that can be written, like .png."
        ) from error


def is_lossy(path: Path) -> bool:
    """Whether the format changes pixels by itself, outside of a mask too."""
    return path.suffix.lower() in _LOSSY


def read_plane(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    """A selection or mask: the luminance of a picture file of exactly that size."""
    file = read_picture(path)
    if file.pixels.shape[:2] != (height, width):
        raise BadInputError(
            f"'{path.name}' is {file.pixels.shape[1]} × {file.pixels.shape[0]} px; it must be {width} × {height} px "
            "like the picture."
        )
    return np.rint(file.pixels[..., :3] @ _LUMA).astype(np.uint8)
