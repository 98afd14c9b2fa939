"""Textual inversion (arXiv 2208.01618): words whose embeddings were learned from pictures.

The networks stay as they are: while a text is encoded, the learned vectors take the place of the embeddings of their
words. So words can be chosen for each edit, and what is not chosen does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_FILLER = 0  # any ordinary token: its embedding is replaced, and it must not be taken for the text's end


@dataclass(frozen=True, eq=False)
class LearnedWords:
    """`spellings`: (word, tokens) pairs; the tokens, parted by blanks, are the tokenizers' names of the word's vectors.

    `first_ids`: the id of the first learned token, for each tokenizer. `vectors`: (n, D) of all learned tokens in the
    order of their ids, for each text encoder.
    """

    spellings: tuple[tuple[str, str], ...] = ()
    first_ids: tuple[int, ...] = ()
    vectors: tuple[Tensor, ...] = ()

    def with_tokens(self, text: str) -> str:
        """The text with every learned word replaced by its tokens."""
        for word, tokens in self.spellings:
            text = _standing_alone(word).sub(f" {tokens} ", text)
        return text

    def occurs(self, word: str, text: str) -> bool:
        """Whether the text contains the word."""
        return bool(_standing_alone(word).search(text))

    @contextmanager
    def embedded(self, index: int, encoder: Any, ids: Tensor) -> Iterator[Tensor]:
        """Within, text encoder `index` embeds the learned words of `ids` (1, L), given the ids that this yields."""
        if not self.vectors:
            yield ids
            return
        places = ids >= self.first_ids[index]
        learned = self.vectors[index][ids[places] - self.first_ids[index]]

        def put_in(_module: Any, _inputs: Any, embeddings: Tensor) -> Tensor:
            embeddings = embeddings.clone()
            embeddings[places] = learned.to(embeddings)
            return embeddings

        handle = encoder.get_input_embeddings().register_forward_hook(put_in)
        try:
            yield torch.where(places, torch.full_like(ids, _FILLER), ids)
        finally:
            handle.remove()


def _standing_alone(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
