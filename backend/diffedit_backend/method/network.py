"""The UNet as a function of latents, level and texts: counted, in chunks that fit the memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from diffedit_protocol.errors import ModelError
from torch import Tensor

from .attention_map import AttentionRecord, record_attention
from .memory import FREE_SHARE, DeviceMemoryError, free_bytes, give_back
from .schedule import Level
from .text_condition import Condition, MixedCondition, TextCondition

if TYPE_CHECKING:
    from .model import LoadedModel

# On a CPU a larger batch gains nothing once the cores are busy; it only needs memory. Latent cells in one batch.
_CPU_CELLS = 4096
_CPU_SAMPLES = 8


class Network:
    """Predicts in batches. `evaluations` counts samples that went through the UNet, ever."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.evaluations = 0
        self._plain_denoiser: Any = None  # in use while its attention is recorded: hooks do not reach a compiled one
        self._bytes_per_cell = 0.0  # of activations, measured at the first batch on a GPU

    def batches(self, latents: Tensor, rows: int) -> Iterator[slice]:
        """Cut `rows` samples of the size of `latents` into batches that fit."""
        size = self.batch_size(latents)
        for start in range(0, rows, size):
            yield slice(start, min(rows, start + size))

    def batch_size(self, latents: Tensor) -> int:
        """How many samples of the size of `latents` (..., h, w) fit at once; 1 on a GPU until one was measured."""
        cells = latents.shape[-2] * latents.shape[-1]
        free = free_bytes(self.model.device)
        if free is None:
            return max(1, min(_CPU_SAMPLES, _CPU_CELLS // cells))
        if self._bytes_per_cell == 0:
            return 1
        return max(1, int(free * FREE_SHARE / (self._bytes_per_cell * cells)))

    @contextmanager
    def recording(self, record: AttentionRecord) -> Iterator[None]:
        """Within, predictions add their cross-attention to the record. A compiled UNet runs as it was written."""
        self._plain_denoiser = getattr(self.model.denoiser, "_orig_mod", self.model.denoiser)
        try:
            with record_attention(self._plain_denoiser, record):
                yield
        finally:
            self._plain_denoiser = None

    @torch.inference_mode()
    def predict(self, x: Tensor, level: Level, texts: Sequence[Condition]) -> Tensor:
        """The network's output (B, C, h, w) float32, in the model's own unit, for B latents under B texts.

        Solvers work in float32 whatever the network's precision: half precision would add up over the levels.

        Raises DeviceMemoryError when half of a batch does not fit either.
        """
        plain = [text for text in texts if isinstance(text, TextCondition)]
        if len(plain) < len(texts):
            return self._mixed(x, level, texts)
        parts = [self._retried(x[rows], level, plain[rows]) for rows in self.batches(x, len(x))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _mixed(self, x: Tensor, level: Level, texts: Sequence[Condition]) -> Tensor:
        """The predictions under texts of which some are mixed: one row for each of their parts, averaged."""
        parts = [text.parts if isinstance(text, MixedCondition) else ((1.0, text),) for text in texts]
        rows = [row for row, own in enumerate(parts) for _ in own]
        shares = torch.tensor([share for own in parts for share, _ in own], device=x.device).view(-1, 1, 1, 1)
        outputs = self.predict(x[rows], level, [text for own in parts for _, text in own])
        return torch.zeros_like(x).index_add(0, torch.tensor(rows, device=x.device), shares * outputs)

    def _retried(self, x: Tensor, level: Level, texts: Sequence[TextCondition]) -> Tensor:
        try:
            return self._forward(x, level, texts)
        except torch.OutOfMemoryError:
            pass  # leave the handler first: the exception holds the batch's tensors
        give_back(self.model.device)
        half = max(1, len(x) // 2)
        try:
            pieces = [self._forward(x[i : i + half], level, texts[i : i + half]) for i in range(0, len(x), half)]
        except torch.OutOfMemoryError as error:
            raise DeviceMemoryError(str(error)) from error
        return torch.cat(pieces)

    def _forward(self, x: Tensor, level: Level, texts: Sequence[TextCondition]) -> Tensor:
        rows, cells = len(x), x.shape[-2] * x.shape[-1]
        measuring = self.model.device.type == "cuda" and self._bytes_per_cell == 0
        if measuring:
            torch.cuda.reset_peak_memory_stats(self.model.device)
            before = torch.cuda.memory_allocated(self.model.device)
        padded = _next_power_of_two(rows) if self.model.compiled else rows  # few shapes, so few compilations
        index = torch.arange(padded).clamp(max=rows - 1).tolist()
        if self.model.compiled:
            torch.compiler.cudagraph_mark_step_begin()
        network = self._plain_denoiser or self.model.denoiser
        chosen = [texts[i] for i in index]
        output = self.model.family.forward(self.model, network, x[index].to(self.model.dtype), level, chosen)[:rows]
        self.evaluations += rows
        if measuring:
            peak = torch.cuda.max_memory_allocated(self.model.device) - before
            self._bytes_per_cell = max(1.0, peak / (padded * cells))
        # A compiled network writes its next output into the same memory, so it must not leave as it is.
        return output.clone().float() if self.model.compiled else output.float()


def require_finite(values: Tensor, model: LoadedModel, stage: str) -> Tensor:
    """`values` as they are. Raises ModelError where one is infinite or no number: damaged weights, or an overflow.

    stage: what was computed, for the sentence.
    """
    if not torch.isfinite(values).all():
        precision = str(model.dtype).removeprefix("torch.")
        raise ModelError(
            f"The model '{model.name}' gave values that are no numbers for {stage} in {precision}. Its weights are "
            "damaged, or too large for this precision: try --precision fp32, or download the model again."
        )
    return values


def _next_power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()
