"""*Add model*: what a file, a folder or a hub id is, whether it fits this machine, and taking it in without a copy."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from diffedit_protocol.errors import ModelError

from .catalogue.families import part_of
from .catalogue.flow_kinds import GGUF
from .catalogue.folders import PICKLES, SAFE, adapters_folder, models_folder, vae_folder
from .catalogue.listing import ModelEntry, inspect
from .catalogue.shared import Purpose, Shared, program_of, read_shared, shared_places, write_shared
from .catalogue.weight_files import tensors_in
from .hub import Download, fetch_model, is_hub_id, plan_download

Kind = Literal["model", "adapter", "vae", "program", "download"]


@dataclass(frozen=True)
class Addition:
    """What would be added. `name`: what it will be called. kind: "program" is a folder of another program.

    family, size (px), weights (bytes on a GPU): of a model, where they are known before it is downloaded.
    download: bytes to fetch, 0 for what is here. models, adapters: how many a program's folder holds.
    fits: "" where nothing is known, else "whole", "offloaded" or "too large". about: the same in a sentence.
    """

    kind: Kind
    name: str
    place: str
    family: str = ""
    size: int = 0
    weights: int = 0
    download: int = 0
    models: int = 0
    adapters: int = 0
    fits: str = ""
    about: str = ""

    def as_map(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class FreeMemory:
    """Bytes that are free: on the device and, for weights that wait, in the machine; `on_cpu`: both are one."""

    device: int
    machine: int
    on_cpu: bool


def look_at(what: str, free: FreeMemory | None = None) -> Addition:
    """What `what` is: a .safetensors file, a model's folder, a folder of another program, a hub id.

    Nothing is changed; a hub id is asked for its size. Raises ModelError, which says why it cannot be used.
    """
    place = Path(what).expanduser()
    if place.is_dir() and not (place / "model_index.json").is_file() and (program := program_of(place)):
        return _program(place, program)
    if place.exists():
        return _local(place.resolve(), free)
    if is_hub_id(what):
        plan = plan_download(what, halved=free is not None and not free.on_cpu, safety=True)
        return _to_download(what, plan)
    raise ModelError(f"There is no {what!r}: it is no file and no folder here, and a hub id looks like 'owner/model'.")


def add(what: str, free: FreeMemory | None = None) -> Addition:
    """Take `what` in: files and folders stay where they are and are remembered, a hub id is downloaded.

    A download that broke off goes on where it was. Raises ModelError.
    """
    found = look_at(what, free)
    shared = read_shared()
    if found.kind == "program":
        folders = tuple(dict.fromkeys((*shared.folders, found.place)))
        write_shared(replace(shared, folders=folders))
    elif found.kind == "download":
        place = fetch_model(what, halved=free is not None and not free.on_cpu, safety=True)
        found = replace(_described(inspect(what, place), "model", free), name=what, place=str(place))
        write_shared(replace(shared, hub=tuple(dict.fromkeys((*shared.hub, what)))))
    else:
        _check_name(found, shared)
        write_shared(replace(shared, places={**shared.places, f"{found.kind}:{found.name}": found.place}))
    return found


def _program(folder: Path, program: str) -> Addition:
    place = str(folder.resolve())
    purposes: tuple[Purpose, ...] = ("models", "adapters")
    counts = {purpose: len(shared_places(purpose, Shared((place,)))) for purpose in purposes}
    if not any(counts.values()):
        raise ModelError(f"The folder {place!r} is {program}'s, but it holds no models and no LoRAs.")
    about = (
        f"{program}: {counts['models']} models and {counts['adapters']} LoRAs and embeddings, shared without a copy."
    )
    return Addition("program", program, place, models=counts["models"], adapters=counts["adapters"], about=about)


def _local(place: Path, free: FreeMemory | None) -> Addition:
    if place.is_file() and place.suffix.lower() not in (SAFE, GGUF, *PICKLES):
        raise ModelError(f"{str(place)!r} is no model: a {SAFE} file or a diffusers folder was expected.")
    if place.is_file() and place.suffix.lower() == SAFE:
        tensors = tensors_in(place)
        part = "" if any(key.startswith("model.diffusion_model.") for key in tensors) else part_of(tensors)
        if part in ("LoRA", "textual inversion"):
            return Addition("adapter", place.stem, str(place), about=f"A {part}, used where it is.")
        if part.startswith("autoencoder"):
            return Addition("vae", place.stem, str(place), about=f"An {part}, used where it is.")
    name = place.stem if place.is_file() else place.name
    return _described(inspect(name, place), "model", free)


def _described(entry: ModelEntry, kind: Kind, free: FreeMemory | None) -> Addition:
    weights = entry.bytes_in_memory(2)
    fits, fit = _fit(entry, free)
    what = "" if entry.family == "other" else f"{entry.family}, "
    few = f", made for {entry.few_steps} steps" if entry.few_steps else ""
    about = f"{what}{weights / 1e9:.1f} GB of weights in half precision{few}. {fit}".strip()
    return Addition(kind, entry.name, str(entry.place), entry.family, entry.size, weights, fits=fits, about=about)


def _fit(entry: ModelEntry, free: FreeMemory | None) -> tuple[str, str]:
    if free is None or not entry.parameters:
        return "", ""
    per_parameter = 4 if free.on_cpu else 2
    whole, largest = entry.bytes_in_memory(per_parameter), entry.largest_network * per_parameter
    if whole <= free.device:
        return "whole", "It fits."
    if not free.on_cpu and largest <= free.device and whole <= free.machine:
        return "offloaded", "It fits with its networks on the GPU one at a time, which is slower."
    if not free.on_cpu and whole <= free.machine:
        return "offloaded", "It fits with its layers on the GPU one at a time, which is slow."
    there = free.device if free.on_cpu else free.machine
    return "too large", f"It does not fit: it takes {whole / 1e9:.1f} GB, and {there / 1e9:.1f} GB are free."


def _to_download(name: str, plan: Download) -> Addition:
    about = f"A download of {plan.missing_bytes / 1e9:.2f} GB"
    about += f" ({plan.nbytes / 1e9:.2f} GB in all)." if plan.missing_bytes != plan.nbytes else "."
    return Addition("download", name, name, weights=plan.nbytes, download=plan.missing_bytes, about=about)


def _check_name(found: Addition, shared: Shared) -> None:
    """Raise ModelError where the name is another one's already."""
    folder = {"model": models_folder(), "adapter": adapters_folder(), "vae": vae_folder()}[found.kind]
    own = [folder / found.name, folder / f"{found.name}{SAFE}"]
    known = [place for place in own if place.exists()] + [
        Path(place) for key, place in shared.places.items() if key == f"{found.kind}:{found.name}"
    ]
    if any(place.resolve() != Path(found.place) for place in known):
        raise ModelError(f"There is another {found.kind} called {found.name!r}: {known[0]}. Rename one of them.")
