"""Models of the Hugging Face hub: what of a repository is needed, how large it is, and its download.

Of a repository only what its model_index.json names is fetched, in one variant: those of Stable Diffusion hold the same
weights up to six times (two precisions, two formats, checkpoints for other programs).
"""

from __future__ import annotations

import glob
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffedit_protocol.errors import ModelError

from .catalogue.facts import FACTS_FILE, read_json
from .catalogue.folders import hub_is_off, kept_snapshot
from .catalogue.weight_files import has_pickles, weight_files

INDEX = "model_index.json"
SETTINGS = (".json", ".txt", ".model", ".jinja")
_SAFETY = ("safety_checker", "feature_extractor")
_UNUSED = ("image_encoder", "watermark", "controlnet")


@dataclass(frozen=True)
class Download:
    """Files of a repository. `sizes`: name to bytes; `missing_bytes`: of those that are not on this machine."""

    sizes: Mapping[str, int]
    missing_bytes: int

    @property
    def nbytes(self) -> int:
        return sum(self.sizes.values())


def is_hub_id(name: str) -> bool:
    """Whether a name looks like owner/model or owner/model@revision."""
    return name.count("/") == 1 and not name.startswith((".", "~", "/")) and all(name.split("/"))


def fetch_model(name: str, *, halved: bool, safety: bool) -> Path:
    """The folder of a model in diffusers' layout in the hub's cache; what is not there yet is downloaded.

    name: owner/model or owner/model@revision. halved: whether weights in half precision do. safety: with its safety
    checker. Raises ModelError.
    """
    kept = kept_snapshot(name, INDEX)
    if kept is not None:
        names = [file.relative_to(kept).as_posix() for file in kept.rglob("*") if file.is_file()]
        if _has_all(read_json(kept / INDEX), names, safety=safety):
            return kept
    return _fetch(name, plan_download(name, halved=halved, safety=safety))


def fetch_network(name: str) -> Path:
    """The folder of a single network in transformers' layout, such as a captioner. Raises ModelError."""
    kept = kept_snapshot(name, "config.json")
    if kept is not None:
        chosen = weight_files(file.name for file in kept.glob("*"))
        if chosen is not None and chosen.complete:
            return kept
    return _fetch(name, plan_download(name, halved=False, safety=False))


def fetch_settings(repository: str) -> Path:
    """The folder of a repository's settings and tokenizers, without any weights. Raises ModelError."""
    kept = kept_snapshot(repository, INDEX)
    if kept is not None and any(kept.glob("tokenizer/*")):
        return kept
    wanted = {
        file: size for file, size in _listed(repository).items() if file.endswith(SETTINGS) and file.count("/") <= 1
    }
    return _fetch(repository, Download(wanted, sum(wanted.values())))


def plan_download(name: str, *, halved: bool, safety: bool) -> Download:
    """What `fetch_model` and `fetch_network` would download, and how large it is. Asks the hub. Raises ModelError."""
    from huggingface_hub import hf_hub_download

    sizes = _listed(name)
    if INDEX in sizes:
        repository, _, revision = name.partition("@")
        with _hub_errors(name):
            file = Path(hf_hub_download(repository, INDEX, revision=revision or None))
        wanted = files_of_model(name, read_json(file), sizes, halved=halved, safety=safety)
    elif "config.json" in sizes:
        wanted = _files_of_network(name, sizes)
    else:
        checkpoints = [file for file in sizes if file.endswith(".safetensors") and "/" not in file]
        way = f" It holds {', '.join(checkpoints[:3])}: download one of these and name the file." if checkpoints else ""
        raise ModelError(f"{name!r} is no model in diffusers' layout: it has no {INDEX}.{way}")
    kept = kept_snapshot(name, INDEX) or kept_snapshot(name, "config.json")
    missing = sum(sizes[file] for file in wanted if not (kept and (kept / file).is_file()))
    return Download({file: sizes[file] for file in wanted}, missing)


def files_of_model(
    name: str, index: Mapping[str, Any], names: Iterable[str], *, halved: bool, safety: bool
) -> list[str]:
    """Those of a repository's files that a model needs: of every part that `index` names its settings and one set of
    weights. Raises ModelError for a part whose weights are pickles only."""
    by_folder = _by_folder(names)
    wanted = [file for file in (INDEX, FACTS_FILE) if file in by_folder.get("", ())]
    for part in _parts(index, safety):
        wanted += [
            f"{part}/{file}" for file in _files_of_part(f"The {part} of {name!r}", by_folder.get(part, ()), halved)
        ]
    return wanted


