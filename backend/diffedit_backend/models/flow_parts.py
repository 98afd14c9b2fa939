"""The parts of a flow model: from a diffusers folder, or a transformer alone with encoders and autoencoder beside it.

A transformer alone lies as ComfyUI's users keep it: in `diffusion_models/` (or `unet/`), with the encoders in
`text_encoders/` (or `clip/`) and the autoencoder in `vae/` next to that folder. Its settings and tokenizers are those
of a folder of the file's own name beside it, in diffusers' layout but without weights, else the hub's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffedit_protocol.errors import ModelError

from .catalogue.flow_kinds import GGUF, FlowKind
from .hub import fetch_settings
from .pretrained import damage_reported, pretrained

_ENCODER_FOLDERS, _VAE_FOLDERS = ("text_encoders", "clip"), ("vae",)
# Multiplied onto fp8 weights by ComfyUI's nodes; the weights alone would be wrong.
_SCALED = (".scale_weight", ".weight_scale", "scaled_fp8")
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
    with damage_reported("model", name):
        transformer = _transformer(name, file, kind, settings, dtype)
        vae = _vae(name, file, kind, settings, vae_dtype)
        return _with_texts(name, settings, kind, transformer, vae, dtype, _beside(file, _ENCODER_FOLDERS))


def _settings_folder(name: str, file: Path, kind: FlowKind) -> Path:
    own = file.with_suffix("")
    if (own / "transformer" / "config.json").is_file():
        return own
    try:
        return fetch_settings(kind.hub)
    except ModelError as error:
        raise ModelError(
            f"{name!r} is a transformer of {kind.name} alone, and its settings and tokenizer (a few MB) are not here. "
            f"Connect once so that those of {kind.hub} can be fetched, or put them in a folder {str(own)!r} beside it.",
            detail=error.sentence,
        ) from error


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
    from safetensors import safe_open

    with safe_open(file, framework="pt") as weights:
        names = list(weights.keys())
        kinds = {weights.get_slice(key).get_dtype() for key in names}
    if any(key.endswith(_SCALED) or key in _SCALED for key in names):
        raise ModelError(
            f"{name!r} holds scaled fp8 weights, which are not read. Take its plain fp8, bf16 or GGUF version."
        )
    transformer = cls.from_single_file(str(file), **options)
    if "F8_E4M3" in kinds:
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
    for path, shapes in _beside(file, _VAE_FOLDERS).items():
        if shapes.keys() >= wanted.keys() and all(shapes[key] == shape for key, shape in wanted.items()):
            network.load_state_dict({key: value for key, value in load_file(path).items() if key in wanted})
            return network.to(dtype)
        if "decoder.conv_in.weight" in shapes and shapes["decoder.conv_in.weight"] == wanted.get(
            "decoder.conv_in.weight"
        ):
            tensors = load_file(path)
            converted = convert_ldm_vae_checkpoint(tensors, network.config)
            converted |= {key: value for key, value in tensors.items() if key.startswith("bn.")}
            network.load_state_dict({key: value for key, value in converted.items() if key in wanted})
            return network.to(dtype)
    raise ModelError(
        f"{name!r} is a transformer of {kind.name} alone, and no autoencoder that fits it lies in "
        f"{str(file.parent.parent / _VAE_FOLDERS[0])!r}. Put the family's VAE (.safetensors) there."
    )


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
                f"{name!r} has no {part} ({cls}), neither in {str(folder / part)!r} nor in a folder "
                f"{_ENCODER_FOLDERS[0]}/ beside the model's."
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


def _beside(file: Path, folders: tuple[str, ...]) -> dict[Path, dict[str, tuple[int, ...]]]:
    """The .safetensors files of the folders next to the file's, with the shapes of their tensors."""
    from safetensors import safe_open

    found = {}
    for folder in folders:
        for path in sorted((file.parent.parent / folder).glob("*.safetensors")):
            with safe_open(path, framework="pt") as weights:
                found[path] = {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118
    return found
