"""Networks of the transformers library that an edit can do without: those that caption pictures and suggest words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffedit_protocol.errors import ModelError

from .catalogue.facts import read_json
from .catalogue.folders import SAFE
from .device import choose_device
from .hub import fetch_network, is_hub_id
from .pretrained import damage_reported, pretrained


@dataclass(frozen=True)
class Kind:
    """A kind of network that is loaded by itself, not as a part of Stable Diffusion.

    what: its name in sentences. example: a hub id that fits. wanted, fits: which of those, in words, and whether its
    settings are of one. network, reader: classes of transformers by name, the first
    perhaps by the settings; the second prepares what goes in and reads
    what comes out.
    """

    what: str
    example: str
    wanted: str
    fits: Callable[[dict[str, Any]], bool]
    network: str | Callable[[dict[str, Any]], str]
    reader: str


def load_standalone(kind: Kind, name: str, device: str | None) -> tuple[Any, Any, torch.device, Path]:
    """Network, reader, device and folder of the folder or hub id `name`.

    Raises ModelError when its weights are not to be had or not safe, or when it is of another kind.
    """
    import transformers

    place = Path(name).expanduser()
    folder = place if place.is_dir() else fetch_network(name) if is_hub_id(name) else None
    if folder is None:
        raise ModelError(f"There is no {kind.what} {name!r}: it is no folder here, and a hub id is 'owner/model'.")
    file = folder / "config.json"
    if not file.is_file():
        raise ModelError(f"{name!r} is no {kind.what}: its folder has no config.json.")
    if not any(folder.glob(f"*{SAFE}")):
        raise ModelError(
            f"The {kind.what} {name!r} has no {SAFE} weights here. Pickled weights can run any program, so they are "
            f"not loaded: take a version with {SAFE} files."
        )
    with damage_reported(kind.what, name):
        settings = read_json(file)
        if not kind.fits(settings):
            raise ModelError(
                f"{name!r} is no {kind.wanted} (its kind is {settings.get('model_type')!r}), "
                f"for example {kind.example}."
            )
        named = kind.network if isinstance(kind.network, str) else kind.network(settings)
        if not hasattr(transformers, named):
            raise ModelError(
                f"{name!r} needs {named}, which the installed transformers {transformers.__version__} lacks."
            )
        network = pretrained(getattr(transformers, named), folder)
        reader = getattr(transformers, kind.reader).from_pretrained(str(folder), local_files_only=True)
    chosen = choose_device(device)
    return network.to(chosen).eval().requires_grad_(False), reader, chosen, folder
