"""From prompts to text embeddings, with textual inversion, LoRA scale and skipped CLIP layers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils import USE_PEFT_BACKEND, scale_lora_layers, unscale_lora_layers
from torch import Tensor

logger = logging.getLogger(__name__)

Prompt = str | list[str]


@dataclass(frozen=True)
class Texts:
    """One side of an edit: a prompt and its negative, each as text (one or a list) or as embeddings (B, L, D)."""

    prompt: Prompt | None
    negative: Prompt | None
    embeds: Tensor | None
    negative_embeds: Tensor | None

    @property
    def batch_size(self) -> int:
        return batch_size_of(self.prompt, self.embeds)

    def negatives(self, batch_size: int) -> list[str] | None:
        """The negative texts of a batch; None when they are given as embeddings."""
        if self.negative_embeds is not None:
            return None
        texts = negatives_of(self.prompt, self.negative, self.batch_size)
        return texts * batch_size if len(texts) == 1 else texts


def batch_size_of(prompt: Prompt | None, prompt_embeds: Tensor | None) -> int:
    """How many pictures a prompt (one, or a list) or its embeddings (B, L, D) ask for."""
    if prompt_embeds is not None:
        return int(prompt_embeds.shape[0])
    return len(prompt) if isinstance(prompt, list) else 1


def negatives_of(prompt: Prompt | None, negative_prompt: Prompt | None, batch_size: int) -> list[str]:
    """One negative text per prompt. Raises TypeError for a list beside a text, ValueError for lists of unequal
    length."""
    if negative_prompt is None:
        return [""] * batch_size
    if prompt is not None and type(prompt) is not type(negative_prompt):
        raise TypeError(
            f"`negative_prompt` must be of the same type as `prompt`, but they are {type(negative_prompt).__name__} and"
            f" {type(prompt).__name__}."
        )
    if isinstance(negative_prompt, str):
        return [negative_prompt] * batch_size
    if len(negative_prompt) != batch_size:
        raise ValueError(
            f"`negative_prompt` has {len(negative_prompt)} texts for {batch_size} prompts. Pass one for each of them."
        )
    return negative_prompt


@dataclass(frozen=True, eq=False)
class PromptEncoder:
    """A pipeline's text encoder. `convert` replaces the words of textual inversions; `dtype`: of embeddings where there
    is no text encoder, None for that of the embeddings given.
    """

    tokenizer: Any
    text_encoder: Any
    convert: Callable[[Any, Any], Any]
    dtype: torch.dtype | None

    def encode(
        self,
        texts: Texts,
        device: torch.device | str,
        copies: int,
        guided: bool,
        lora_scale: float | None = None,
        clip_skip: int | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """See `DiffEditPipeline.encode_prompt`. copies: of every embedding; guided: whether negatives are wanted."""
        prompt_embeds, negative_prompt_embeds = texts.embeds, texts.negative_embeds
        adapted = lora_scale is not None and self.text_encoder is not None and USE_PEFT_BACKEND
        if adapted:
            scale_lora_layers(self.text_encoder, lora_scale)
        if prompt_embeds is None:
            prompt_embeds = self._embed(texts.prompt, device, clip_skip, warn=True)
        if guided and negative_prompt_embeds is None:
            negatives = negatives_of(texts.prompt, texts.negative, texts.batch_size)
            negative_prompt_embeds = self._embed(negatives, device, None, length=prompt_embeds.shape[1])
        if adapted:
            unscale_lora_layers(self.text_encoder, lora_scale)

        dtype = self._dtype_for(prompt_embeds)
        prompt_embeds = prompt_embeds.to(device, dtype).repeat_interleave(copies, dim=0)
        if guided and negative_prompt_embeds is not None:
            negative_prompt_embeds = negative_prompt_embeds.to(device, dtype)
            negative_prompt_embeds = negative_prompt_embeds.repeat_interleave(copies, dim=0)
        return prompt_embeds, negative_prompt_embeds

    def contrast(
        self, source: Texts, target: Texts, device: torch.device | str, guided: bool, lora_scale: float | None
    ) -> list[Tensor]:
        """Embeddings whose predictions tell source from target: [source, target], each (B, L, D) with B the target's.

        With guidance and unequal negatives it takes [source's negative, source, target's negative, target]; equal
        negatives cancel out of the difference.
        """
        batch_size = target.batch_size
        if source.batch_size not in (1, batch_size):
            raise ValueError(f"`source_prompt` has {source.batch_size} texts for {batch_size} target prompts.")
        negatives = source.negatives(batch_size), target.negatives(batch_size)
        guided = guided and (negatives[0] is None or negatives[0] != negatives[1])
        rows = []
        for texts in (source, target):
            positive, negative = self.encode(texts, device, 1, guided, lora_scale)
            rows += [negative, positive] if guided and negative is not None else [positive]
        rows = [row.expand(batch_size, -1, -1) for row in rows]
        return rows[1::2] if guided and torch.equal(rows[0], rows[2]) else rows

    def _dtype_for(self, prompt_embeds: Tensor) -> torch.dtype:
        if self.text_encoder is not None:
            dtype: torch.dtype = self.text_encoder.dtype
            return dtype
        return prompt_embeds.dtype if self.dtype is None else self.dtype

    def _embed(
        self,
        texts: Any,
        device: torch.device | str,
        clip_skip: int | None,
        length: int | None = None,
        warn: bool = False,
    ) -> Tensor:
        """(B, L, D): the text encoder's last hidden state of `texts`, or that of `clip_skip` layers before,
        normalised."""
        texts = self.convert(texts, self.tokenizer)
        tokens = self.tokenizer(
            texts,
            padding="max_length",
            max_length=length or self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        if warn:
            self._warn_of_lost_words(texts)
        uses_mask = getattr(self.text_encoder.config, "use_attention_mask", False)
        states = self.text_encoder(
            tokens.input_ids.to(device),
            attention_mask=tokens.attention_mask.to(device) if uses_mask else None,
            output_hidden_states=clip_skip is not None,
        )
        if clip_skip is None:
            return states[0]
        return self.text_encoder.final_layer_norm(states.hidden_states[-(clip_skip + 1)])

    def _warn_of_lost_words(self, texts: Any) -> None:
        limit = self.tokenizer.model_max_length
        for ids in self.tokenizer([texts] if isinstance(texts, str) else texts).input_ids:
            if len(ids) > limit:
                lost = self.tokenizer.decode(ids[limit - 1 : -1])
                logger.warning("CLIP reads %d tokens at most; these words are not seen: %r", limit, lost)
