"""PIE-Bench from its folder, in the published layout (Ju et al., arXiv 2310.01506).

    FOLDER/mapping_file.json
        {key: {"image_path", "original_prompt", "editing_prompt", "editing_type_id", "mask", ...}}
    FOLDER/annotation_images/<image_path>
        512 x 512 pictures

Square brackets in a prompt mark what differs and are not meant to be read. A mask is a run-length code over the rows
of the picture: start, length, start, length, ..., 1 where the edit belongs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from diffedit_protocol.errors import BadInputError
from PIL import Image, UnidentifiedImageError

from .cases import Cases, EditCase, Picture, Region

MAPPING, PICTURES = "mapping_file.json", "annotation_images"
EDITING_TYPES = {
    "0": "random",
    "1": "change object",
    "2": "add object",
    "3": "delete object",
    "4": "change content",
    "5": "change pose",
    "6": "change colour",
    "7": "change material",
    "8": "change background",
    "9": "change style",
}


def pie_bench_cases(folder: Path, seed: int) -> Cases:
    """Every edit of the folder, by its key, in the file's order. Masks are as drawn: `scored_mask` is what figures use.

    Raises BadInputError when the folder is not in the published layout.
    """
    mapping = read_mapping(folder)

    def load(name: str) -> EditCase:
        entry = mapping[name]
        picture = _read(folder / PICTURES / entry["image_path"])
        try:
            mask = decode_mask(entry["mask"], *picture.shape[:2])
        except ValueError as error:
            raise BadInputError(f"{folder / MAPPING}: the mask of {name!r} is broken: {error}") from error
        return EditCase(
            name=name,
            kind=EDITING_TYPES[entry["editing_type_id"]],
            source=picture,
            source_text=_without_brackets(entry["original_prompt"]),
            target_text=_without_brackets(entry["editing_prompt"]),
            seed=seed,
            mask=mask,
        )

    return Cases(tuple(mapping), load)


def read_mapping(folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of the mapping file by key, checked to hold what an edit needs."""
    path = folder / MAPPING
    try:
        mapping: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInputError(f"{path} is not there. Name the folder that holds {MAPPING} and {PICTURES}/.") from error
    except json.JSONDecodeError as error:
        raise BadInputError(f"{path} is no JSON: {error}") from error
    for key, entry in mapping.items():
        for name in ("image_path", "original_prompt", "editing_prompt", "editing_type_id", "mask"):
            if name not in entry:
                raise BadInputError(f"{path}: entry {key!r} has no {name!r}.")
        if entry["editing_type_id"] not in EDITING_TYPES:
            raise BadInputError(f"{path}: entry {key!r} has editing_type_id {entry['editing_type_id']!r}, not 0 to 9.")
    return mapping


def decode_mask(code: Sequence[int], height: int, width: int) -> Region:
    """The mask (H, W) of a run-length code. A run that leaves the picture ends there. Raises ValueError for a broken
    code.
    """
    if len(code) % 2:
        raise ValueError(f"it has {len(code)} numbers, but start and length come in pairs.")
    mask = np.zeros(height * width, bool)
    for start, length in zip(code[::2], code[1::2], strict=True):
        if start < 0 or length < 0:
            raise ValueError(f"a run starts at {start} and is {length} long.")
        mask[start : start + length] = True
    return mask.reshape(height, width)


def scored_mask(mask: Region) -> Region:
    """The mask that the published figures use: the picture's border counts as edited, since hand-drawn masks err
    there.
    """
    scored = mask.copy()
    scored[[0, -1], :] = True
    scored[:, [0, -1]] = True
    return scored


def _without_brackets(prompt: str) -> str:
    return prompt.replace("[", "").replace("]", "")


def _read(path: Path) -> Picture:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise BadInputError(f"{path} is not there, though {MAPPING} names it.") from error
    except UnidentifiedImageError as error:
        raise BadInputError(f"{path} is no picture.") from error
