"""An autoencoder (VAE) of its own in place of the one that a model has or lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffedit_protocol.errors import ModelError

from .catalogue.folders import vae_path
from .catalogue.headers import tensors_in
from .pretrained import damage_reported, pretrained


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
