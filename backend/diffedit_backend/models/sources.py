"""Where a model's parts come from: a folder, a single file, the hub. Pickled weights are refused: they can run code."""

from __future__ import annotations

from pathlib import Path

from diffedit_protocol.errors import ModelError

from .catalogue.flow_kinds import GGUF
from .catalogue.folders import PICKLES, SAFE
from .catalogue.listing import ModelEntry
from .folder import load_folder
from .hub import fetch_model, is_hub_id
from .options import ModelOptions
from .parts import Parts, Precisions
from .single_file import load_single_file


def load_parts(entry: ModelEntry, precisions: Precisions, vae: str | None, *, safety: bool) -> Parts:
    """The parts of the model of `entry`. vae: another autoencoder, None for its own; `safety`: its checker as well.

    Raises ModelError.
    """
    if entry.place.is_file():
        return load_single_file(entry, precisions, vae)
    return load_folder(entry, precisions, vae, safety=safety)


def located(name: str, place: Path, options: ModelOptions, *, halved: bool) -> Path:
    """The folder or the file of the model `name`: `place` if it is on this machine, else what the hub has under it.

    halved: whether weights in half precision do, where the hub has a choice. Raises ModelError.
    """
    if place.is_dir():
        return place
    if place.suffix.lower() == SAFE and not place.is_file():
        raise ModelError(f"There is no file {name!r}.")
    if place.suffix.lower() in (SAFE, GGUF, *PICKLES):
        return place
    if place.is_file():
        raise ModelError(f"{name!r} is no model: a .safetensors file, a diffusers folder or a hub id was expected.")
    if is_hub_id(name):
        return fetch_model(name, halved=halved, safety=options.safety)
    raise ModelError(
        f"There is no model {name!r}: it is no folder and no file here, and a hub id looks like 'owner/model'."
    )
