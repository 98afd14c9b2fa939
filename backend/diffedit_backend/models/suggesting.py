"""Suggests wordings of a text, by a language model that follows instructions (FLAN-T5, arXiv 2210.11416).

Averaged, they say what is meant with less of what one sentence happens to say besides. Optional, loaded on demand.
"""

from __future__ import annotations

from typing import Any

import torch
from diffedit_protocol.errors import BadInputError

from ..method.memory import bytes_of
from .catalogue.word_models import DEFAULT_SUGGESTER
from .load import quiet_libraries
from .standalone import Kind, load_standalone

_LONGEST = 40  # tokens of a wording: beyond 77 of its own, a text encoder of Stable Diffusion hears nothing
_INSTRUCTION = "Write a short caption for a picture that shows {}."
_SEQUENCE_TO_SEQUENCE = Kind(
    what="language model",
    example=DEFAULT_SUGGESTER,
    wanted="sequence-to-sequence language model",
    fits=lambda settings: bool(settings.get("is_encoder_decoder")),
    network="AutoModelForSeq2SeqLM",
    reader="AutoTokenizer",
)


class SuggestingModel:
    """A language model on its device, and what turns text into its tokens and back."""

    def __init__(self, network: Any, tokenizer: Any, device: torch.device) -> None:
        self._network = network
        self._tokenizer = tokenizer
        self._device = device

    @property
    def nbytes(self) -> int:
        """Memory of the weights."""
        return bytes_of(self._network)

    @torch.inference_mode()
    def suggest(self, text: str, count: int, seed: int = 0) -> list[str]:
        """`count` wordings of a text, drawn at random from `seed`; some may be equal, or blank."""
        asked = self._tokenizer(_INSTRUCTION.format(text), return_tensors="pt", truncation=True).to(self._device)
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(seed)
            ids = self._network.generate(
                input_ids=asked.input_ids,
                attention_mask=asked.attention_mask,
                do_sample=True,
                top_p=0.9,
                num_return_sequences=count,
                max_new_tokens=_LONGEST,
            )
        return [text.strip() for text in self._tokenizer.batch_decode(ids, skip_special_tokens=True)]


def load_suggester(name: str = DEFAULT_SUGGESTER, device: str | None = None) -> SuggestingModel:
    """A sequence-to-sequence language model, from a folder in transformers' layout or a hub id.

    Raises ModelError when its weights are not to be had, or are those of another kind of network.
    """
    quiet_libraries()
    return SuggestingModel(*load_standalone(_SEQUENCE_TO_SEQUENCE, name, device)[:3])


def check_suggestions(text: str, count: int) -> None:
    """Raises BadInputError for what no wordings can be asked for."""
    if not text.strip():
        raise BadInputError("Say what wordings are wanted of: the text is empty.")
    if count < 1:
        raise BadInputError(f"The number of suggestions must be at least 1, not {count}.")
