"""Where a model's parts come from: a folder, a single file, the hub. Pickled weights are refused: they can run code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffedit_protocol.errors import ModelError

from ..library.folders import PICKLES, SAFE
from .folder import load_folder
from .parts import Parts
from .single_file import load_single_file

_FROM_HUB = ["*.json", "*.safetensors", "*.txt", "*.model"]


def load_parts(name: str, place: Path, dtype: torch.dtype, *, safety: bool = True) -> Parts:
    """The parts of the model `name`, which is at `place` if it is on this machine; `safety`: its checker as well.

    Raises ModelError.
    """
    if place.is_dir():
        return load_folder(name, place, dtype, safety=safety)
    if place.suffix.lower() in PICKLES:
        raise ModelError(
            f"{name!r} is a pickle, which can run any program when it is opened, so it is not loaded. "
            "Take the .safetensors version of the model."
        )
    if place.suffix.lower() == SAFE:
        if not place.is_file():
            raise ModelError(f"There is no file {name!r}.")
        return load_single_file(name, place, dtype)
    if place.is_file():
        raise ModelError(f"{name!r} is no model: a .safetensors file, a diffusers folder or a hub id was expected.")
    if name.count("/") == 1 and not name.startswith((".", "~", "/")):
        return load_folder(name, fetched(name, _FROM_HUB), dtype, safety=safety)
    raise ModelError(
        f"There is no model {name!r}: it is no folder and no file here, and a hub id looks like 'owner/model'."
    )


def fetched(name: str, patterns: list[str]) -> Path:
    """The folder of a hub id, or id@revision, in the hub's cache; files of `patterns` are downloaded where it has none.

    Raises ModelError.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    wanted = {"repo_id": repository, "revision": revision or None, "allow_patterns": patterns}
    try:
        return Path(snapshot_download(**wanted, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(**wanted))
    except (
        OSError,
        ValueError,
    ) as error:  # offline, no such model, or not allowed: the hub's errors are of these kinds
        raise ModelError(
            f"The model {name!r} is not on this machine and could not be fetched from the hub. "
            "Check the name and the connection, or give the folder of a downloaded model.",
            detail=str(error),
        ) from error


def network_folder(name: str, what: str, patterns: list[str]) -> tuple[Path, dict[str, Any]]:
    """Folder and settings of one network of the transformers library: `name` is its folder, or a hub id.

    what: the kind of network, for the sentences of a ModelError: when it is not to be had, or has no safe weights.
    """
    place = Path(name).expanduser()
    folder = place if place.is_dir() else fetched(name, patterns) if name.count("/") == 1 else None
    if folder is None:
        raise ModelError(f"There is no {what} {name!r}: it is no folder here, and a hub id is 'owner/model'.")
    file = folder / "config.json"
    if not file.is_file():
        raise ModelError(f"{name!r} is no {what}: its folder has no config.json.")
    if not any(folder.glob(f"*{SAFE}")):
        raise ModelError(
            f"The {what} {name!r} has no {SAFE} weights here. Pickled weights can run any program, so they are not "
            f"loaded: take a version with {SAFE} files."
        )
    return folder, dict(json.loads(file.read_text(encoding="utf-8")))
