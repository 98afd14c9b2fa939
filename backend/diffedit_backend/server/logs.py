"""The server's log: one JSON object per line in a private file that rotates, the same for people on standard error.

    {"time": "2026-01-31T12:00:00.123+00:00", "level": "info", "logger": "diffedit.jobs", "event": "ended", "job": ...}

Prompts, pixels and secret keys are never logged. Writing is left to threads: neither a full pipe that nobody reads nor
a slow disk holds up who logs, and entries beyond what waits already are dropped.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import queue
import sys
import time
from datetime import datetime, timezone
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from pythonjsonlogger.json import JsonFormatter

FILE_BYTES, FILES_KEPT = 5 << 20, 3
MOST_WAITING = 10_000  # entries for one of the threads
STRANGERS_SECONDS, STRANGERS_ENTRIES = 60.0, 100  # of what anyone may cause without a key, at most so many entries
CLOSE_SECONDS = 2.0


class JsonLines(JsonFormatter):
    """A record and its `fields` as one JSON object."""

    def __init__(self) -> None:
        super().__init__(json_ensure_ascii=False, json_default=str)

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
        return self.serialize_log_record(entry)


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

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk costs entries, nothing else."""


class Waiting(logging.handlers.QueueHandler):
    """Hands records to a thread that writes them; drops what comes while MOST_WAITING wait."""

    def __init__(self, target: logging.Handler) -> None:
        self.entries: queue.Queue[Any] = queue.Queue(MOST_WAITING)
        super().__init__(self.entries)
        self._target = target
        self._listener = logging.handlers.QueueListener(self.entries, target)
        self._listener.start()

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # it stays in this process: nothing has to be made a text of

    def enqueue(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(queue.Full):
            self.entries.put_nowait(record)

    def close(self) -> None:
        """Write what waits, within CLOSE_SECONDS."""
        thread, self._listener._thread = self._listener._thread, None
        if thread is not None:
            with contextlib.suppress(queue.Full):
                self._listener.enqueue_sentinel()
            thread.join(CLOSE_SECONDS)
            if not thread.is_alive():
                self._target.close()
        super().close()


class Strangers(logging.Filter):
    """Lets at most STRANGERS_ENTRIES through in STRANGERS_SECONDS of what needs no key to cause: refusals and floods.

    Anyone could fill the log otherwise, until it has rotated the rest away.
    """

    LOGGERS = ("diffedit.authenticator", "diffedit.flood_guard")

    def __init__(self) -> None:
        super().__init__()
        self._since = -STRANGERS_SECONDS
        self._count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name not in self.LOGGERS or record.levelno < logging.WARNING:
            return True
        now = time.monotonic()
        if now - self._since >= STRANGERS_SECONDS:
            self._since, self._count = now, 0
        self._count += 1
        if self._count == STRANGERS_ENTRIES:
            record.msg = f"{record.msg} (the last of its kind for up to {STRANGERS_SECONDS:.0f} s)"
        return self._count <= STRANGERS_ENTRIES


def start(path: Path, *, verbose: bool = False) -> logging.Logger:
    """Log everything under "diffedit" to `path` and to standard error; returns that logger."""
    logger = logging.getLogger("diffedit")
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
    stop()
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(Readable())
    handlers: list[logging.Handler] = [screen]
    try:
        file = PrivateFile(path, maxBytes=FILE_BYTES, backupCount=FILES_KEPT)
    except OSError as error:
        problem: OSError | None = error
    else:
        problem = None
        file.setFormatter(JsonLines())
        handlers.insert(0, file)
    for handler in handlers:
        waiting = Waiting(handler)
        waiting.addFilter(Strangers())
        logger.addHandler(waiting)
    if problem is not None:
        logger.error("no log file", extra={"fields": {"file": str(path), "reason": str(problem)}})
    return logger


def stop() -> None:
    """Write what waits, and log no more."""
    logger = logging.getLogger("diffedit")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = getattr(record, "fields", {})
    return fields if isinstance(fields, dict) else {}
