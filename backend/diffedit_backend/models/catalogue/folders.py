"""Where models and adapters lie on this machine, a person's own and those of the Hugging Face hub's cache, and how a
name finds one.

    <data>/models/NAME/              a model in diffusers' folder layout
    <data>/models/NAME.safetensors   a checkpoint in Stable Diffusion's original layout, or a flow model's transformer
    <data>/models/NAME.gguf          a flow model's transformer, quantised
    <data>/text_encoders/            text encoders of flow models
    <data>/adapters/NAME.safetensors a LoRA or a textual inversion; NAME/ with one .safetensors file in it is the same
    <data>/vae/NAME.safetensors      an autoencoder (VAE); NAME/ in diffusers' layout is the same
    <data>/captioner/                a BLIP model that describes pictures
    <data>/segmenter/                a CLIPSeg or SAM 3 model that finds what a text names
    <data>/suggester/                a T5 or FLAN-T5 model that suggests wordings

Models of other programs and of the hub that a person added are remembered in <data>/shared.json (see `shared`).

<data> is $DIFFEDIT_HOME, or `diffedit` in the user's data folder.
"""

from __future__ import annotations

import re
from pathlib import Path

from diffedit_protocol.errors import ModelError, name_list
from diffedit_protocol.private_files import data_folder

from ...bundled import weights_folder
from .flow_kinds import GGUF
from .shared import read_shared, shared_places


def cached_snapshots(mark: str) -> dict[str, Path]:
    """Id and newest snapshot of every model in the cache that has the file `mark`, by id."""
    try:
        from huggingface_hub import constants, scan_cache_dir
        from huggingface_hub.errors import CacheNotFound
    except ImportError:  # a client without the extra "backend" has no hub either
        return {}
    try:
        cache = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return {}
    found = {}
    for repository in cache.repos:
        if repository.repo_type != "model":
            continue
        whole = [revision for revision in repository.revisions if (revision.snapshot_path / mark).is_file()]
        if whole:
            newest = max(whole, key=lambda revision: revision.last_modified)
            found[repository.repo_id] = newest.snapshot_path
    return dict(sorted(found.items()))


def kept_snapshot(name: str, mark: str) -> Path | None:
    """The folder of a hub id (owner/model or owner/model@revision) in the cache that has the file `mark`, else None."""
    try:
        from huggingface_hub import constants, try_to_load_from_cache
    except ImportError:
        return None
    repository, _, revision = name.partition("@")
    found = try_to_load_from_cache(repository, mark, cache_dir=constants.HF_HUB_CACHE, revision=revision or None)
    return Path(found).parent if isinstance(found, str) else None


def hub_is_off() -> bool:
    """Whether nothing is fetched: HF_HUB_OFFLINE says so, or the hub's library is not here."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return True
    return bool(constants.HF_HUB_OFFLINE)


BUNDLED = "bundled"
SAFE = ".safetensors"
VAE_SAFE = ".vae.safetensors"
# Python's pickle runs whatever program the file asks for while it is read.
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")


def models_folder() -> Path:
    return data_folder() / "models"


def adapters_folder() -> Path:
    return data_folder() / "adapters"


def vae_folder() -> Path:
    return data_folder() / "vae"


def captioner_folder() -> Path:
    return data_folder() / "captioner"


def suggester_folder() -> Path:
    return data_folder() / "suggester"


def segmenter_folder() -> Path:
    return data_folder() / "segmenter"


def kept_captioner() -> str | None:
    """Where a person has put a captioning model, None without one."""
    return _kept_network(captioner_folder())


def kept_suggester() -> str | None:
    """Where a person has put a model that suggests wordings, None without one."""
    return _kept_network(suggester_folder())


def kept_segmenter() -> str | None:
    """Where a person has put a model that finds what a text names, None without one."""
    return _kept_network(segmenter_folder())


def _kept_network(folder: Path) -> str | None:
    return str(folder) if (folder / "config.json").is_file() else None


def kept_models() -> dict[str, Path]:
    """Name and place of every model in the models folder, by name."""
    folder = models_folder()
    found = {place.parent.name: place.parent for place in folder.glob("*/model_index.json")}
    # A file wins over the folder beside it that only holds its settings.
    files = [*folder.glob(f"*{GGUF}"), *folder.glob(f"*{SAFE}")]
    found |= {file.stem: file for file in files if not file.name.endswith(VAE_SAFE)}
    return dict(sorted((_of_hub() | shared_places("models") | found).items()))


def _of_hub() -> dict[str, Path]:
    """The models of the hub that a person added, as far as they are on this machine."""
    added = read_shared().hub
    cached = cached_snapshots("model_index.json") if added else {}
    return {name: cached[name] for name in added if name in cached}


def vae_beside(file: Path) -> str | None:
    """The autoencoder that lies beside a single file by the custom of the web user interfaces, NAME.vae.safetensors."""
    beside = file.with_name(f"{file.stem}{VAE_SAFE}")
    return str(beside) if file.is_file() and beside.is_file() else None


def vae_path(name: str) -> Path:
    """Where the autoencoder `name` is: a path, or a name in the folder for autoencoders."""
    place = Path(name).expanduser()
    if place.exists():
        return place
    kept = [vae_folder() / name, vae_folder() / f"{name}{SAFE}"]
    return next((candidate for candidate in kept if candidate.exists()), shared_places("vae").get(name, place))


def pickled_models() -> dict[str, Path]:
    """Name and place of the checkpoints in the models folder that are pickles, which nothing here loads."""
    return {place.name: place for place in sorted(models_folder().glob("*")) if place.suffix.lower() in PICKLES}


def kept_adapters() -> dict[str, Path]:
    """Name and .safetensors file of every LoRA and textual inversion in the adapters folder, by name."""
    folder = adapters_folder()
    found = {}
    for place in folder.glob("*/"):
        files = sorted(place.glob(f"*{SAFE}"))
        if len(files) == 1:
            found[place.name] = files[0]
    found |= {file.stem: file for file in folder.glob(f"*{SAFE}")}
    return dict(sorted((_named_safely(shared_places("adapters")) | found).items()))


def _named_safely(places: dict[str, Path]) -> dict[str, Path]:
    """Without what the protocol takes for no name of an adapter: path separators, colons, a leading dot."""
    return {re.sub(r"[/\\\0:]", "_", name).lstrip("."): place for name, place in places.items()}


def model_path(name: str) -> Path:
    """Where the model `name` is: the bundled one, a path, a name in the models folder. A hub id is no place."""
    if name == BUNDLED:
        return weights_folder()
    place = Path(name).expanduser()
    if place.exists():
        return place
    pickled = {ending: pickle for full, pickle in pickled_models().items() for ending in (full, pickle.stem)}
    return (pickled | kept_models()).get(name, place)


def adapter_file(name: str) -> Path:
    """The file of the adapter `name`. Raises ModelError, which says what there is, or why a pickle is refused."""
    kept = kept_adapters()
    if name in kept:
        return kept[name]
    folder = adapters_folder()
    for ending in PICKLES:
        if (folder / f"{name}{ending}").is_file():
            raise ModelError(
                f"The adapter '{name}{ending}' is a pickle, which can run any program when it is opened, so it is not "
                "loaded. Take its .safetensors version."
            )
    there = f"There are: {name_list(kept)}." if kept else f"There are none; put .safetensors files into {folder}."
    raise ModelError(f"The backend has no adapter {name!r:.80}. {there}")
