"""Adapters that are written into a text, as the web user interfaces do: "a <lora:oils:0.7> horse", "embedding:toy"."""

from __future__ import annotations

import re
from dataclasses import replace

from diffedit_protocol.errors import BadInputError
from diffedit_protocol.messages import Adapter, EditRequest

from .catalogue.folders import kept_adapters

# "<lora:NAME>", "<lora:NAME:0.7>"; a second weight, of the text encoder, is read over.
_LORA = re.compile(r"<(?:lora|lyco):([^:<>]+)(?::([^:<>]*))?(?::[^<>]*)?>", re.IGNORECASE)
_EMBEDDING = re.compile(r"\bembedding:([\w.-]+)", re.IGNORECASE)
_MOST = 4.0  # either way; LoRAs are made for 1


def with_written_adapters(request: EditRequest) -> EditRequest:
    """The request with the adapters that its texts name among its adapters, and without their notation in the texts.

    An adapter that the request has already keeps that weight. Raises BadInputError for a weight that is none.
    """
    found: dict[str, Adapter] = {}
    source, target, negative = (_read(text, found) for text in (request.source, request.target, request.negative))
    if not found:
        return request
    chosen = {adapter.name for adapter in request.adapters}
    added = tuple(adapter for name, adapter in found.items() if name not in chosen)
    return replace(request, source=source, target=target, negative=negative, adapters=(*request.adapters, *added))


def _read(text: str, found: dict[str, Adapter]) -> str:
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
