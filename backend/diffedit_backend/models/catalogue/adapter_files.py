"""The LoRAs and textual inversions of the adapters folder: of which kind, for which models. Only headers are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from diffedit_protocol.errors import ModelError

from .families import XL, family_of_width, part_of
from .folders import kept_adapters
from .weight_files import TensorFact, tensors_in

LORA, TEXTUAL_INVERSION, DAMAGED = "LoRA", "textual inversion", "damaged"
_REMEMBERED = 4096  # files whose headers were read; hello asks for all of them again and again
_DOWN = ("lora_A.", "lora_down.", ".lora.down.")  # the first of a LoRA's two matrices: (rank, width of the input)
_SECOND_ENCODER = ("lora_te1_", "lora_te2_", "text_encoder_2.")  # keys that only an XL's LoRA has
_XL_WORDS = {"clip_l", "clip_g"}


@dataclass(frozen=True)
class AdapterEntry:
    """`family`: of the models that it was made for, "" where its file does not say. `word`: what a text must say for a
    textual inversion to count."""

    name: str
    kind: str
    file: Path
    family: str = ""
    word: str = ""


def adapters() -> list[AdapterEntry]:
    """What lies in the adapters folder now, by name."""
    found = []
    for name, file in kept_adapters().items():
        status = file.stat()
        found.append(_entry(name, file, status.st_size, status.st_mtime_ns))
    return found


@lru_cache(_REMEMBERED)
def _entry(name: str, file: Path, _size: int, _changed: int) -> AdapterEntry:
    try:
        tensors = tensors_in(file)
    except ModelError:
        return AdapterEntry(name, DAMAGED, file)
    kind = part_of(tensors)
    if kind == LORA:
        return AdapterEntry(name, LORA, file, _family_of_lora(tensors))
    if kind.startswith("LyCORIS"):
        return AdapterEntry(name, f"{kind} (not supported)", file)
    if kind not in (TEXTUAL_INVERSION, "") or (not kind and len(tensors) != 1):
        return AdapterEntry(name, f"{kind or 'unknown'} (no adapter)", file)
    if tensors.keys() >= _XL_WORDS:
        return AdapterEntry(name, TEXTUAL_INVERSION, file, XL, name)
    word = next(iter(tensors), name) if len(tensors) == 1 else name
    width = next((fact.shape[-1] for fact in tensors.values() if fact.shape), 0)
    return AdapterEntry(name, TEXTUAL_INVERSION, file, family_of_width(width), name if word == "emb_params" else word)


def _family_of_lora(tensors: Mapping[str, TensorFact]) -> str:
    """By the layers that read the text: a UNet's cross-attention, else a text encoder of its own width."""
    if any(mark in key for key in tensors for mark in _SECOND_ENCODER):
        return XL
    for part in ("attn2", "text_model"):
        for key, fact in tensors.items():
            reads_text = part == "text_model" or "to_k" in key or "to_v" in key
            if part in key and reads_text and any(mark in key for mark in _DOWN) and len(fact.shape) > 1:
                return family_of_width(fact.shape[1])
    return ""
