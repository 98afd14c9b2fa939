"""The bundled model's tokenizer: byte pair merges learned from the scenes' own words, every such word one token.

Other words fall apart into single letters, which the text encoder learns to ignore: training puts made-up words
into some captions.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from transformers import CLIPTokenizer

from .scenes.captions import vocabulary
from .scenes.edition import FIRST, Edition

MAX_TOKENS = 32
END_OF_WORD = "</w>"
_CHARACTERS = string.ascii_lowercase + string.digits + "!,.-'?"


def new_tokenizer(edition: Edition = FIRST) -> CLIPTokenizer:
    """The tokenizer of an edition's words.

    Its vocabulary: single characters, merged pieces, the start and end tokens last, as in CLIP's own.
    """
    merges = learn_merges(vocabulary(edition))
    tokens = [*_CHARACTERS, *(c + END_OF_WORD for c in _CHARACTERS), *(a + b for a, b in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    ids = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=MAX_TOKENS)


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte pair merges, in order, until every word is one piece (Sennrich et al. 2016).

    The most frequent pair first, ties in alphabetical order: unlike the tokenizers library's trainer, which leaves ties
    to a hash table, this gives every process the same numbers.
    """
    pieces = [[*word[:-1], word[-1] + END_OF_WORD] for word in words]
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for parts in pieces for pair in pairwise(parts)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        pieces = [_merged(parts, best) for parts in pieces]
    return merges


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    for part in parts:
        if result and (result[-1], part) == pair:
            result[-1] += part
        else:
            result.append(part)
    return result
