"""What commands print: lines for people on any terminal, JSON for programs, and a line of progress that goes away."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from types import TracebackType
from typing import Any


def prepare_streams() -> None:
    """Let every character be printed: what the terminal's encoding lacks appears as \\u2026 and so on."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def abandon_output() -> None:
    """After a BrokenPipeError: let the interpreter flush into nothing as it ends, instead of complaining."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(nothing, stream.fileno())


def print_json(value: Any, *, indent: int | None = None) -> None:
    """One JSON value to standard output; ASCII where the terminal is not one of Unicode."""
    text = json.dumps(value, ensure_ascii=not _is_unicode(), indent=indent)
    print(text, flush=True)


def remark(sentence: str) -> None:
    """A sentence for the user, beside the output."""
    print(f"diffedit: {sentence}", file=sys.stderr)


def _is_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "").startswith("utf")


class ProgressLine:
    """A line of standard error that is written over, on a terminal only; the block's end, even by an error, clears it.

    done, total: of several pieces of work, shown as a bar in front.
    """

    _WIDTH = 24

    def __init__(self, done: int = 0, total: int = 1) -> None:
        self._shown = sys.stderr.isatty()
        self._bar = ""
        if total > 1:
            full = round(self._WIDTH * done / total)
            on, off = ("█", "░") if _encodes("█░") else ("#", ".")
            self._bar = f"{on * full}{off * (self._WIDTH - full)} {done}/{total} "

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def show(self, text: str) -> None:
        if self._shown:
            print(f"\r{self._bar}{text}\x1b[K", end="", file=sys.stderr, flush=True)


def _encodes(text: str) -> bool:
    try:
        text.encode(getattr(sys.stderr, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True
