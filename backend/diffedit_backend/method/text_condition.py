"""What a network is conditioned on: the embedding of a text, or of several in proportion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TextCondition:
    """`tokens`: (L, D) embeddings of one text. `pooled`: (P,) where the family has one, else None."""

    tokens: Tensor
    pooled: Tensor | None = None

    @property
    def nbytes(self) -> int:
        return self.tokens.nbytes + (self.pooled.nbytes if self.pooled is not None else 0)


@dataclass(frozen=True)
class MixedCondition:
    """Several texts, whose predictions are averaged by their shares: for embeddings of different lengths.

    parts: (share, text); the shares sum to 1.
    """

    parts: tuple[tuple[float, TextCondition], ...]

    @property
    def nbytes(self) -> int:
        return sum(text.nbytes for _, text in self.parts)


Condition = TextCondition | MixedCondition


def mixed(parts: Sequence[tuple[float, Condition]]) -> Condition:
    """The mean of texts by their shares, which sum to 1: of the embeddings where all have one length, else of the
    predictions.
    """
    flat: list[tuple[float, TextCondition]] = []
    for share, condition in parts:
        inner = condition.parts if isinstance(condition, MixedCondition) else ((1.0, condition),)
        flat += [(share * own, text) for own, text in inner if share * own > 0]
    if len(flat) == 1:
        return flat[0][1]
    if len({text.tokens.shape for _, text in flat}) > 1:
        return MixedCondition(tuple(flat))
    tokens = _mean([(share, text.tokens) for share, text in flat])
    pooled = [(share, text.pooled) for share, text in flat if text.pooled is not None]
    return TextCondition(tokens, _mean(pooled) if pooled else None)


def between(first: Condition, second: Condition, share: float) -> Condition:
    """What lies `share` of the way from the first text to the second: at 0 the first itself."""
    return mixed(((1 - share, first), (share, second)))


def _mean(parts: Sequence[tuple[float, Tensor]]) -> Tensor:
    if len(parts) == 2:
        return torch.lerp(parts[0][1], parts[1][1], parts[1][0])
    return torch.stack([share * tensor for share, tensor in parts]).sum(0)
