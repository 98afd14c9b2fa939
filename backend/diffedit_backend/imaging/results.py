"""Results as files: which formats hold one, exactly or not, and how a file is written without any risk to another.

Every format that Pillow writes was tried: those of `_EXACT` give back the samples that they were given, those of
`_LOSSY` change them and say so, and others (palettes, printing formats, icons) are refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from diffedit_protocol.errors import BadInputError
from PIL import Image

from .deep import write_deep_png
from .files import PictureFile, Samples

# By Pillow's name: the channels that the format gives back bit for bit.
_EXACT = {
    "PNG": (1, 2, 3, 4),
    "TIFF": (1, 2, 3, 4),
    "WEBP": (3, 4),
    "JPEG2000": (1, 2, 3, 4),
    "TGA": (1, 2, 3, 4),
    "QOI": (3, 4),
    "PPM": (1, 3),
    "BMP": (1, 3),
}
# Of these every pixel changes a little, or much.
_LOSSY = {"JPEG": (1, 3), "MPO": (1, 3), "AVIF": (3, 4)}
_DEEP = {"PNG": (1, 2, 3, 4), "TIFF": (1,), "PPM": (1,)}
_WITHOUT_GREY = ("WEBP", "QOI", "AVIF")
_PROFILES = {"PNG", "TIFF", "WEBP", "JPEG", "MPO", "AVIF"}
_LONGEST = {"WEBP": 16_383, "JPEG": 65_535, "MPO": 65_535, "AVIF": 65_536, "TGA": 65_535}  # px
_OPTIONS: dict[str, dict[str, Any]] = {
    "WEBP": {"lossless": True, "exact": True},  # exact: the colours under alpha 0 too
    "JPEG": {"quality": 95, "subsampling": 0},
    "MPO": {"quality": 95, "subsampling": 0},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "JPEG2000": {"irreversible": False},
}
_MIB = 1 << 20
RECORD_KEYWORD = "DiffEdit"  # of the text in which a PNG carries what it was made with


@dataclass(frozen=True)
class ResultFormat:
    """A format that can hold the results of one picture. name: Pillow's. exact: gives back every sample as it was.

    lost: kinds of what the picture's file held that a result in this format will not.
    """

    name: str
    exact: bool
    lost: tuple[str, ...] = ()

    def remarks(self, path: Path) -> tuple[str, ...]:
        """Sentences on what a result at `path` does not keep."""
        sentences = []
        if not self.exact:
            ending = path.suffix.lower()
            sentences.append(
                f"{ending} changes every pixel a little; .png keeps those outside of the mask as they were."
            )
        if self.lost:
            better = "" if "IPTC" in self.lost else "; a .png does"  # PNG has no place for IPTC
            sentences.append(f"'{path.name}' does not hold the picture's {' and '.join(self.lost)}{better}.")
        return tuple(sentences)


def format_for(path: Path, file: PictureFile) -> ResultFormat:
    """The format that the ending of `path` names, for the results of `file`.

    Raises BadInputError where the format would lose transparency, bits, or all, and where nothing is known by the
    ending.
    """
    ending = path.suffix.lower()
    name = "PNG" if str(path) == "-" else Image.registered_extensions().get(ending, "")
    png = f"Name the result '{path.stem or 'result'}.png'."
    channels, deep = file.samples.shape[2], file.samples.dtype == np.uint16
    if name not in {**_EXACT, **_LOSSY} or name not in Image.SAVE or ending == ".apng":
        raise BadInputError(
            f"'{path.name or path}' does not end in a picture format that results are written in. {png}"
        )
    held = {**_EXACT, **_LOSSY}[name]
    if channels == 1 and name in _WITHOUT_GREY:
        channels = 3  # written in colour: equal greys
    if deep and channels not in _DEEP.get(name, ()):
        raise BadInputError(f"{ending} does not hold these 16 bits per channel. {png}")
    if channels not in held:
        raise BadInputError(f"{ending} does not hold transparency. {png}")
    longest = _LONGEST.get(name)
    if longest is not None and max(file.size) > longest:
        raise BadInputError(f"{ending} holds at most {longest} px a side, not {file.size[0]} × {file.size[1]}. {png}")
    lost = file.metadata.lost_in(name)
    if file.profile is not None and name not in _PROFILES:
        lost = (*lost, "colour profile")
    return ResultFormat(name, name in _EXACT, lost)


def check_destination(path: Path, size: int) -> None:
    """Raises BadInputError where no file of about `size` bytes can be written at `path`."""
    folder = path.resolve().parent
    if path.is_dir():
        raise BadInputError(f"'{path}' is a folder. Name a file.")
    if not folder.is_dir():
        raise BadInputError(f"There is no folder '{path.parent}' for '{path.name}'. Make it first, or name another.")
    if path.exists() and not path.is_file():
        return  # a device or a pipe, which needs neither folder nor room
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise BadInputError(f"'{path}' may not be written. Name another place.")
    free = _free_bytes(folder)
    if free < size:
        raise BadInputError(
            f"'{path}' needs some {max(1, size // _MIB)} MiB, but {free // _MIB} MiB are free there. Make room first."
        )


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content takes the place of `path` in one step when the block ends well.

    Otherwise `path` stays what it was. A link keeps pointing where it does; a device or a pipe is written to directly.
    Raises BadInputError for what the system refuses, such as a full disk.
    """
    target = path.resolve()
    aside = target.with_name(f".diffedit-{secrets.token_hex(8)}.part")
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as stream:
                yield stream
            return
        with aside.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            aside.chmod(target.stat().st_mode & 0o777)
        aside.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise BadInputError(
            f"'{path}' could not be written: {error.strerror or error}. Nothing was replaced."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name outlast a power cut, where folders can be opened for that (not on Windows)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def encode_picture(
    stream: BinaryIO, format_: ResultFormat, file: PictureFile, samples: Samples, record: str = ""
) -> None:
    """Write samples with profile and metadata of the file that they come from.

    record: what a PNG shall carry under the keyword "DiffEdit"; other formats carry none.
    """
    metadata = file.metadata.with_text(RECORD_KEYWORD, record) if record else file.metadata
    options = {**_OPTIONS.get(format_.name, {}), **metadata.options(format_.name)}
    if file.profile is not None and format_.name in _PROFILES:
        options["icc_profile"] = file.profile.data
    if samples.dtype == np.uint16 and samples.shape[2] > 1:
        write_deep_png(stream, samples, **options)
    else:
        if samples.shape[2] == 1 and format_.name in _WITHOUT_GREY:
            samples = np.repeat(samples, 3, axis=2)
        image = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
        image.save(stream, format_.name, **options)


def write_picture(path: Path, format_: ResultFormat, file: PictureFile, samples: Samples, record: str = "") -> None:
    """`encode_picture` into a file that is there as a whole or not at all. Raises BadInputError."""
    with replacing(path) as stream:
        encode_picture(stream, format_, file, samples, record)


def fingerprint(samples: Samples) -> str:
    """A hash of samples (H, W, C), by which a result that was painted on since is told from one that was not."""
    digest = hashlib.sha256(repr((samples.shape, samples.dtype.str)).encode())
    digest.update(np.ascontiguousarray(samples).data)
    return digest.hexdigest()
