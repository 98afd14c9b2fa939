"""What is known of a flow model without loading it, from its settings, the headers of its files, and what lies beside a
transformer alone: settings, text encoders, autoencoder. No torch.

A transformer alone lies as ComfyUI's users keep it: in `diffusion_models/` (or `unet/`), with the encoders in
`text_encoders/` (or `clip/`) and the autoencoder in `vae/` next to that folder; either may have folders of its own. Its
settings and tokenizers are those of a folder of the file's own name beside it, in diffusers' layout but without
weights, else the hub's.

The listing and loading ask the same function, so they refuse the same files with the same sentences.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffedit_protocol.errors import ModelError

from .facts import read_json
from .flow_kinds import GGUF, FlowKind, few_steps_of, kind_of_pipeline, kind_of_tensors
from .folders import SAFE, hub_is_off, kept_snapshot
from .weight_files import TensorFact, tensors_in

ENCODER_FOLDERS, VAE_FOLDERS = ("text_encoders", "clip"), ("vae",)
VAE_MARK = "decoder.conv_in.weight"  # a tensor of every autoencoder, in the original layout and in diffusers'

_DEEPEST = 3  # folders up from the one above the file's, in which those of encoders and autoencoders are looked for
Tensors = dict[Path, dict[str, TensorFact]]


@dataclass(frozen=True)
class Beside:
    """`settings`: the folder of settings and tokenizers, None where they are yet to be fetched from the hub.
    `networks`: parameters of each encoder and of the autoencoder, as far as they are known.
    """

    settings: Path | None
    networks: tuple[int, ...] = ()


def own_settings(file: Path) -> Path | None:
    """The folder of the file's own name beside it, where it holds settings."""
    own = file.with_suffix("")
    return own if (own / "transformer" / "config.json").is_file() else None


def settings_missing(name: str, file: Path, kind: FlowKind, detail: str = "") -> ModelError:
    """Why a transformer cannot be loaded whose settings are not here while there is no network."""
    return ModelError(
        f"{name!r} is a transformer of {kind.name} alone, and its settings and tokenizer (a few MB) are not here. "
        f"Connect once so that those of {kind.hub} can be fetched, or put them in a folder "
        f"{str(file.with_suffix(''))!r} beside it.",
        detail=detail,
    )


def look_beside(name: str, file: Path, kind: FlowKind, settings: Path | None = None) -> Beside:
    """What of a model whose transformer is `file` is there. settings: None for those beside it or in the hub's cache.

    Raises ModelError, which says what is missing and where to put it. A text encoder that may be left out is not.
    """
    settings = settings or own_settings(file) or kept_snapshot(kind.hub, "model_index.json")
    if settings is None and hub_is_off():
        raise settings_missing(name, file, kind, "The hub is switched off here (HF_HUB_OFFLINE).")
    networks = [_encoder(name, file, kind, settings, part, cls) for _, part, cls in kind.encoders]
    return Beside(settings, (*networks, _vae(name, file, kind, settings)))


def tensors_beside(file: Path, folders: tuple[str, ...]) -> Tensors:
    """The .safetensors files of the folders next to the file's, with their tensors; damaged ones are left out."""
    found: Tensors = {}
    for path in sorted(path for folder in _places(file, folders) for path in folder.rglob(f"*{SAFE}")):
        try:
            found[path] = tensors_in(path)
        except ModelError:
            continue
    return found


def _places(file: Path, folders: tuple[str, ...]) -> list[Path]:
    """The folders of these names that are nearest above the file; the first name next to its folder where none is."""
    for above in file.parents[1 : 1 + _DEEPEST]:
        if there := [above / folder for folder in folders if (above / folder).is_dir()]:
            return there
    return [file.parent.parent / folders[0]]


def _encoder(name: str, file: Path, kind: FlowKind, settings: Path | None, part: str, cls: str) -> int:
    """The parameters of a text encoder, 0 where it may be left out and is."""
    own = [] if settings is None else sorted((settings / part).glob(f"*{SAFE}"))
    if own:
        return sum(_parameters(tensors_in(weights)) for weights in own)
    config = {} if settings is None else _config(settings / part)
    text: dict[str, Any] = config.get("text_config") or config
    wanted = (text.get("vocab_size"), text.get("hidden_size") or text.get("d_model"))
    candidates = tensors_beside(file, ENCODER_FOLDERS).values()
    fitting = [
        tensors for tensors in candidates if None in wanted or any(fact.shape == wanted for fact in tensors.values())
    ]
    if fitting:
        return _parameters(fitting[0]) if settings is not None else 0
    if part in kind.optional:
        return 0
    raise ModelError(
        f"{name!r} is a transformer of {kind.name} alone and has no {part} ({cls}): none that fits it lies in "
        f"{str(_places(file, ENCODER_FOLDERS)[0])!r}. Put the family's text encoder ({SAFE}) there."
    )


def vae_missing(name: str, file: Path, kind: FlowKind) -> ModelError:
    """Why a transformer cannot be loaded beside which no autoencoder fits."""
    return ModelError(
        f"{name!r} is a transformer of {kind.name} alone, and no autoencoder that fits it lies in "
        f"{str(_places(file, VAE_FOLDERS)[0])!r}. Put the family's VAE ({SAFE}) there."
    )


def _vae(name: str, file: Path, kind: FlowKind, settings: Path | None) -> int:
    """The parameters of the autoencoder."""
    own = [] if settings is None else sorted((settings / "vae").glob(f"*{SAFE}"))
    if own:
        return sum(_parameters(tensors_in(weights)) for weights in own)
    wanted = None if settings is None else _first_layer(_config(settings / "vae"))
    for tensors in tensors_beside(file, VAE_FOLDERS).values():
        if VAE_MARK in tensors and wanted in (None, tensors[VAE_MARK].shape[:2]):
            return _parameters(tensors)
    raise vae_missing(name, file, kind)


