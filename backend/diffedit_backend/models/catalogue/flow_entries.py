"""What is known of a flow model from its settings and the headers of its files, without loading it. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffedit_protocol.errors import ModelError

from .flow_kinds import GGUF, FlowKind, few_steps_of, kind_of_pipeline, kind_of_tensors
from .folders import SAFE
from .headers import tensors_in

_USUAL_SIZE = 1024  # px, where no config tells it
_PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")


@dataclass(frozen=True)
class FlowFacts:
    """`parameters` of all networks that are there, `largest` of the largest; of a transformer alone only its own
    are known. `size` in px. `few_steps`: what a distilled model was made for, 0 for a base model. `fault`: what is
    missing, "" for nothing.
    """

    kind: FlowKind
    parameters: int
    largest: int
    size: int
    few_steps: int = 0
    fault: str = ""


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


def flow_facts(place: Path) -> FlowFacts | None:
    """What is known of the flow model at `place`, None where it is none that is known."""
    kind = flow_kind_at(place)
    if kind is None:
        return None
    if place.is_file():
        parameters = 0 if place.suffix.lower() == GGUF else sum(fact.elements for fact in tensors_in(place).values())
        return FlowFacts(kind, parameters, parameters, _USUAL_SIZE, few_steps_of(kind, place.stem, {}))
    networks = {
        part: sum(fact.elements for file in (place / part).glob(f"*{SAFE}") for fact in tensors_in(file).values())
        for part in _PARTS
    }
    needed = ("transformer", "vae", *(part for _, part, _ in kind.encoders if part not in kind.optional))
    missing = [part for part in needed if not networks[part]]
    fault = f"It has no {missing[0]}/*{SAFE}." if missing else ""
    config = place / "vae" / "config.json"
    size = _json(config).get("sample_size") if config.is_file() else None
    few = few_steps_of(kind, place.name, _json(place / "model_index.json"))
    return FlowFacts(kind, sum(networks.values()), max(networks.values()), int(size or _USUAL_SIZE), few, fault)


def _json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, TypeError):
        return {}


def _gguf_names(file: Path) -> list[str]:
    try:
        import gguf
    except ImportError as error:
        raise ModelError(
            f"{file.name!r} is a GGUF file, and gguf is not installed here: pip install 'krita-diffedit[gguf]'.",
            detail=str(error),
        ) from error
    try:
        return [tensor.name for tensor in gguf.GGUFReader(file).tensors]
    except (ValueError, OSError) as error:
        raise ModelError(f"{file.name!r} is damaged: it cannot be read as GGUF.", detail=str(error)) from error
