"""One .safetensors file in Stable Diffusion's original layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffedit_protocol.errors import ModelError

from .catalogue.families import SD1, SD2, XL
from .catalogue.listing import ModelEntry
from .hub import INDEX, fetch_settings
from .parts import Parts, Precisions
from .pretrained import load_autoencoder

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
