"""The parts of a flow model: from a diffusers folder, or a transformer alone with what lies beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffedit_protocol.errors import ModelError

from .catalogue.flow_entries import (
    ENCODER_FOLDERS,
    KEPT_FLOAT8,
    VAE_FOLDERS,
    VAE_MARK,
    look_beside,
    own_settings,
    settings_missing,
    tensors_beside,
    vae_missing,
)
from .catalogue.flow_kinds import GGUF, FlowKind
from .catalogue.weight_files import tensors_in
from .hub import fetch_settings
from .pretrained import damage_reported, pretrained

_FLOAT8 = torch.float8_e4m3fn


@dataclass(frozen=True, eq=False)
class FlowParts:
    """diffusers' and transformers' objects. `left_out`: text encoders that are not there and need not be."""

    transformer: Any
    vae: Any
    tokenizers: tuple[Any, ...]
    text_encoders: tuple[Any, ...]
    scheduler: Any
    left_out: tuple[str, ...] = ()


def folder_parts(name: str, folder: Path, kind: FlowKind, dtype: torch.dtype, vae_dtype: torch.dtype) -> FlowParts:
    """The parts in a folder with model_index.json. Raises ModelError, which says what is missing."""
    import diffusers

    for part in ("transformer", "vae"):
        if not any((folder / part).glob("*.safetensors")):
            raise ModelError(f"{name!r} has no {part}/*.safetensors. Download it again.")
    with damage_reported("model", name):
        transformer = pretrained(getattr(diffusers, kind.transformer), folder, "transformer", torch_dtype=dtype)
        vae = pretrained(getattr(diffusers, kind.vae), folder, "vae", torch_dtype=vae_dtype)
        return _with_texts(name, folder, kind, transformer, vae, dtype, {})


def file_parts(name: str, file: Path, kind: FlowKind, dtype: torch.dtype, vae_dtype: torch.dtype) -> FlowParts:
    """The parts around a file that holds the transformer alone. Raises ModelError, which says what is missing where."""
    settings = _settings_folder(name, file, kind)
    look_beside(name, file, kind, settings)  # refuses what is missing before gigabytes are read
    with damage_reported("model", name):
        transformer = _transformer(name, file, kind, settings, dtype)
        vae = _vae(name, file, kind, settings, vae_dtype)
        return _with_texts(name, settings, kind, transformer, vae, dtype, _shapes(file, ENCODER_FOLDERS))


def _settings_folder(name: str, file: Path, kind: FlowKind) -> Path:
    """The folder of the file's settings and tokenizers, fetched from the hub where they are not here."""
    if (own := own_settings(file)) is not None:
        return own
    try:
        return fetch_settings(kind.hub)
    except ModelError as error:
        raise settings_missing(name, file, kind, error.sentence) from error


def _transformer(name: str, file: Path, kind: FlowKind, settings: Path, dtype: torch.dtype) -> Any:
    import diffusers

    cls = getattr(diffusers, kind.transformer)
    options: dict[str, Any] = {
        "config": str(settings),
        "subfolder": "transformer",
        "local_files_only": True,
        "torch_dtype": dtype,
    }
    if file.suffix.lower() == GGUF:
        try:
            import gguf  # noqa: F401
        except ImportError as error:
            raise ModelError(
                f"{name!r} is a GGUF file, and gguf is not installed here: pip install 'krita-diffedit[gguf]'.",
                detail=str(error),
            ) from error
        quantized = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
        return cls.from_single_file(str(file), quantization_config=quantized, **options)
    transformer = cls.from_single_file(str(file), **options)
    if any(fact.dtype == KEPT_FLOAT8 for fact in tensors_in(file).values()):
        transformer.enable_layerwise_casting(storage_dtype=_FLOAT8, compute_dtype=dtype)
    return transformer


def _vae(name: str, file: Path, kind: FlowKind, settings: Path, dtype: torch.dtype) -> Any:
    import diffusers
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
    from safetensors.torch import load_file

    cls = getattr(diffusers, kind.vae)
    if any((settings / "vae").glob("*.safetensors")):
        return pretrained(cls, settings, "vae", torch_dtype=dtype)
    network = cls.from_config(json.loads((settings / "vae" / "config.json").read_text()))
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    for path, shapes in _shapes(file, VAE_FOLDERS).items():
        if shapes.keys() >= wanted.keys() and all(shapes[key] == shape for key, shape in wanted.items()):
            network.load_state_dict({key: value for key, value in load_file(path).items() if key in wanted})
            return network.to(dtype)
        if VAE_MARK in shapes and shapes[VAE_MARK] == wanted.get(VAE_MARK):
            tensors = load_file(path)
            converted = convert_ldm_vae_checkpoint(tensors, network.config)
            converted |= {key: value for key, value in tensors.items() if key.startswith("bn.")}
            network.load_state_dict({key: value for key, value in converted.items() if key in wanted})
            return network.to(dtype)
    raise vae_missing(name, file, kind)


def _with_texts(
    name: str,
    folder: Path,
    kind: FlowKind,
    transformer: Any,
    vae: Any,
    dtype: torch.dtype,
    beside: dict[Path, dict[str, tuple[int, ...]]],
) -> FlowParts:
    import diffusers
    import transformers

    tokenizers, encoders, left_out = [], [], []
    for tokenizer, part, cls in kind.encoders:
        encoder = _encoder(folder, part, getattr(transformers, cls), dtype, beside)
        if encoder is None and part in kind.optional:
            left_out.append(part)
            continue
        if encoder is None:
            raise ModelError(
                f"{name!r} has no {part} ({cls}) that fits it, neither in {str(folder / part)!r} nor in a folder "
                f"{ENCODER_FOLDERS[0]}/ beside the model's."
            )
        encoders.append(encoder)
        tokenizers.append(
            transformers.AutoTokenizer.from_pretrained(str(folder), subfolder=tokenizer, local_files_only=True)
        )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(
        str(folder), subfolder="scheduler", local_files_only=True
    )
    return FlowParts(transformer, vae, tuple(tokenizers), tuple(encoders), scheduler, tuple(left_out))


def _encoder(
    folder: Path, part: str, cls: Any, dtype: torch.dtype, beside: dict[Path, dict[str, tuple[int, ...]]]
) -> Any:
    """The text encoder with the settings in `folder`/`part`, and the weights there or of a file beside; None: none."""
    from safetensors.torch import load_file

    if not (folder / part / "config.json").is_file():
        return None
    if any((folder / part).glob("*.safetensors")):
        return pretrained(cls, folder, part, dtype=dtype)
    config = cls.config_class.from_pretrained(str(folder), subfolder=part, local_files_only=True)
    text = config.get_text_config()
    embeddings = (text.vocab_size, text.hidden_size)
    for path, shapes in beside.items():
        if embeddings not in shapes.values():
            continue
        try:
            network, report = cls.from_pretrained(
                None, config=config, state_dict=load_file(path), dtype=dtype, output_loading_info=True
            )
        except RuntimeError:  # other shapes in it
            continue
        if not report["missing_keys"]:
            return network
    return None


def _shapes(file: Path, folders: tuple[str, ...]) -> dict[Path, dict[str, tuple[int, ...]]]:
    """The .safetensors files of the folders next to the file's, with the shapes of their tensors."""
    return {
        path: {name: fact.shape for name, fact in tensors.items()}
        for path, tensors in tensors_beside(file, folders).items()
    }
