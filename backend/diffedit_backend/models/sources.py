"""Where a model's parts come from: a folder, a single file, the hub. Pickled weights are refused: they can run code."""

from __future__ import annotations

from pathlib import Path

import torch
from diffedit_protocol.errors import ModelError

from .catalogue.folders import PICKLES, SAFE
from .folder import load_folder
from .parts import Parts
from .single_file import load_single_file

_FROM_HUB = ["*.json", "*.safetensors", "*.txt", "*.model"]


def load_parts(name: str, place: Path, dtype: torch.dtype, vae_dtype: torch.dtype, *, safety: bool = True) -> Parts:
    """The parts of the model `name`, which `located` found at `place`; `safety`: its checker as well.

    Raises ModelError.
    """
    if place.is_file():
        return load_single_file(name, place, dtype, vae_dtype)
    return load_folder(name, place, dtype, vae_dtype, safety=safety)


def located(name: str, place: Path) -> Path:
    """The folder or the file of the model `name`: `place` if it is on this machine, else what the hub has under it.

    Raises ModelError.
    """
    if place.is_dir():
        return place
    if place.suffix.lower() in PICKLES:
        raise ModelError(
            f"{name!r} is a pickle, which can run any program when it is opened, so it is not loaded. "
            "Take the .safetensors version of the model."
        )
    if place.suffix.lower() == SAFE:
        if not place.is_file():
            raise ModelError(f"There is no file {name!r}.")
        return place
    if place.is_file():
        raise ModelError(f"{name!r} is no model: a .safetensors file, a diffusers folder or a hub id was expected.")
    if name.count("/") == 1 and not name.startswith((".", "~", "/")):
        return fetched(name, _FROM_HUB)
    raise ModelError(
        f"There is no model {name!r}: it is no folder and no file here, and a hub id looks like 'owner/model'."
    )


def fetched(name: str, patterns: list[str]) -> Path:
    """The folder of a hub id, or id@revision, in the hub's cache; files of `patterns` are downloaded where it has none.

    Raises ModelError.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    repository, _, revision = name.partition("@")
    wanted = {"repo_id": repository, "revision": revision or None, "allow_patterns": patterns}
    try:
        return Path(snapshot_download(**wanted, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    enable_progress_bars()  # transformers, when it is told to be quiet, takes the hub's bars with its own
    try:
        return Path(snapshot_download(**wanted))
    # No such model or not allowed are kinds of OSError. Offline and broken off are those of the HTTP library, which has
    # changed with the hub's versions: its errors are what the hub's own are made of.
    except (*HfHubHTTPError.__bases__, OSError, ValueError) as error:
        raise ModelError(
            f"The model {name!r} is not on this machine and could not be fetched from the hub. "
            "Check the name and the connection, or give the folder of a downloaded model.",
            detail=str(error),
        ) from error
    finally:
        disable_progress_bars()
