"""One text in several wordings: "a horse | a brown horse on grass". What they have in common is meant.

Averaging their embeddings is how the library's removed guide for DiffEdit used generated captions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

SEPARATOR = " | "
_BETWEEN = re.compile(r"\s\|(?=\s)")


def wordings(text: str) -> list[str]:
    """The wordings that a text holds, blank ones left out; a text without a separator is its own only wording."""
    if not _BETWEEN.search(text):
        return [text]
    return [part.strip() for part in _BETWEEN.split(text) if part.strip()] or [""]


def joined(parts: Iterable[str], most: int) -> str:
    """A text of at most `most` characters that holds the first of the given wordings, each once."""
    text = ""
    for part in dict.fromkeys(" ".join(part.replace("|", " ").split()) for part in parts):
        longer = f"{text}{SEPARATOR}{part}" if text else part
        if part and len(longer) <= most:
            text = longer
    return text
