"""Networks of the libraries from files on this machine: safe weights, and all of them; an autoencoder of its own.

Where a file lacks weights, diffusers and transformers draw the missing ones at random and only log it: a model that
then answers nonsense. Here that is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffedit_protocol.errors import ModelError
from safetensors import SafetensorError

from .catalogue.folders import vae_path
from .catalogue.weight_files import tensors_in

# What the libraries raise on files that are absent, cut off, of other sizes, or no such files at all.
_DAMAGED = (OSError, ValueError, KeyError, RuntimeError, SafetensorError)
_NAMED = 3  # of the missing weights, in a sentence


@contextmanager
def damage_reported(what: str, name: str) -> Iterator[None]:
    """Within, what the libraries raise on bad files becomes a ModelError about the `what` `name`."""
    try:
        yield
    except _DAMAGED as error:
        raise ModelError(
            f"The {what} {name!r} is incomplete or damaged. Download it again.", detail=f"{error!r:.500}"
        ) from error


def pretrained(cls: Any, folder: Path, part: str = "", **options: Any) -> Any:
    """The network `cls` of diffusers or transformers from its .safetensors files in `folder`/`part`.

    Raises ValueError when the files lack weights of it; else what the library raises.
    """
    network, report = cls.from_pretrained(
        str(folder), subfolder=part, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
    )
    if missing := sorted(report["missing_keys"]):
        first = ", ".join(missing[:_NAMED])
        raise ValueError(f"{part or cls.__name__} lacks {len(missing)} of its weights: {first}")
    return network


def load_autoencoder(name: str, settings: Path, dtype: torch.dtype) -> Any:
    """The autoencoder `name`: a name in the folder for them, a folder in diffusers' layout, or a .safetensors file.

    settings: folder of the model that it is for, whose autoencoder's settings a single file takes. Raises ModelError.
    """
    from diffusers import AutoencoderKL

    place = vae_path(name)
    if place.is_dir():
        part = "vae" if (place / "vae" / "config.json").is_file() else ""
        if not (place / part / "config.json").is_file():
            raise ModelError(f"{name!r} is no autoencoder: its folder has no config.json.")
        with damage_reported("autoencoder", name):
            return pretrained(AutoencoderKL, place, part, torch_dtype=dtype)
    if place.suffix != ".safetensors" or not place.is_file():
        raise ModelError(f"There is no autoencoder {name!r}: a folder in diffusers' layout or a .safetensors file.")
    names = tensors_in(place)
    if not any("decoder.conv_in" in key or "decoder.conv_out" in key for key in names):
        raise ModelError(f"{name!r} holds no autoencoder (VAE).")
    with damage_reported("autoencoder", name):
        return AutoencoderKL.from_single_file(
            str(place), config=str(settings), subfolder="vae", torch_dtype=dtype, local_files_only=True
        )
