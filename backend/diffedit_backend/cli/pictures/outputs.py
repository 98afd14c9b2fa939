"""The files that a run writes: never an input, never something else's work, and checked before the edit begins. What
made a result is written into it: a text "DiffEdit" of JSON in a PNG, with a hash of the samples.

The record makes a result ours: a run may skip it, or replace it as long as nobody has painted on it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diffedit_protocol.errors import BadInputError
from PIL import Image, UnidentifiedImageError

from ... import __version__
from ...imaging.files import PictureFile, Samples, decode_picture, read_picture
from ...imaging.results import (
    RECORD_KEYWORD,
    ResultFormat,
    check_destination,
    encode_picture,
    fingerprint,
    format_for,
    write_picture,
)
from ...types import Plane
from ..arguments import STANDARD_STREAM

Record = dict[str, Any]


def record_text(record: Record) -> str:
    """The text of a record, for `imaging.results.encode_picture`."""
    return json.dumps(record, ensure_ascii=False, sort_keys=True)


def read_record(path: Path) -> Record | None:
    """The record in a picture; None where there is no such file, or none in it."""
    try:
        with Image.open(path) as image:
            text = image.info.get(RECORD_KEYWORD)
        return None if text is None else dict(json.loads(text))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return None


def is_untouched(path: Path) -> bool:
    """Whether the picture is a result of this program that has the samples that it was written with."""
    record = read_record(path)
    if record is None:
        return False
    try:
        return bool(record.get("samples") == fingerprint(read_picture(path).samples))
    except BadInputError:
        return False


def made_with(args: argparse.Namespace) -> dict[str, str]:
    """Program, model and a precision that was asked for, for a result's record: no folder of this machine, and no key
    out of a connection line."""
    if args.connect is not None:
        return {"version": __version__, "model": args.model or "a backend"}
    asked = {} if args.precision is None else {"precision": args.precision}
    return {"version": __version__, "model": Path(args.model or "bundled").name, **asked}


# A file is compressed to about half of its samples; less than that free is no place to begin an edit with.
_COMPRESSED = 2


def same_file(one: Path, other: Path) -> bool:
    """Whether two names, through links and in any spelling, lead to one file."""
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them is not there yet
        return os.path.normcase(one.resolve()) == os.path.normcase(other.resolve())


def read_input(path: Path) -> PictureFile:
    """The picture in a file, or on standard input where the path is "-". Raises BadInputError."""
    if path == STANDARD_STREAM:
        return decode_picture(sys.stdin.buffer.read(), "standard input")
    return read_picture(path)


@dataclass(frozen=True)
class Outputs:
    """What may be written. inputs: every file that the run reads, by what it is. overwrite: files that are not ours may
    be replaced."""

    inputs: Mapping[Path, str]
    overwrite: bool = False

    def check(self, paths: Iterable[Path], size: int) -> None:
        """Raises BadInputError for the first of `paths` that would destroy something, or cannot be written.

        size: bytes of the samples of all of them.
        """
        paths = [path for path in paths if path != STANDARD_STREAM]
        self.check_inputs(paths)
        for index, path in enumerate(paths):
            if any(same_file(path, other) for other in paths[:index]):
                raise BadInputError(f"'{path}' would be written twice. Name a file of its own for each output.")
            check_destination(path, size // _COMPRESSED)
            self.check_replaced(path)

    def check_inputs(self, paths: Iterable[Path]) -> None:
        """Raises BadInputError for a path that is one of the inputs."""
        for path in paths:
            for given, kind in self.inputs.items():
                if given != STANDARD_STREAM and same_file(path, given):
                    raise BadInputError(f"'{path}' is the {kind} itself, which would be lost. Name another file.")

    def check_replaced(self, path: Path) -> None:
        """Raises BadInputError where something is there that this program did not write, or that was changed since."""
        if self.overwrite or not path.is_file() or is_untouched(path):
            return
        raise BadInputError(
            f"'{path}' is there already, and it is no result that this program left like that. Name another file, or "
            "replace it by --overwrite."
        )


def write_result(path: Path, format_: ResultFormat, file: PictureFile, samples: Samples, record: Record) -> None:
    """Write samples to a file as a whole, or to standard output. A PNG carries the record. Raises BadInputError."""
    text = record_text({**record, "samples": fingerprint(samples)}) if format_.name == "PNG" else ""
    if path == STANDARD_STREAM:
        buffer = io.BytesIO()
        encode_picture(buffer, format_, file, samples, text)
        sys.stdout.buffer.write(buffer.getvalue())
        sys.stdout.buffer.flush()
        return
    write_picture(path, format_, file, samples, text)


def plane_file(width: int, height: int) -> PictureFile:
    """A picture as a mask of this size is one: grey, 8 bits, nothing else."""
    samples = np.broadcast_to(np.uint8(0), (height, width, 1))
    return PictureFile(samples, np.broadcast_to(np.uint8(0), (height, width, 3)))


def write_plane(path: Path, plane: Plane, record: Record) -> None:
    """Write a mask or a soft map (H, W) as a grey picture. Raises BadInputError."""
    file = plane_file(plane.shape[1], plane.shape[0])
    write_result(path, format_for(path, file), file, plane[..., None], record)
