"""A model in diffusers' folder layout: the parts that an edit needs. Nothing is fetched, nothing unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffedit_protocol.errors import ModelError

from .parts import Parts
from .pretrained import damage_told, pretrained
from .safety import SafetyChecker, load_safety_checker

_ENCODERS = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))
_ENCODER_CLASSES = ("CLIPTextModel", "CLIPTextModelWithProjection")


def load_folder(name: str, folder: Path, dtype: torch.dtype, vae_dtype: torch.dtype, *, safety: bool = True) -> Parts:
    """The parts in a folder with model_index.json; `safety`: with its safety checker, where it has one.

    Raises ModelError, which says what is missing or of the wrong kind.
    """
    if not (folder / "model_index.json").is_file():
        raise ModelError(f"The folder {name!r} has no model_index.json: it is not a model in diffusers' layout.")
    index: dict[str, Any] = json.loads((folder / "model_index.json").read_text())
    _check_kinds(name, index)
    if not any(folder.glob("unet/*.safetensors")):
        fault = "pickled weights only, which can run any program" if any(folder.glob("unet/*.bin")) else "no weights"
        raise ModelError(f"The folder {name!r} has {fault}. Take the version with .safetensors files.")
    with damage_told("model", name):
        checker = load_safety_checker(name, folder, dtype) if safety and _kind(index, "safety_checker") else None
        return _load(folder, index, dtype, vae_dtype, checker)


def _check_kinds(name: str, index: dict[str, Any]) -> None:
    """Refuse what is no Stable Diffusion 1, 2 or XL, in words."""
    unet, vae = _kind(index, "unet"), _kind(index, "vae")
    if unet != "UNet2DConditionModel" or vae != "AutoencoderKL":
        raise ModelError(
            f"{name!r} is a {index.get('_class_name', 'model of another kind')}. "
            "Choose a Stable Diffusion 1, 2 or XL model."
        )
    for _, part in _ENCODERS:
        if part in index and _kind(index, part) not in (None, *_ENCODER_CLASSES):
            raise ModelError(
                f"{name!r} reads texts with {_kind(index, part)}. Choose a Stable Diffusion 1, 2 or XL model."
            )


def _kind(index: dict[str, Any], part: str) -> str | None:
    entry = index.get(part)
    return entry[1] if isinstance(entry, list) and len(entry) == 2 else None


def _load(
    folder: Path,
    index: dict[str, Any],
    dtype: torch.dtype,
    vae_dtype: torch.dtype,
    checker: SafetyChecker | None,
) -> Parts:
    import diffusers
    import transformers

    variant = _variant(folder)

    def network(cls: Any, part: str, dtype: torch.dtype = dtype) -> Any:
        named = {"dtype": dtype} if cls.__module__.startswith("transformers") else {"torch_dtype": dtype}
        return pretrained(cls, folder, part, variant=variant, **named)

    pairs = [(tokenizer, encoder) for tokenizer, encoder in _ENCODERS if _kind(index, encoder) is not None]
    return Parts(
        unet=network(diffusers.UNet2DConditionModel, "unet"),
        vae=network(diffusers.AutoencoderKL, "vae", vae_dtype),
        tokenizers=tuple(
            transformers.CLIPTokenizer.from_pretrained(str(folder), subfolder=part, local_files_only=True)
            for part, _ in pairs
        ),
        text_encoders=tuple(network(getattr(transformers, str(_kind(index, part))), part) for _, part in pairs),
        scheduler=getattr(diffusers, str(_kind(index, "scheduler"))).from_pretrained(
            str(folder), subfolder="scheduler", local_files_only=True
        ),
        zero_empty_text=bool(index.get("force_zeros_for_empty_prompt", False)),
        safety=checker,
    )


def _variant(folder: Path) -> str | None:
    """'fp16' where a folder holds only the half-precision files."""
    plain = (folder / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    halved = (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    return "fp16" if halved and not plain else None
