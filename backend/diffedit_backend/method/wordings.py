"""One text in several wordings: "a horse | a brown horse on grass". What they have in common is meant.

Averaging their embeddings is how the library's removed guide for DiffEdit used generated captions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

SEPARATOR = " | "
_BETWEEN = re.compile(r"\s\|(?=\s)")


def wordings(text: str) -> list[str]:
    """The wordings that a text holds, blank ones left out; a text without a separator is its own only wording."""
    if not _BETWEEN.search(text):
        return [text]
    return [part.strip() for part in _BETWEEN.split(text) if part.strip()] or [""]


# Words that a text may gain though it only leaves things out, and words after which another thing is named.
_EMPTY = frozenset(("nothing", "no", "empty", "nobody", "none"))
_ARTICLES = frozenset(("a", "an", "the"))
_JOINING = frozenset(("and", "with", "beside", "near", "next", "behind", "under", "holding", "wearing", "or"))
_PLACING = frozenset(("on", "in", "at", "of", "over", "before", "from", "to", "by", "inside", "above", "below"))


def leaves_things_out(source: str, target: str) -> bool:
    """Whether the target is the source without some of its things: "a cat and a dog on sand" -> "a dog on sand".

    A word that is left out before the noun that it describes ("a red car" -> "a car") names no thing. English only:
    what is not understood counts as no.
    """
    before, after = _words(source), [word for word in _words(target) if word not in _EMPTY]
    left_out = False
    for kind, i, j, k, m in SequenceMatcher(a=before, b=after, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        gone = before[i:j]
        if after[k:m] or gone[0] in _PLACING:
            return False  # something else is said, or a place is left out
        following = before[j] if j < len(before) else None
        if not (following is None or following in _PLACING | _JOINING or _JOINING.intersection(gone)):
            return False  # it describes what follows, which stays
        left_out = left_out or not _JOINING.issuperset(gone)
    return left_out


def _words(text: str) -> list[str]:
    """In lower case, without articles; a comma joins as "and" does."""
    words = re.findall(r"\w+", text.casefold().replace(",", " and "))
    return [word for word in words if word not in _ARTICLES]


def joined(parts: Iterable[str], most: int) -> str:
    """A text of at most `most` characters that holds the first of the given wordings, each once."""
    text = ""
    for part in dict.fromkeys(" ".join(part.replace("|", " ").split()) for part in parts):
        longer = f"{text}{SEPARATOR}{part}" if text else part
        if part and len(longer) <= most:
            text = longer
    return text
