"""Errors for clients from elsewhere name no path of this machine: it holds its owner's name and folders.

Sentences for the owner's own programs, and the log, keep theirs.
"""

from __future__ import annotations

import re

from diffedit_protocol.errors import DiffEditError

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
