"""The server's log: one JSON object per line in a private file that rotates, the same for people on standard error.

    {"time": "2026-01-31T12:00:00.123+00:00", "level": "info", "logger": "diffedit.jobs", "event": "ended", "job": ...}

Prompts, pixels and secret keys are never logged.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import sys
from datetime import datetime, timezone
from io import TextIOWrapper
from pathlib import Path
from typing import Any

FILE_BYTES, FILES_KEPT = 5 << 20, 3


class JsonLines(logging.Formatter):
    """A record and its `fields` as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


class Readable(logging.Formatter):
    """The same on one line for people: time, level, event, key=value."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        more = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        line = (
            f"{when} {record.levelname.lower():7} {record.name.removeprefix('diffedit.')}: {record.getMessage()} {more}"
        )
        return line.rstrip() + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class PrivateFile(logging.handlers.RotatingFileHandler):
    """A rotating file that only its owner may read."""

    def _open(self) -> TextIOWrapper:
        handle = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return TextIOWrapper(os.fdopen(handle, "ab"), encoding="utf-8")


def start(path: Path, *, verbose: bool = False) -> logging.Logger:
    """Log everything under "diffedit" to `path` and to standard error; returns that logger."""
    logger = logging.getLogger("diffedit")
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
    file = PrivateFile(path, maxBytes=FILE_BYTES, backupCount=FILES_KEPT)
    file.setFormatter(JsonLines())
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(Readable())
    logger.handlers = [file, screen]
    return logger


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = getattr(record, "fields", {})
    return fields if isinstance(fields, dict) else {}
