"""The models for words on this machine: the one that describes pictures, the one that suggests wordings. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffedit_protocol.errors import ModelError

from .folders import (
    SAFE,
    cached_snapshots,
    captioner_folder,
    kept_captioner,
    kept_segmenter,
    kept_suggester,
    segmenter_folder,
    suggester_folder,
)
from .weight_files import tensors_in

DEFAULT_CAPTIONER = "Salesforce/blip-image-captioning-base"
DEFAULT_SUGGESTER = "google/flan-t5-large"
DEFAULT_SEGMENTER = "CIDAS/clipseg-rd64-refined"


@dataclass(frozen=True)
class WordModel:
    """`purpose`: "describe" or "suggest", which is also its command, or "segment". name: of what was found, a folder or
    a hub id, "" for none. nbytes: of its weights, loaded in the precision that they lie in. fault: why they cannot be
    loaded. way_out: what to do where none was found.
    """

    purpose: str
    name: str
    place: Path | None
    nbytes: int
    fault: str
    way_out: str


def word_models() -> list[WordModel]:
    """What a backend would describe, suggest and segment with, and the commands: the folder of the data folder, else
    the default in the hub's cache, which only the commands take without being told.
    """
    return [
        _found(
            "describe",
            kept_captioner(),
            DEFAULT_CAPTIONER,
            f"Put a BLIP folder with {SAFE} weights at {captioner_folder()}, or start with `diffedit serve --captioner "
            f"FOLDER|HUB-ID`; `diffedit describe` fetches {DEFAULT_CAPTIONER} (1 GB) where there is a network.",
        ),
        _found(
            "suggest",
            kept_suggester(),
            DEFAULT_SUGGESTER,
            f"Put a T5 or FLAN-T5 folder with {SAFE} weights at {suggester_folder()}, or start with `diffedit serve "
            f"--suggester FOLDER|HUB-ID`; `diffedit suggest` fetches {DEFAULT_SUGGESTER} (3 GB) where there is a "
            "network.",
        ),
        _found(
            "segment",
            kept_segmenter(),
            DEFAULT_SEGMENTER,
            f"Put a CLIPSeg or SAM 3 folder with {SAFE} weights at {segmenter_folder()}, or start with `diffedit serve "
            f"--segmenter FOLDER|HUB-ID`, for example {DEFAULT_SEGMENTER} (0.6 GB).",
        ),
    ]


def _found(purpose: str, kept: str | None, default: str, way_out: str) -> WordModel:
    place = Path(kept) if kept is not None else cached_snapshots("config.json").get(default)
    if place is None:
        return WordModel(purpose, "", None, 0, "", way_out)
    name = kept or default
    files = sorted(place.glob(f"*{SAFE}"))
    if not files:
        return WordModel(purpose, name, place, 0, f"It has no {SAFE} weights.", way_out)
    try:
        size = sum(fact.nbytes for file in files for fact in tensors_in(file).values())
    except ModelError as error:
        return WordModel(purpose, name, place, 0, error.sentence, way_out)
    return WordModel(purpose, name, place, size, "", way_out)
