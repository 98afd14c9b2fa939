"""LoRAs and textual inversions on a model, chosen anew for each edit, or written into its texts.

LoRAs are layers of the networks (see `lora`); learned words are no part of them (see `method.words`).
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffedit_protocol.errors import BadInputError, ModelError
from diffedit_protocol.messages import Adapter, EditRequest
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import AddedToken
from torch import Tensor

from ..method.model import LoadedModel
from ..method.words import LearnedWords
from .catalogue.adapter_files import LORA, TEXTUAL_INVERSION
from .catalogue.families import GUIDANCE as DISTILLED_GUIDANCE
from .catalogue.families import few_steps_by_name, part_of
from .catalogue.folders import adapter_file, kept_adapters
from .catalogue.weight_files import tensors_in
from .lora import add_lora, delete_loras, holds_lora, lora_remarks, set_adapters, surplus_loras
from .offload import weights_on_cpu

# "<lora:NAME>", "<lora:NAME:0.7>"; a second weight, of the text encoder, is read over.
_LORA = re.compile(r"<(?:lora|lyco):([^:<>]+)(?::([^:<>]*))?(?::[^<>]*)?>", re.IGNORECASE)
_EMBEDDING = re.compile(r"\bembedding:([\w.-]+)", re.IGNORECASE)
_MOST = 4.0  # either way; LoRAs are made for 1


def with_written_adapters(request: EditRequest) -> EditRequest:
    """The request with the adapters that its texts name among its adapters, and without their notation in the texts.

    An adapter that the request has already keeps that weight. Raises BadInputError for a weight that is none.
    """
    found: dict[str, Adapter] = {}
    source, target, negative = (_read_text(text, found) for text in (request.source, request.target, request.negative))
    if not found:
        return request
    chosen = {adapter.name for adapter in request.adapters}
    added = tuple(adapter for name, adapter in found.items() if name not in chosen)
    return replace(request, source=source, target=target, negative=negative, adapters=(*request.adapters, *added))


def _read_text(text: str, found: dict[str, Adapter]) -> str:
    """The text without the adapters that it names, which are put into `found`."""

    def lora(match: re.Match[str]) -> str:
        name = match[1].strip()
        found.setdefault(name, Adapter(name, _weight(match[0], match[2])))
        return ""

    def embedding(match: re.Match[str]) -> str:
        name = match[1]
        if name not in kept_adapters():
            return match[0]
        found.setdefault(name, Adapter(name))
        return name  # a learned word counts where the text says it

    changed = _EMBEDDING.sub(embedding, _LORA.sub(lora, text))
    return text if changed == text else re.sub(r"[ \t]{2,}", " ", changed).strip()


def _weight(notation: str, written: str | None) -> float:
    if written is None or not written.strip():
        return 1.0
    try:
        weight = float(written)
    except ValueError as error:
        raise BadInputError(f"The weight in '{notation:.80}' is no number: write it as in <lora:oils:0.7>.") from error
    if not -_MOST <= weight <= _MOST:
        raise BadInputError(f"The weight in '{notation:.80}' is {weight:g}; weights go from {-_MOST:g} to {_MOST:g}.")
    return weight


@dataclass(frozen=True)
class _Chosen:
    """An adapter of a request, found. `file`: its name and that of its file. `id` changes with its file."""

    name: str
    file: str
    weight: float
    id: str
    kind: str
    tensors: dict[str, Tensor]

    @property
    def is_lora(self) -> bool:
        return self.kind == LORA


def with_adapters(model: LoadedModel, adapters: Sequence[Adapter]) -> LoadedModel:
    """The model with exactly these adapters in force, until the next call; its networks are the same
    objects.

    Raises ModelError for an adapter that is not there, is damaged, or was made for another kind of model.
    """
    chosen = [_found(adapter) for adapter in adapters]
    loras = [one for one in chosen if one.is_lora]
    if loras and model.compiled:
        raise ModelError("A compiled model takes no LoRA. Load the model without compiling it.")
    weights = {one.id: one.weight for one in loras}
    new = [one for one in loras if not holds_lora(model, one.id)]
    if new:
        with weights_on_cpu(model):
            for one in new:
                add_lora(model, one.name, one.id, one.tensors)
            delete_loras(model, surplus_loras(model, weights))
    set_adapters(model, weights)
    if not chosen:
        return model
    tokenizers, words = _taught(model, [one for one in chosen if not one.is_lora])
    in_force = ",".join(f"{one.id}*{one.weight}" for one in chosen)
    remark = " ".join(filter(None, (model.remark, *lora_remarks(model, weights))))
    few = max((few_steps_by_name(one.file) for one in loras if one.weight > 0), default=0)
    return dataclasses.replace(
        model,
        key=f"{model.key}+{in_force}",
        tokenizers=tokenizers,
        words=words,
        few_steps=few or model.few_steps,
        guidance=DISTILLED_GUIDANCE if few else model.guidance,
        remark=remark,
    )


def release_adapters(model: LoadedModel) -> None:
    """Take every LoRA out of a model's networks: their memory is needed. The next edit loads its own again."""
    with weights_on_cpu(model):
        delete_loras(model, surplus_loras(model, (), most=0))


def _found(adapter: Adapter) -> _Chosen:
    file = adapter_file(adapter.name)
    status = file.stat()
    name = hashlib.sha256(f"{file}:{status.st_size}:{status.st_mtime_ns}".encode()).hexdigest()[:16]
    tensors = _read(file)
    return _Chosen(
        adapter.name, f"{adapter.name} {file.stem}", adapter.weight, name, _kind(adapter.name, tensors), tensors
    )


def _kind(name: str, tensors: Mapping[str, Tensor]) -> str:
    """LORA or TEXTUAL_INVERSION. Raises ModelError for what is neither, with what it is."""
    kind = part_of(tensors)
    if kind in (LORA, TEXTUAL_INVERSION):
        return kind
    if not kind and len(tensors) == 1:
        return TEXTUAL_INVERSION  # diffusers' format: its only tensor has the name of its word
    if kind.startswith("LyCORIS"):
        raise ModelError(f"The adapter {name!r} is a {kind}, which is not supported. Take a LoRA instead.")
    what = f"it is of the kind {kind}" if kind else "what it holds is not known"
    raise ModelError(f"The adapter {name!r} is neither a LoRA nor a textual inversion: {what}.")


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        tensors_in(file)  # raises with the reason where the header is at fault
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
