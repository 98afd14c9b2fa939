"""Suggests wordings of a text, by a language model that follows instructions (FLAN-T5, arXiv 2210.11416).

Averaged, they say what is meant with less of what one sentence happens to say besides. Optional, loaded on demand.
"""

from __future__ import annotations

from typing import Any

import torch
from diffedit_protocol.errors import BadInputError, ModelError
from safetensors import SafetensorError

from .device import choose_device
from .load import quiet_libraries
from .offload import bytes_of
from .sources import network_folder

DEFAULT_SUGGESTER = "google/flan-t5-large"
_FROM_HUB = ["*.json", "*.safetensors", "*.txt", "*.model"]
_LONGEST = 40  # tokens of a wording: beyond 77 of its own, a text encoder of Stable Diffusion hears nothing
_INSTRUCTION = "Write a short caption for a picture that shows {}."


class Suggester:
    """A language model on its device, and what turns text into its tokens and back."""

    def __init__(self, network: Any, tokenizer: Any, device: torch.device) -> None:
        self._network = network.to(device).eval().requires_grad_(False)
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


def load_suggester(name: str = DEFAULT_SUGGESTER, device: str | None = None) -> Suggester:
    """A sequence-to-sequence language model, from a folder in transformers' layout or a hub id.

    Raises ModelError when its weights are not to be had, or are those of another kind of network.
    """
    quiet_libraries()
    folder, settings = network_folder(name, "language model", _FROM_HUB)
    if not settings.get("is_encoder_decoder"):
        raise ModelError(
            f"{name!r} is no sequence-to-sequence language model (its kind is {settings.get('model_type')!r}), "
            f"for example {DEFAULT_SUGGESTER}."
        )
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    try:
        return Suggester(
            AutoModelForSeq2SeqLM.from_pretrained(str(folder), use_safetensors=True, local_files_only=True),
            AutoTokenizer.from_pretrained(str(folder), local_files_only=True),
            choose_device(device),
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"The language model {name!r} is incomplete or damaged. Download it again.", detail=f"{error!r:.500}"
        ) from error


def check_suggestions(text: str, count: int) -> None:
    """Raises BadInputError for what no wordings can be asked for."""
    if not text.strip():
        raise BadInputError("Say what wordings are wanted of: the text is empty.")
    if count < 1:
        raise BadInputError(f"The number of suggestions must be at least 1, not {count}.")
