"""Texts as files and other programs can hold them: what is typed or pasted may be anything."""

from __future__ import annotations

import re

from ..translation import LONGEST_NAME, shortened

# XML 1.0 knows no control characters but tab and line ends, no surrogates, and neither U+FFFE nor U+FFFF: Krita writes
# them into a .kra as they are, and cannot open it again. UTF-8 has no surrogates, either.
_BLANKS = re.compile("[\t\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]+")
_FORBIDDEN = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


def one_line(text: str) -> str:
    """`text` on one line, of characters that XML 1.0 and UTF-8 can hold. Blanks at its ends stay: typing may go on."""
    return _FORBIDDEN.sub("", _BLANKS.sub(" ", text))


def layer_name(source: str, target: str, seed: int) -> str:
    """What a result's layer is called: what changes, and the seed. "a red apple", "a red pear": "apple → pear (41)"."""
    before, after = source.split(), target.split()
    first = 0
    while first < min(len(before), len(after)) and before[first].casefold() == after[first].casefold():
        first += 1
    last = 0
    while last < min(len(before), len(after)) - first and before[-1 - last].casefold() == after[-1 - last].casefold():
        last += 1
    if first + last >= min(len(before), len(after)):  # only added or taken away: the word beside it says of what
        if last:
            last -= 1
        else:
            first = max(0, first - 1)
    parts = [" ".join(words[first : len(words) - last]) for words in (before, after)]
    ending = f" ({seed})"
    room = LONGEST_NAME - len(ending)
    return one_line(shortened(" → ".join(parts), room)) + ending
