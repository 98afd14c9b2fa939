"""What made a result, written into it: a text "DiffEdit" of JSON in a PNG, with a hash of the samples.

The record makes a result ours: a run may skip it, or replace it as long as nobody has painted on it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from diffedit_protocol.errors import BadInputError
from PIL import Image, UnidentifiedImageError

from ... import __version__
from ...imaging.files import read_picture
from ...imaging.results import RECORD_KEYWORD, fingerprint

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
