"""Errors on their way out of the server.

Faults of ours are logged with their traceback, counted, and left behind, so that one of them never ends the server.
Errors for clients from elsewhere name no path of this machine: it holds its owner's name and folders. Sentences for the
owner's own programs, and the log, keep theirs.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import ParamSpec

from diffedit_protocol.errors import DiffEditError

from .loop_times import LoopTimes

log = logging.getLogger("diffedit.faults")
P = ParamSpec("P")
REPEAT_SECONDS = 10.0  # between two log entries of the same kind: a fault may come with every message


class FaultLog:
    """Runs steps of the server's loop. `count`: how many failed so far. `times` is given the time of each step."""

    def __init__(self, times: LoopTimes | None = None) -> None:
        self.count = 0
        self._times = times or LoopTimes()
        self._logged: dict[tuple[str, str], float] = {}

    def guard(self, what: str, step: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run `step`; `what` names it in the log should it raise."""
        begun = time.perf_counter()
        try:
            step(*args, **kwargs)
        except Exception as error:
            self.report(what, error)
        self._times.step(what, time.perf_counter() - begun)

    def report(self, what: str, error: Exception) -> None:
        """Count and log what a step raised."""
        self.count += 1
        now, kind = time.monotonic(), (what, type(error).__name__)
        if now - self._logged.get(kind, -REPEAT_SECONDS) >= REPEAT_SECONDS:
            self._logged[kind] = now
            log.error("fault", exc_info=error, extra={"fields": {"step": what, "count": self.count}})


# A path of at least two parts: /home/anna/models/x or C:\\Users\\anna\\x; no part of an address such as https://host/x.
_PATH = re.compile(r"(?<![\w/:.])(?:/[^/\s'\":,;]+){2,}/?|\b[A-Za-z]:\\(?:[^\\\s'\":,;]+\\)+[^\\\s'\":,;]*")


def without_paths(text: str) -> str:
    """`text` with the last part of each path in place of the path."""
    return _PATH.sub(lambda found: "…/" + re.split(r"[/\\]", found[0].rstrip("/\\"))[-1], text)


def redacted(error: DiffEditError) -> DiffEditError:
    """The same error without paths."""
    sentence, detail = without_paths(error.sentence), without_paths(error.detail)
    if (sentence, detail) == (error.sentence, error.detail):
        return error
    return type(error)(sentence, detail=detail, retryable=error.retryable, retry_after=error.retry_after)
