"""Models of other programs, shared where they are: ComfyUI, A1111 and Forge, InvokeAI, krita-ai-diffusion.

Nothing is copied: `shared.json` in the data folder remembers the folders, single files and hub ids that were added.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from diffedit_protocol.errors import ModelError
from diffedit_protocol.private_files import data_folder

from .facts import read_json
from .flow_kinds import GGUF

Purpose = Literal["models", "adapters", "vae"]
_SAFE = ".safetensors"
_INDEX = "model_index.json"
# What lies where below a program's folder. krita-ai-diffusion's server keeps ComfyUI's layout.
_COMFY: dict[Purpose, tuple[str, ...]] = {
    "models": ("checkpoints", "diffusers", "diffusion_models", "unet"),
    "adapters": ("loras", "embeddings"),
    "vae": ("vae",),
}
_A1111: dict[Purpose, tuple[str, ...]] = {
    "models": ("models/Stable-diffusion",),
    "adapters": ("models/Lora", "models/LyCORIS", "embeddings"),
    "vae": ("models/VAE",),
}
_INVOKE_TYPES: dict[str, Purpose] = {"main": "models", "lora": "adapters", "embedding": "adapters", "vae": "vae"}


@dataclass(frozen=True)
class Shared:
    """What `shared.json` holds: folders of programs, places of single files ("model:NAME", "adapter:NAME", "vae:NAME"),
    ids of models of the hub."""

    folders: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    hub: tuple[str, ...] = ()


def shared_file() -> Path:
    return data_folder() / "shared.json"


def read_shared() -> Shared:
    """What was added so far. Raises ModelError for a file that is damaged."""
    file = shared_file()
    if not file.is_file():
        return Shared()
    values = read_json(file)
    folders, places, hub = values.get("folders", []), values.get("places", {}), values.get("hub", [])
    if not (isinstance(folders, list) and isinstance(places, dict) and isinstance(hub, list)):
        raise ModelError(f"{file} is damaged: folders and hub must be lists, places an object. Correct or delete it.")
    return Shared(tuple(map(str, folders)), {str(k): str(v) for k, v in places.items()}, tuple(map(str, hub)))


def write_shared(shared: Shared) -> None:
    """Written aside and renamed, so that a full disk leaves the old one."""
    file = shared_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    values = {"folders": list(shared.folders), "places": dict(shared.places), "hub": list(shared.hub)}
    aside = file.with_suffix(".part")
    aside.write_text(json.dumps(values, indent=2, ensure_ascii=False), encoding="utf-8")
    aside.replace(file)


def program_of(folder: Path) -> str:
    """The program whose layout a folder has, "" for none: "ComfyUI", "A1111" (and Forge, SD.Next), "InvokeAI"."""
    if (folder / "databases" / "invokeai.db").is_file() or (folder / "invokeai.yaml").is_file():
        return "InvokeAI"
    if (folder / "models" / "Stable-diffusion").is_dir():
        return "A1111"
    return "ComfyUI" if _comfy_root(folder) is not None else ""


def shared_places(purpose: Purpose, shared: Shared | None = None) -> dict[str, Path]:
    """Name and place of what was added for a purpose, by itself or with a program's folder; None: all that was added.

    Of equal names the first counts; what is no longer there is left out.
    """
    shared = read_shared() if shared is None else shared
    kind = {"models": "model", "adapters": "adapter", "vae": "vae"}[purpose]
    found = {
        key.partition(":")[2]: Path(place) for key, place in shared.places.items() if key.partition(":")[0] == kind
    }
    for folder in map(Path, shared.folders):
        for name, place in _in_program(folder, purpose):
            found.setdefault(name, place)
    return {name: place for name, place in found.items() if place.exists()}


def _in_program(folder: Path, purpose: Purpose) -> Iterator[tuple[str, Path]]:
    program = program_of(folder)
    if program == "InvokeAI":
        yield from _in_invoke(folder, purpose)
    elif program == "A1111":
        yield from _below(folder, _A1111[purpose])
    elif program == "ComfyUI":
        root = _comfy_root(folder)
        if root is not None:
            yield from _below(root, _COMFY[purpose], (_SAFE, GGUF) if purpose == "models" else (_SAFE,))


def _comfy_root(folder: Path) -> Path | None:
    candidates = (folder, folder / "models", folder / "ComfyUI" / "models")
    return next((place for place in candidates if (place / "checkpoints").is_dir()), None)


def _below(root: Path, folders: Iterable[str], endings: Iterable[str] = (_SAFE,)) -> Iterator[tuple[str, Path]]:
    for name in folders:
        for file in sorted(file for ending in endings for file in (root / name).rglob(f"*{ending}")):
            if not any((above / _INDEX).is_file() for above in file.parents if above.is_relative_to(root)):
                yield file.stem, file
        for index in sorted((root / name).rglob(_INDEX)):
            yield index.parent.name, index.parent


def _in_invoke(folder: Path, purpose: Purpose) -> Iterator[tuple[str, Path]]:
    """By InvokeAI's database, which is opened for reading only; its models lie in folders of random names."""
    database = folder / "databases" / "invokeai.db"
    if not database.is_file():
        return
    try:
        connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)
        try:
            rows = connection.execute("SELECT config FROM models").fetchall()
        finally:
            connection.close()
        entries = [json.loads(row[0]) for row in rows]
    except (sqlite3.Error, ValueError) as error:
        raise ModelError(f"The list of InvokeAI's models in {database} cannot be read.", detail=str(error)) from error
    for entry in entries:
        place = folder / "models" / str(entry.get("path", ""))
        if _INVOKE_TYPES.get(str(entry.get("type"))) == purpose and place.exists():
            if purpose == "adapters" and place.is_dir():
                place = next(iter(sorted(place.glob(f"*{_SAFE}"))), place)
            yield str(entry.get("name") or place.stem), place