def _first_layer(config: dict[str, Any]) -> tuple[int, int] | None:
    """Channels out of and into the decoder's first layer, by the settings of an autoencoder."""
    if "base_dim" in config:
        return config["base_dim"] * config["dim_mult"][-1], config["z_dim"]
    if "block_out_channels" in config:
        return config["block_out_channels"][-1], config["latent_channels"]
    return None


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    return read_json(file, mark=False) if file.is_file() else {}


def _parameters(tensors: dict[str, TensorFact]) -> int:
    return sum(fact.elements for fact in tensors.values())


_USUAL_SIZE = 1024  # px, where no config tells it
# Multiplied onto fp8 weights by ComfyUI's nodes; the weights alone would be wrong.
_SCALED = (".scale_weight", ".weight_scale", "scaled_fp8")
KEPT_FLOAT8 = "F8_E4M3"  # what stays in eight bits in memory
_WHOLE = ("F64", "F32", "F16", "BF16")  # of GGUF's types those that are not quantised
_PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")


@dataclass(frozen=True)
class FlowFacts:
    """`parameters` of all networks that are there, `largest` of the largest; of a transformer alone those beside it
    count where its settings tell which they are. `size` in px. `few_steps`: what a distilled model was made for, 0 for
    a base model. `quantised`, `quantised_bytes`: parameters that stay quantised in memory, and what they take.
    """

    kind: FlowKind
    parameters: int
    largest: int
    size: int
    few_steps: int = 0
    quantised: int = 0
    quantised_bytes: int = 0


def flow_kind_at(place: Path) -> FlowKind | None:
    """The family of the flow model at `place`, a folder or a file; None where it is none that is known.

    Raises ModelError for a GGUF file that cannot be read.
    """
    if place.is_dir():
        index = place / "model_index.json"
        return kind_of_pipeline(_json(index)) if index.is_file() else None
    if place.suffix.lower() == GGUF:
        return kind_of_tensors(_gguf_names(place))
    try:
        return kind_of_tensors(tensors_in(place))
    except ModelError:
        return None


def flow_facts(name: str, place: Path) -> FlowFacts | None:
    """What is known of the flow model at `place`, None where it is none that is known.

    Raises ModelError, which says by its name what it lacks.
    """
    kind = flow_kind_at(place)
    if kind is None:
        return None
    if place.is_file():
        beside = look_beside(name, place, kind)
        own, quantised, quantised_bytes = (
            _gguf_facts(place) if place.suffix.lower() == GGUF else _file_facts(name, place)
        )
        networks = (own, *beside.networks)
        size = _USUAL_SIZE if beside.settings is None else _size(beside.settings)
        few = few_steps_of(kind, place.stem, {})
        return FlowFacts(kind, sum(networks), max(networks), size, few, quantised, quantised_bytes)
    by_part = {
        part: sum(fact.elements for file in (place / part).glob(f"*{SAFE}") for fact in tensors_in(file).values())
        for part in _PARTS
    }
    needed = ("transformer", "vae", *(part for _, part, _ in kind.encoders if part not in kind.optional))
    missing = [part for part in needed if not by_part[part]]
    if missing:
        raise ModelError(f"{name!r} is incomplete: it has no {missing[0]}/*{SAFE}. Download it again.")
    few = few_steps_of(kind, place.name, _json(place / "model_index.json"))
    return FlowFacts(kind, sum(by_part.values()), max(by_part.values()), _size(place), few)


def _size(settings: Path) -> int:
    """The side in px that an autoencoder's settings tell."""
    return int(_json(settings / "vae" / "config.json").get("sample_size") or _USUAL_SIZE)


def _file_facts(name: str, file: Path) -> tuple[int, int, int]:
    """Parameters, those that stay in eight bits, and their bytes."""
    tensors = tensors_in(file)
    if any(key.endswith(_SCALED) for key in tensors):
        raise ModelError(
            f"{name!r} holds scaled fp8 weights, which are not read. Take its plain fp8, bf16 or GGUF version."
        )
    kept = sum(fact.elements for fact in tensors.values() if fact.dtype == KEPT_FLOAT8)
    return sum(fact.elements for fact in tensors.values()), kept, kept


def _json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, TypeError):
        return {}


def _gguf_names(file: Path) -> list[str]:
    return [str(tensor.name) for tensor in _gguf_tensors(file)]


def _gguf_facts(file: Path) -> tuple[int, int, int]:
    """Parameters, those that stay quantised, and their bytes."""
    tensors = _gguf_tensors(file)
    kept = [tensor for tensor in tensors if tensor.tensor_type.name not in _WHOLE]
    return (
        sum(int(tensor.n_elements) for tensor in tensors),
        sum(int(tensor.n_elements) for tensor in kept),
        sum(int(tensor.n_bytes) for tensor in kept),
    )


def _gguf_tensors(file: Path) -> list[Any]:
    try:
        import gguf
    except ImportError as error:
        raise ModelError(
            f"{file.name!r} is a GGUF file, and gguf is not installed here: pip install 'krita-diffedit[gguf]'.",
            detail=str(error),
        ) from error
    try:
        return list(gguf.GGUFReader(file).tensors)
    except (ValueError, OSError) as error:
        raise ModelError(f"{file.name!r} is damaged: it cannot be read as GGUF.", detail=str(error)) from error