def _files_of_network(name: str, names: Iterable[str]) -> list[str]:
    return _files_of_part(f"The model {name!r}", _by_folder(names).get("", ()), halved=False)


def _files_of_part(what: str, files: Iterable[str], halved: bool) -> list[str]:
    given = list(files)
    chosen = weight_files(given, halved=halved)
    if chosen is None and has_pickles(given):
        raise ModelError(
            f"{what} has pickled weights only, which can run any program. Take a version with .safetensors files."
        )
    settings = [file for file in given if file.endswith(SETTINGS) and not file.endswith(".index.json")]
    pieces = [file for file in given if ".safetensors.index" in file] if chosen and len(chosen.names) > 1 else []
    return list(dict.fromkeys([*settings, *pieces, *(chosen.names if chosen else ())]))


def _parts(index: Mapping[str, Any], safety: bool) -> list[str]:
    left_out = _UNUSED if safety else (*_UNUSED, *_SAFETY)
    return [
        part
        for part, entry in index.items()
        if isinstance(entry, list) and len(entry) == 2 and entry[1] is not None and part not in left_out
    ]


def _by_folder(names: Iterable[str]) -> dict[str, list[str]]:
    """File names by folder, "" for the root; deeper folders are left out."""
    found: dict[str, list[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        found.setdefault(folder, []).append(file)
    return found


def _has_all(index: Mapping[str, Any], names: Iterable[str], *, safety: bool) -> bool:
    """Whether every part that `index` names is among the files, with a complete set of weights where it has any.

    A part that has settings of a network (config.json) needs weights.
    """
    by_folder = _by_folder(names)
    for part in _parts(index, safety):
        files = by_folder.get(part, [])
        chosen = weight_files(files)
        if not files or ("config.json" in files and (chosen is None or not chosen.complete)):
            return False
    return True


def _listed(name: str) -> dict[str, int]:
    """Name and size in bytes of every file of a repository, as the hub tells them."""
    from huggingface_hub import HfApi, constants

    repository, _, revision = name.partition("@")
    if hub_is_off():
        raise _not_fetched(name, "The hub is switched off here (HF_HUB_OFFLINE).")
    with _hub_errors(name):
        info = HfApi(endpoint=constants.ENDPOINT).model_info(repository, revision=revision or None, files_metadata=True)
    return {file.rfilename: file.size or 0 for file in info.siblings or ()}


def _fetch(name: str, plan: Download) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    repository, _, revision = name.partition("@")
    cache = Path(constants.HF_HUB_CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if plan.missing_bytes > free:
        raise ModelError(
            f"The model {name!r} needs {_gigabytes(plan.missing_bytes)} more on the disk, but {cache} has "
            f"{_gigabytes(free)} left. Make room, or set HF_HOME to a folder on another disk."
        )
    enable_progress_bars()  # transformers, when it is told to be quiet, takes the hub's bars with its own
    try:
        with _hub_errors(name):
            return Path(
                snapshot_download(
                    repository,
                    revision=revision or None,
                    allow_patterns=[glob.escape(file) for file in plan.sizes],
                )
            )
    finally:
        disable_progress_bars()


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    """Within, what the hub's library raises becomes a ModelError that says what to do."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    repository = name.partition("@")[0]
    try:
        yield
    except GatedRepoError as error:
        page = f"https://huggingface.co/{repository}"
        raise _not_fetched(
            name, f"Its owner asks for an agreement: accept it at {page}, then log in with `hf auth login`.", error
        ) from error
    except RepositoryNotFoundError as error:
        raise _not_fetched(
            name, "There is no such model, or it is private: log in with `hf auth login`.", error
        ) from error
    except RevisionNotFoundError as error:
        raise _not_fetched(name, "The model has no such revision.", error) from error
    # Offline and broken off are errors of the HTTP library, which has changed with the hub's versions: the hub's own
    # are made of them.
    except (*HfHubHTTPError.__bases__, OSError, ValueError) as error:
        raise _not_fetched(
            name, "Check the name and the connection, or give the folder of a downloaded model.", error
        ) from error


def _not_fetched(name: str, advice: str, error: Exception | None = None) -> ModelError:
    return ModelError(
        f"The model {name!r} is not on this machine and could not be fetched from the hub. {advice}",
        detail="" if error is None else str(error),
    )


def _gigabytes(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB"
