"""Where a model's parts come from: a folder, a single .safetensors file in Stable Diffusion's original layout, the hub.

Pickled weights are refused: they can run code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffedit_protocol.errors import ModelError

from .catalogue.facts import read_json
from .catalogue.families import SD1, SD2, XL
from .catalogue.flow_kinds import GGUF
from .catalogue.folders import PICKLES, SAFE
from .catalogue.listing import ModelEntry, kind_in
from .catalogue.weight_files import weight_files
from .hub import INDEX, fetch_model, fetch_settings, is_hub_id
from .options import ModelOptions
from .pretrained import damage_reported, load_autoencoder, pretrained
from .safety import SafetyChecker, load_safety_checker


@dataclass(frozen=True)
class Precisions:
    """`network`: of the denoising network and the text encoders; `vae`: of the autoencoder."""

    network: torch.dtype
    vae: torch.dtype


@dataclass(frozen=True, eq=False)
class Parts:
    """diffusers' and transformers' objects; two tokenizers and text encoders for SDXL, else one."""

    unet: Any
    vae: Any
    tokenizers: tuple[Any, ...]
    text_encoders: tuple[Any, ...]
    scheduler: Any
    zero_empty_text: bool = False
    safety: SafetyChecker | None = None


# diffusers' names of the families, in its table of the repositories whose settings each has.
_SETTINGS = {SD1: "v1", SD2: "v2", XL: "xl_base"}
# What the library raises on files that lack weights, hold those of other sizes, or settings that do not fit them.
_MISFITS = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError)


def load_single_file(entry: ModelEntry, precisions: Precisions, vae: str | None) -> Parts:
    """The parts in a file that `inspect` found nothing wrong with. vae: another autoencoder in place of its own.

    Settings and tokenizer are those of a folder of the same name beside the file, else those of its family, which the
    hub's cache has or the hub gives. Raises ModelError.
    """
    from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline

    file, settings = entry.place, _settings(entry)
    extra: dict[str, Any] = {"safety_checker": None, "requires_safety_checker": False} if entry.family != XL else {}
    kind = StableDiffusionXLPipeline if entry.family == XL else StableDiffusionPipeline
    options = {"config": str(settings), "local_files_only": True}
    if vae is not None:
        extra["vae"] = load_autoencoder(vae, settings, precisions.vae)
    try:
        if vae is None and precisions.vae != precisions.network:
            extra["vae"] = AutoencoderKL.from_single_file(
                str(file), subfolder="vae", torch_dtype=precisions.vae, **options
            )
        pipeline = kind.from_single_file(str(file), torch_dtype=precisions.network, **options, **extra)
    except _MISFITS as error:
        raise ModelError(
            f"{entry.name!r} cannot be read as a model of the kind {entry.family} with the settings in {settings}: "
            "it is incomplete or of another kind.",
            detail=f"{error!r:.500}",
        ) from error
    parts = pipeline.components
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        lacking = [key for key, value in parts[part].named_parameters() if value.is_meta] if parts.get(part) else []
        if lacking:
            raise ModelError(
                f"{entry.name!r} lacks {len(lacking)} weights of its {part}: it is incomplete. Download it again.",
                detail=", ".join(lacking[:3]),
            )
    pairs = [suffix for suffix in ("", "_2") if parts.get(f"text_encoder{suffix}") is not None]
    return Parts(
        unet=parts["unet"],
        vae=parts["vae"],
        tokenizers=tuple(parts[f"tokenizer{suffix}"] for suffix in pairs),
        text_encoders=tuple(parts[f"text_encoder{suffix}"] for suffix in pairs),
        scheduler=parts["scheduler"],
        zero_empty_text=bool(pipeline.config.get("force_zeros_for_empty_prompt", False)),
    )


def _settings(entry: ModelEntry) -> Path:
    from diffusers.loaders.single_file_utils import DIFFUSERS_DEFAULT_PIPELINE_PATHS

    beside = entry.place.with_suffix("")
    if (beside / INDEX).is_file():  # the folder may hold nothing but diffedit.json
        return beside
    repository = DIFFUSERS_DEFAULT_PIPELINE_PATHS[_SETTINGS[entry.family]]["pretrained_model_name_or_path"]
    try:
        return fetch_settings(repository)
    except ModelError as error:
        raise ModelError(
            f"{entry.name!r} was found, but not the settings and the tokenizer of its kind, which every such file "
            f"needs (2 MB). Connect once so that they can be fetched, or put them in a folder {str(beside)!r} beside "
            "it.",
            detail=error.sentence,
        ) from error


_ENCODERS = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))


def load_folder(entry: ModelEntry, precisions: Precisions, vae: str | None, *, safety: bool) -> Parts:
    """The parts in a folder that `inspect` found nothing wrong with. vae: another autoencoder in place of its own.

    safety: with its safety checker, where it has one. Raises ModelError, which says what is damaged.
    """
    name, folder = entry.name, entry.place
    index = read_json(folder / "model_index.json")
    with damage_reported("model", name):
        return _load(name, folder, index, precisions, vae, safety and kind_in(index, "safety_checker") is not None)


def _load(
    name: str, folder: Path, index: dict[str, Any], precisions: Precisions, vae: str | None, safety: bool
) -> Parts:
    import diffusers
    import transformers

    def network(cls: Any, part: str) -> Any:
        # Each part by itself: a cache may hold one in half precision and another in full.
        chosen = weight_files(file.name for file in (folder / part).glob("*"))
        variant = chosen.variant if chosen is not None and chosen.variant else None
        dtype = precisions.vae if part == "vae" else precisions.network
        named = {"dtype": dtype} if cls.__module__.startswith("transformers") else {"torch_dtype": dtype}
        return pretrained(cls, folder, part, variant=variant, **named)

    pairs = [(tokenizer, encoder) for tokenizer, encoder in _ENCODERS if kind_in(index, encoder) is not None]
    return Parts(
        unet=network(diffusers.UNet2DConditionModel, "unet"),
        vae=network(diffusers.AutoencoderKL, "vae") if vae is None else load_autoencoder(vae, folder, precisions.vae),
        tokenizers=tuple(
            transformers.CLIPTokenizer.from_pretrained(str(folder), subfolder=part, local_files_only=True)
            for part, _ in pairs
        ),
        text_encoders=tuple(network(getattr(transformers, str(kind_in(index, part))), part) for _, part in pairs),
        scheduler=getattr(diffusers, str(kind_in(index, "scheduler"))).from_pretrained(
            str(folder), subfolder="scheduler", local_files_only=True
        ),
        zero_empty_text=bool(index.get("force_zeros_for_empty_prompt", False)),
        safety=load_safety_checker(name, folder, precisions.network) if safety else None,
    )


def load_parts(entry: ModelEntry, precisions: Precisions, vae: str | None, *, safety: bool) -> Parts:
    """The parts of the model of `entry`. vae: another autoencoder, None for its own; `safety`: its checker as well.

    Raises ModelError.
    """
    if entry.place.is_file():
        return load_single_file(entry, precisions, vae)
    return load_folder(entry, precisions, vae, safety=safety)


def located(name: str, place: Path, options: ModelOptions, *, halved: bool) -> Path:
    """The folder or the file of the model `name`: `place` if it is on this machine, else what the hub has under it.

    halved: whether weights in half precision do, where the hub has a choice. Raises ModelError.
    """
    if place.is_dir():
        return place
    if place.suffix.lower() == SAFE and not place.is_file():
        raise ModelError(f"There is no file {name!r}.")
    if place.suffix.lower() in (SAFE, GGUF, *PICKLES):
        return place
    if place.is_file():
        raise ModelError(f"{name!r} is no model: a .safetensors file, a diffusers folder or a hub id was expected.")
    if is_hub_id(name):
        return fetch_model(name, halved=halved, safety=options.safety)
    raise ModelError(
        f"There is no model {name!r}: it is no folder and no file here, and a hub id looks like 'owner/model'."
    )
