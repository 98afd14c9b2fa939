"""LoRAs and textual inversions on a model, chosen anew for each edit.

Weights of a LoRA stay in the networks, switched off, when the next edit does not want it, so that taking it up again
costs nothing. Learned words are no part of the networks, see `diffedit.words`.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffedit_protocol.errors import ModelError
from diffedit_protocol.messages import Adapter
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import AddedToken
from torch import Tensor

from ..method.model import LoadedModel
from ..method.words import LearnedWords
from .catalogue.folders import adapter_file
from .lora import add_lora, holds_lora, set_adapters
from .offload import weights_on_cpu


@dataclass(frozen=True)
class _Chosen:
    """An adapter of a request, found. `id` changes with its file."""

    name: str
    weight: float
    id: str
    tensors: dict[str, Tensor]

    @property
    def is_lora(self) -> bool:
        return any("lora" in key for key in self.tensors)


def with_adapters(model: LoadedModel, adapters: Sequence[Adapter]) -> LoadedModel:
    """The model with exactly these adapters in force, until the next call; its networks are the same
    objects.

    Raises ModelError for an adapter that is not there, is damaged, or was made for another kind of model.
    """
    chosen = [_found(adapter) for adapter in adapters]
    loras = [one for one in chosen if one.is_lora]
    if loras and model.compiled:
        raise ModelError("A compiled model takes no LoRA. Load the model without compiling it.")
    new = [one for one in loras if not holds_lora(model, one.id)]
    if new:
        with weights_on_cpu(model):
            for one in new:
                add_lora(model, one.name, one.id, one.tensors)
    set_adapters(model, {one.id: one.weight for one in loras})
    if not chosen:
        return model
    tokenizers, words = _taught(model, [one for one in chosen if not one.is_lora])
    worn = ",".join(f"{one.id}*{one.weight}" for one in chosen)
    return dataclasses.replace(model, key=f"{model.key}+{worn}", tokenizers=tokenizers, words=words)


def _found(adapter: Adapter) -> _Chosen:
    file = adapter_file(adapter.name)
    status = file.stat()
    name = hashlib.sha256(f"{file}:{status.st_size}:{status.st_mtime_ns}".encode()).hexdigest()[:16]
    return _Chosen(adapter.name, adapter.weight, name, _read(file))


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"The adapter '{file.name}' is damaged: it cannot be read as safetensors.", detail=str(error)
        ) from error


def _taught(model: LoadedModel, inversions: list[_Chosen]) -> tuple[tuple[Any, ...], LearnedWords]:
    """Tokenizers that know the inversions' words, and their vectors."""
    if not inversions:
        return model.tokenizers, LearnedWords()
    tokenizers = tuple(copy.deepcopy(tokenizer) for tokenizer in model.tokenizers)
    first_ids = tuple(len(tokenizer) for tokenizer in tokenizers)
    spellings: list[tuple[str, str]] = []
    rows: list[list[Tensor]] = [[] for _ in tokenizers]
    for one in inversions:
        word, vectors = _word(model, one)
        tokens = [f"<learned-{one.id}-{i}>" for i in range(len(vectors[0]))]
        for tokenizer, own, learned in zip(tokenizers, rows, vectors, strict=True):
            tokenizer.add_tokens([AddedToken(token, normalized=False) for token in tokens])
            own.append(one.weight * learned)
        spellings += [(name, " ".join(tokens)) for name in dict.fromkeys((word, one.name))]
    return tokenizers, LearnedWords(tuple(spellings), first_ids, tuple(torch.cat(own).to(model.device) for own in rows))


def _word(model: LoadedModel, one: _Chosen) -> tuple[str, tuple[Tensor, ...]]:
    """The word of an inversion, and its vectors (n, D) for each text encoder.

    Formats: diffusers' {word: vectors}; the web user interfaces' {"emb_params": vectors}, and for SDXL
    {"clip_l": vectors, "clip_g": vectors}. Files of the latter two are their own words.
    """
    tensors = one.tensors
    word = one.name
    if {"clip_l", "clip_g"} <= tensors.keys():
        found = [tensors["clip_l"], tensors["clip_g"]]
    elif "emb_params" in tensors:
        found = [tensors["emb_params"]]
    elif len(tensors) == 1:
        word = next(iter(tensors))
        found = [tensors[word]]
    else:
        raise ModelError(f"The adapter {one.name!r} is neither a LoRA nor a textual inversion.")
    vectors = tuple(tensor.float().reshape(-1, tensor.shape[-1]) for tensor in found)
    widths = [int(encoder.get_input_embeddings().embedding_dim) for encoder in model.text_encoders]
    if [v.shape[1] for v in vectors] != widths:
        raise ModelError(
            f"The textual inversion {one.name!r} was made for another kind of model: its vectors have "
            f"{' and '.join(str(v.shape[1]) for v in vectors)} numbers, those of '{model.name}' "
            f"{' and '.join(map(str, widths))}."
        )
    return word, vectors
