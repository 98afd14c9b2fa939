"""From a name to a model in memory."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from diffedit_protocol.errors import ModelError

from ..method.memory import bytes_of, room_on
from ..method.model import DEFAULT_GUIDANCE, LoadedModel
from ..method.schedule import NoiseSchedule, VariancePreservingSchedule
from .catalogue.folders import BUNDLED, model_place
from .catalogue.listing import entry_of
from .compiling import compiled_unet
from .device import choose_device, choose_dtype, dtype_of_vae
from .offload import choose_offload
from .offload import offload as place_by_need
from .options import ModelOptions
from .parts import Parts
from .prediction import mistaken_prediction
from .size import doubtful_size, set_size
from .sources import load_parts, located

# Beside model_index.json, or in the folder of a single file's name: what its maker found to work best ("guidance"), and
# what the model's own settings have wrong ("prediction_type", "size" in px).
FACTS_FILE = "diffedit.json"
DEFAULT_OPTIONS = ModelOptions()


def load_model(name: str | Path, options: ModelOptions | str | torch.device = DEFAULT_OPTIONS) -> LoadedModel:
    """Load `name`: "bundled", a name in the models folder, a diffusers folder, a .safetensors file of Stable Diffusion
    1, 2 or XL, or a hub id.

    `options`: device, precision, offloading and so on; a device alone stands for ModelOptions with that device.
    Raises ModelError with a sentence that says what is missing and what to do.
    """
    if not isinstance(options, ModelOptions):
        options = ModelOptions(device=options)
    named = model_place(str(name))
    chosen = choose_device(options.device)
    quiet_libraries()
    place = located(str(name), named)
    precision = choose_dtype(options.precision, chosen, entry_of(str(name), place).parameters)
    parts = load_parts(str(name), place, precision, dtype_of_vae(precision), safety=options.safety)
    facts = _facts(place)
    _check(str(name), parts, facts)
    # SDXL's first VAE overflows in half precision and says so; the others say so by default only.
    overflows = len(parts.text_encoders) == 2 and bool(getattr(parts.vae.config, "force_upcast", False))
    vae = parts.vae.to(torch.float32) if overflows else parts.vae
    networks = [parts.unet, vae, *parts.text_encoders]
    way = choose_offload(options.offload, chosen, room_on(chosen), list(map(bytes_of, networks)), _cells(parts.unet))
    home = chosen if way == "none" else torch.device("cpu")
    unet = _placed(parts.unet, home, channels_last=True)
    if options.compiled:
        if way != "none":
            raise ModelError(f"A compiled model cannot be offloaded, and {str(name)!r} does not fit the GPU whole.")
        unet = compiled_unet(unet, chosen)
    model = LoadedModel(
        name=BUNDLED if name == BUNDLED else named.name,
        key=_key(str(name), place),
        unet=unet,
        vae=_placed(vae, home, channels_last=True),
        tokenizers=parts.tokenizers,
        text_encoders=tuple(_placed(encoder, home) for encoder in parts.text_encoders),
        schedule=_schedule(str(name), parts, facts),
        device=chosen,
        dtype=precision,
        guidance=float(facts.get("guidance", DEFAULT_GUIDANCE)),
        zero_empty_text=parts.zero_empty_text,
        compiled=options.compiled,
        # A checker looks at one picture in an edit: where memory is short, it does so on the CPU.
        safety=parts.safety.to(home) if parts.safety is not None else None,
        offload=way,
        vae_tiles=options.vae_tiles,
    )
    place_by_need(networks, chosen, way)
    if model.compiled:
        return model
    remarks = [mistaken_prediction(model), "" if "size" in facts else doubtful_size(model)]
    return dataclasses.replace(model, remark=" ".join(filter(None, remarks)))


def quiet_libraries() -> None:
    """Keep progress bars and advice of the libraries out of a command's output; their errors stay."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def _cells(unet: Any) -> int:
    """Latent cells of the pictures that the model was trained on."""
    size = unet.config.sample_size
    return int(size * size if isinstance(size, int) else size[0] * size[1])


def _placed(network: Any, device: torch.device, channels_last: bool = False) -> Any:
    network = network.to(device).eval().requires_grad_(False)
    return network.to(memory_format=torch.channels_last) if channels_last else network


def _check(name: str, parts: Parts, facts: dict[str, Any]) -> None:
    """Refuse models that look like Stable Diffusion but cannot do this, in words; their size is that of `facts`."""
    set_size(name, parts, facts.get("size"))
    channels, latents = parts.unet.config.in_channels, parts.vae.config.latent_channels
    if channels != latents:
        raise ModelError(
            f"The UNet of {name!r} takes {channels} channels but its VAE makes {latents}: "
            "it is an inpainting or other special model. Choose the base model."
        )
    if not hasattr(parts.scheduler, "alphas_cumprod"):
        raise ModelError(
            f"{name!r} is trained with {type(parts.scheduler).__name__}, whose noise schedule cannot be inverted here. "
            "Choose a Stable Diffusion 1, 2 or XL model."
        )


def _schedule(name: str, parts: Parts, facts: dict[str, Any]) -> NoiseSchedule:
    kind = facts.get("prediction_type", parts.scheduler.config.prediction_type)
    try:
        return VariancePreservingSchedule.from_scheduler(parts.scheduler, kind)
    except ValueError as error:
        raise ModelError(
            f"The settings of {name!r} say that it predicts {kind!r}; it must be epsilon, v_prediction or sample. "
            "Correct its scheduler_config.json.",
            detail=str(error),
        ) from error


def _facts(place: Path) -> dict[str, Any]:
    file = (place.with_suffix("") if place.is_file() else place) / FACTS_FILE
    return dict(json.loads(file.read_text())) if file.is_file() else {}


def _key(name: str, place: Path) -> str:
    """A digest that changes when the files change: names, sizes and times of the weights."""
    digest = hashlib.sha256(name.encode())
    files = [place] if place.is_file() else sorted(place.rglob("*.safetensors"))
    for file in files:
        status = file.stat()
        digest.update(f"{file}:{status.st_size}:{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]
