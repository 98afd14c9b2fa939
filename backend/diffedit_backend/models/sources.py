"""Where a model's parts come from: a folder, a single file, the hub. Pickled weights are refused: they can run code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffedit_protocol.errors import ModelError

from .single_file import load_single_file

_PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")


def load_components(name: str, place: Path) -> dict[str, Any]:
    """The parts of a model by their names in diffusers: unet, vae, tokenizer(_2), text_encoder(_2), scheduler."""
    if place.is_dir():
        return _from_folder(name, place)
    if place.suffix.lower() in _PICKLES:
        raise ModelError(
            f"{name!r} is a pickle, which can run any program when it is opened, so it is not loaded. "
            "Take the .safetensors version of the model."
        )
    if place.suffix.lower() == ".safetensors":
        if not place.is_file():
            raise ModelError(f"There is no file {name!r}.")
        return load_single_file(name, place)
    if place.is_file():
        raise ModelError(f"{name!r} is no model: a .safetensors file, a diffusers folder or a hub id was expected.")
    if name.count("/") == 1 and not name.startswith((".", "~", "/")):
        return _from_hub(name)
    raise ModelError(
        f"There is no model {name!r}: it is no folder and no file here, and a hub id looks like 'owner/model'."
    )


def _from_folder(name: str, folder: Path) -> dict[str, Any]:
    if not (folder / "model_index.json").is_file():
        raise ModelError(f"The folder {name!r} has no model_index.json: it is not a model in diffusers' layout.")
    if not any(folder.glob("unet/*.safetensors")):
        fault = "pickled weights only, which can run any program" if any(folder.glob("unet/*.bin")) else "no weights"
        raise ModelError(f"The folder {name!r} has {fault}. Take the version with .safetensors files.")
    return _components(name, str(folder), local=True)


def _from_hub(name: str) -> dict[str, Any]:
    try:
        return _components(name, name, local=True)
    except ModelError:
        return _components(name, name, local=False)


def _components(name: str, source: str, *, local: bool) -> dict[str, Any]:
    from diffusers import DiffusionPipeline

    variants = _variants(Path(source))
    try:
        pipeline = DiffusionPipeline.from_pretrained(
            source,
            local_files_only=local,
            use_safetensors=True,
            variant=variants,
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        where = "here" if local else "on this machine, and the hub cannot be asked for it (offline, or no such model)"
        raise ModelError(
            f"The model {name!r} could not be loaded: it is incomplete or not there {where}. "
            "Give the folder of a downloaded model, or connect once so that it can be fetched.",
            detail=str(error),
        ) from error
    parts = dict(pipeline.components)
    if "unet" not in parts or "vae" not in parts:
        raise ModelError(f"{name!r} is a {type(pipeline).__name__}. DiffEdit works with Stable Diffusion 1, 2 and XL.")
    parts["force_zeros_for_empty_prompt"] = pipeline.config.get("force_zeros_for_empty_prompt", False)
    return parts


def _variants(folder: Path) -> str | None:
    """ "fp16" where a folder holds only the half-precision files."""
    plain = (folder / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    halved = (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    return "fp16" if halved and not plain else None
