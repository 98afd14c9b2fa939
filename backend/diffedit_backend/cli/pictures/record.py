"""What made a picture, written into it: an iTXt chunk "DiffEdit" that holds JSON (PNG specification, 11.3.4.5)."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

from diffedit_protocol.errors import BadInputError

KEYWORD = b"DiffEdit"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_END = 33  # signature, and the chunk IHDR that always comes first
# Keyword, then: not compressed, method 0, no language, no translated keyword.
_BEGIN = KEYWORD + b"\0\0\0\0\0"


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Put `record` into the PNG file at `path`; its pixels stay as they are. Raises BadInputError for no PNG."""
    data = path.read_bytes()
    if not data.startswith(_SIGNATURE):
        raise BadInputError(f"'{path.name}' is no PNG, so it cannot carry its parameters. Name it '{path.stem}.png'.")
    body = _BEGIN + json.dumps(record, ensure_ascii=False, sort_keys=True).encode()
    chunk = struct.pack(">I", len(body)) + b"iTXt" + body + struct.pack(">I", zlib.crc32(b"iTXt" + body))
    path.write_bytes(data[:_HEADER_END] + chunk + data[_HEADER_END:])


def read_record(path: Path) -> dict[str, Any] | None:
    """The record in a picture; None where there is no such file, or none in it."""
    if not path.is_file():
        return None
    data = path.read_bytes()
    length, kind = struct.unpack(">I4s", data[_HEADER_END : _HEADER_END + 8].ljust(8, b"\0"))
    body = data[_HEADER_END + 8 : _HEADER_END + 8 + length]
    if not data.startswith(_SIGNATURE) or kind != b"iTXt" or not body.startswith(_BEGIN):
        return None
    try:
        return dict(json.loads(body[len(_BEGIN) :]))
    except ValueError:
        return None
