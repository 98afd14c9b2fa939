"""What is known of a flow model from its settings and the headers of its files, without loading it. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffedit_protocol.errors import ModelError

from .flow_beside import look_beside
from .flow_kinds import GGUF, FlowKind, few_steps_of, kind_of_pipeline, kind_of_tensors
from .folders import SAFE
from .headers import tensors_in

_USUAL_SIZE = 1024  # px, where no config tells it
# Multiplied onto fp8 weights by ComfyUI's nodes; the weights alone would be wrong.
_SCALED = (".scale_weight", ".weight_scale", "scaled_fp8")
KEPT_FLOAT8 = "F8_E4M3"  # what stays in eight bits in memory
_WHOLE = ("F64", "F32", "F16", "BF16")  # of GGUF's types those that are not quantised
_PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")


@dataclass(frozen=True)
class FlowFacts:
    """`parameters` of all networks that are there, `largest` of the largest; of a transformer alone those beside it
    count where its settings tell which they are. `size` in px. `few_steps`: what a distilled model was made for, 0 for
    a base model. `quantised`, `quantised_bytes`: parameters that stay quantised in memory, and what they take.
    """

    kind: FlowKind
    parameters: int
    largest: int
    size: int
    few_steps: int = 0
    quantised: int = 0
    quantised_bytes: int = 0


def flow_kind_at(place: Path) -> FlowKind | None:
    """The family of the flow model at `place`, a folder or a file; None where it is none that is known.

    Raises ModelError for a GGUF file that cannot be read.
    """
    if place.is_dir():
        index = place / "model_index.json"
        return kind_of_pipeline(_json(index)) if index.is_file() else None
    if place.suffix.lower() == GGUF:
        return kind_of_tensors(_gguf_names(place))
    try:
        return kind_of_tensors(tensors_in(place))
    except ModelError:
        return None


def flow_facts(name: str, place: Path) -> FlowFacts | None:
    """What is known of the flow model at `place`, None where it is none that is known.

    Raises ModelError, which says by its name what it lacks.
    """
    kind = flow_kind_at(place)
    if kind is None:
        return None
    if place.is_file():
        beside = look_beside(name, place, kind)
        own, quantised, quantised_bytes = (
            _gguf_facts(place) if place.suffix.lower() == GGUF else _file_facts(name, place)
        )
        networks = (own, *beside.networks)
        size = _USUAL_SIZE if beside.settings is None else _size(beside.settings)
        few = few_steps_of(kind, place.stem, {})
        return FlowFacts(kind, sum(networks), max(networks), size, few, quantised, quantised_bytes)
    by_part = {
        part: sum(fact.elements for file in (place / part).glob(f"*{SAFE}") for fact in tensors_in(file).values())
        for part in _PARTS
    }
    needed = ("transformer", "vae", *(part for _, part, _ in kind.encoders if part not in kind.optional))
    missing = [part for part in needed if not by_part[part]]
    if missing:
        raise ModelError(f"{name!r} is incomplete: it has no {missing[0]}/*{SAFE}. Download it again.")
    few = few_steps_of(kind, place.name, _json(place / "model_index.json"))
    return FlowFacts(kind, sum(by_part.values()), max(by_part.values()), _size(place), few)


def _size(settings: Path) -> int:
    """The side in px that an autoencoder's settings tell."""
    return int(_json(settings / "vae" / "config.json").get("sample_size") or _USUAL_SIZE)


def _file_facts(name: str, file: Path) -> tuple[int, int, int]:
    """Parameters, those that stay in eight bits, and their bytes."""
    tensors = tensors_in(file)
    if any(key.endswith(_SCALED) for key in tensors):
        raise ModelError(
            f"{name!r} holds scaled fp8 weights, which are not read. Take its plain fp8, bf16 or GGUF version."
        )
    kept = sum(fact.elements for fact in tensors.values() if fact.dtype == KEPT_FLOAT8)
    return sum(fact.elements for fact in tensors.values()), kept, kept


def _json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, TypeError):
        return {}


def _gguf_names(file: Path) -> list[str]:
    return [str(tensor.name) for tensor in _gguf_tensors(file)]


def _gguf_facts(file: Path) -> tuple[int, int, int]:
    """Parameters, those that stay quantised, and their bytes."""
    tensors = _gguf_tensors(file)
    kept = [tensor for tensor in tensors if tensor.tensor_type.name not in _WHOLE]
    return (
        sum(int(tensor.n_elements) for tensor in tensors),
        sum(int(tensor.n_elements) for tensor in kept),
        sum(int(tensor.n_bytes) for tensor in kept),
    )


def _gguf_tensors(file: Path) -> list[Any]:
    try:
        import gguf
    except ImportError as error:
        raise ModelError(
            f"{file.name!r} is a GGUF file, and gguf is not installed here: pip install 'krita-diffedit[gguf]'.",
            detail=str(error),
        ) from error
    try:
        return list(gguf.GGUFReader(file).tensors)
    except (ValueError, OSError) as error:
        raise ModelError(f"{file.name!r} is damaged: it cannot be read as GGUF.", detail=str(error)) from error
