"""From the place of a flow model to the model in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import torch
from diffedit_protocol.errors import ModelError

from ..families.flux2_klein import Flux2Klein
from ..families.qwen_image import QwenImage
from ..families.schedule import ShiftedSchedule
from ..families.stable_diffusion_3 import StableDiffusion3
from ..families.z_image import ZImage
from ..method.family import ModelFamily
from ..method.memory import bytes_of, free_memory_on
from ..method.model import LoadedModel
from .catalogue.facts import ModelFacts
from .catalogue.families import GUIDANCE as DISTILLED_GUIDANCE
from .catalogue.flow_kinds import FlowKind
from .catalogue.listing import ModelEntry
from .device import choose_device, choose_dtype, dtype_of_vae
from .flow_parts import FlowParts, file_parts, folder_parts
from .offload import choose_offload
from .offload import offload as place_by_need
from .options import ModelOptions

_FAMILIES: dict[str, ModelFamily] = {
    family.name: family for family in (Flux2Klein(), StableDiffusion3(), ZImage(), QwenImage())
}
# Of each family's schedule: the rule of its shift, whether its pipeline leaves the spacing to the scheduler, and how
# many latent cells its network takes as one token.
_SCHEDULES: dict[str, dict[str, Any]] = {
    "FLUX.2 klein": {"dynamic": "flux2", "cells_per_token": 1},
    "Stable Diffusion 3": {"spaces_itself": True},
    "Z-Image": {},
    "Qwen-Image": {},
}


def load_flow_model(
    name: str, entry: ModelEntry, kind: FlowKind, options: ModelOptions, key: str, facts: ModelFacts
) -> LoadedModel:
    """The flow model of a family that `entry` describes. key: names its weights. facts: what `diffedit.json` says.

    Raises ModelError when parts are missing or the machine's memory is too small, before anything is read.
    """
    device, place = choose_device(options.device), entry.place
    if options.compiled:
        raise ModelError(f"Models of {kind.name} are not compiled. Load {name!r} without compiling.")
    precision = _precision(options, device)
    _check_memory(name, place, precision, device)
    load = folder_parts if place.is_dir() else file_parts
    parts = load(name, place, kind, precision, dtype_of_vae(precision))
    networks = [parts.transformer, parts.vae, *parts.text_encoders]
    family = _FAMILIES[kind.name]
    model = LoadedModel(
        name=name,
        key=key,
        denoiser=parts.transformer,
        vae=parts.vae,
        tokenizers=parts.tokenizers,
        text_encoders=parts.text_encoders,
        schedule=ShiftedSchedule.from_scheduler(parts.scheduler, **_SCHEDULES[kind.name]),
        device=device,
        dtype=precision,
        guidance=facts.guidance or (DISTILLED_GUIDANCE if entry.few_steps else kind.guidance),
        few_steps=entry.few_steps,
        steps=facts.steps,
        offload=choose_offload(
            options.offload,
            device,
            free_memory_on(device),
            [bytes_of(parts.transformer), bytes_of(parts.vae)],
            _CELLS,
            list(map(bytes_of, parts.text_encoders)),
        ),
        vae_tiles=options.vae_tiles,
        remark=_remark(parts),
        family=family,
    )
    home = device if model.offload == "none" else torch.device("cpu")
    for network in networks:
        network.to(home).eval().requires_grad_(False)
    place_by_need(networks, device, model.offload)
    return model


_CELLS = 128 * 128  # of the pictures that all of these were trained on, for the estimate of the working memory


def _precision(options: ModelOptions, device: torch.device) -> torch.dtype:
    """bf16 on a GPU, which these models were trained in: half precision of fewer exponent bits overflows in some."""
    if options.precision is None and device.type != "cpu":
        return torch.bfloat16
    return choose_dtype(options.precision, device, 10**9)


def _check_memory(name: str, place: Path, precision: torch.dtype, device: torch.device) -> None:
    """Refuse a model whose files alone are larger than the memory of machine and device together."""
    files = [place] if place.is_file() else list(place.rglob("*.safetensors"))
    needed = sum(file.stat().st_size for file in files)
    there = int(psutil.virtual_memory().total) + (free_memory_on(device) if device.type == "cuda" else 0)
    if needed > there:
        raise ModelError(
            f"The weights of {name!r} take {needed / 1e9:.1f} GB, and this machine has {there / 1e9:.1f} GB of memory. "
            "Take a smaller version, such as fp8 or GGUF."
        )


def _remark(parts: FlowParts) -> str:
    if not parts.left_out:
        return ""
    return "The text encoder T5 is not there, so long texts are read by CLIP alone, up to 77 tokens."
