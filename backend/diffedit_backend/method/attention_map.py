"""Where the changed words look: cross-attention of the evaluations that the difference map makes anyway.

The idea of InstDiffEdit (arXiv 2401.07709) and LEDITS++ (arXiv 2311.16711): the difference map says where the texts
disagree, the attention where the words that differ are seen. Nothing is replaced in the network, so its predictions
stay equal bit for bit: queries and keys are read where their layers put them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from difflib import SequenceMatcher
from typing import Any

import torch
from torch import Tensor


class AttentionRecord:
    """Mean attention probabilities over layers, heads and noises; `maps` is (L, h, w) float32 for L tokens.

    size: (h, w), the latents' cells. Layers with fewer than 1/8 of its side are too coarse to point at anything.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, probabilities: Tensor) -> None:
        """probabilities: (B, N, L) over the tokens, for the N = h w / 4^k cells of one layer."""
        rows, cells, tokens = probabilities.shape
        (height, width), halvings = self.size, 0
        while height * width > cells:
            height, width, halvings = -(-height // 2), -(-width // 2), halvings + 1
        if height * width != cells or halvings > 3:
            return
        coarse = probabilities.float().sum(0).T.reshape(1, tokens, height, width)
        maps = torch.nn.functional.interpolate(coarse, self.size, mode="bilinear")[0].cpu()
        self._sum = maps if self._sum is None else self._sum + maps
        self._count += rows

    @property
    def maps(self) -> Tensor:
        """Raises ValueError where no layer was recorded: the network has no cross-attention of a known shape."""
        if self._sum is None:
            raise ValueError(
                "This network has no cross-attention layer of a known shape; switch `attention` off for it."
            )
        return self._sum / self._count


@contextmanager
def record_attention(network: Any, record: AttentionRecord) -> Iterator[None]:
    """Within, every cross-attention layer of the network adds its probabilities to the record."""
    with ExitStack() as hooks:
        for name, layer in network.named_modules():
            if name.endswith("attn2") and hasattr(layer, "to_q"):
                _register_hooks(hooks, layer, record)
        yield


def _register_hooks(hooks: ExitStack, layer: Any, record: AttentionRecord) -> None:
    queries: list[Tensor] = []

    def keep_query(_layer: Any, _inputs: Any, query: Tensor) -> None:
        queries[:] = [query]

    def add_key(_layer: Any, _inputs: Any, key: Tensor) -> None:
        record.add(_probabilities(queries.pop(), key, layer.heads, layer.scale))

    hooks.callback(layer.to_q.register_forward_hook(keep_query).remove)
    hooks.callback(layer.to_k.register_forward_hook(add_key).remove)


def _probabilities(query: Tensor, key: Tensor, heads: int, scale: float) -> Tensor:
    """(B, N, L), the mean over heads of softmax(q k'). query: (B, N, heads d); key: (B, L, heads d)."""
    q, k = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (query, key))
    return (q @ k.transpose(-1, -2) * scale).float().softmax(-1).mean(1)


def changed_tokens(source: Sequence[int], target: Sequence[int]) -> tuple[list[int], list[int]]:
    """The places in either list of token ids that the other has no match for."""
    here: list[int] = []
    there: list[int] = []
    for kind, a, b, c, d in SequenceMatcher(None, source, target, autojunk=False).get_opcodes():
        if kind != "equal":
            here += range(a, b)
            there += range(c, d)
    return here, there


def words_map(maps: Tensor, places: Sequence[int], quantile: float = 0.97) -> Tensor:
    """Mean attention (h, w) to the tokens at `places` of maps (L, h, w), from 0 at its lowest to 1 at its peak."""
    mean = maps[list(places)].mean(0)
    low, high = mean.min(), mean.quantile(quantile)
    return ((mean - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
