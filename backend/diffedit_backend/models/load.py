"""From a name to a model in memory."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from pathlib import Path
from typing import Any

import torch
from diffedit_protocol.errors import ModelError

from ..method.memory import bytes_of, free_memory_on
from ..method.model import DEFAULT_GUIDANCE, LoadedModel
from ..method.schedule import FlowSchedule, NoiseSchedule, VariancePreservingSchedule
from .catalogue.facts import ModelFacts, facts_of
from .catalogue.families import GUIDANCE as DISTILLED_GUIDANCE
from .catalogue.families import XL
from .catalogue.flow_entries import flow_kind_at
from .catalogue.folders import BUNDLED, model_path, vae_beside, vae_path
from .catalogue.listing import ModelEntry, inspect
from .checks import doubtful_size, mistaken_prediction, set_size
from .device import choose_device, choose_dtype, compiled_unet, dtype_of_vae
from .flow_load import load_flow_model
from .offload import choose_offload
from .offload import offload as place_by_need
from .options import ModelOptions
from .sources import Parts, Precisions, load_parts, located

DEFAULT_OPTIONS = ModelOptions()
_LCM_GUIDANCE = 8.5  # the default of the published LCMs


def load_model(name: str | Path, options: ModelOptions | str | torch.device = DEFAULT_OPTIONS) -> LoadedModel:
    """Load `name`: "bundled", a name in the models folder, a diffusers folder, a .safetensors file of Stable Diffusion
    1, 2 or XL or of a flow model's transformer, or a hub id.

    `options`: device, precision, offloading and so on; a device alone stands for ModelOptions with that device.
    Raises ModelError with a sentence that says what is missing and what to do.
    """
    if not isinstance(options, ModelOptions):
        options = ModelOptions(device=options)
    name, named = str(name), model_path(str(name))
    chosen = choose_device(options.device)
    quiet_libraries()
    place = located(name, named, options, halved=choose_dtype(options.precision, chosen) != torch.float32)
    facts = facts_of(place)
    vae_name = options.vae or facts.vae or vae_beside(place)
    entry = inspect(name, place, vae_name)
    if (kind := flow_kind_at(place)) is not None:
        return load_flow_model(named.name, entry, kind, options, _key(name, place, facts, vae_name), facts)
    precision = choose_dtype(options.precision, chosen, entry.parameters)
    parts = load_parts(entry, _precisions(entry, precision), vae_name, safety=options.safety)
    _check(name, parts, facts)
    if facts.clip_skip is not None:
        _skip_layers(name, parts, facts.clip_skip)
    if getattr(parts.unet.config, "time_cond_proj_dim", None) is not None:
        _embed_guidance(parts.unet)
    # SDXL's first VAE overflows in half precision and says so; the others say so by default only.
    overflows = entry.family == XL and bool(getattr(parts.vae.config, "force_upcast", False))
    vae = parts.vae if overflows else parts.vae.to(dtype_of_vae(precision))
    networks = [parts.unet, vae, *parts.text_encoders]
    way = choose_offload(
        options.offload,
        chosen,
        free_memory_on(chosen),
        [bytes_of(parts.unet), bytes_of(vae)],
        _cells(parts.unet),
        list(map(bytes_of, parts.text_encoders)),
    )
    home = chosen if way == "none" else torch.device("cpu")
    unet = _placed(parts.unet, home, channels_last=True)
    if options.compiled:
        if way != "none":
            raise ModelError(f"A compiled model cannot be offloaded, and {name!r} does not fit the GPU whole.")
        unet = compiled_unet(unet, chosen)
    model = LoadedModel(
        name=BUNDLED if name == BUNDLED else named.name,
        key=_key(name, place, facts, vae_name),
        denoiser=unet,
        vae=_placed(vae, home, channels_last=True),
        tokenizers=parts.tokenizers,
        text_encoders=tuple(_placed(encoder, home) for encoder in parts.text_encoders),
        schedule=_schedule(name, parts, facts, entry),
        device=chosen,
        dtype=precision,
        guidance=_guidance(entry, facts),
        few_steps=entry.few_steps,
        steps=facts.steps,
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
    remarks = [mistaken_prediction(model), doubtful_size(model) if facts.size is None else ""]
    return dataclasses.replace(model, remark=" ".join(filter(None, remarks)))


def quiet_libraries() -> None:
    """Keep the libraries' progress bars, advice and errors out of a command's output: what they raise is reported in
    words of our own."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity(logging.CRITICAL)
        library.utils.logging.disable_progress_bar()


def _precisions(entry: ModelEntry, precision: torch.dtype) -> Precisions:
    """The autoencoder of an XL is read in single precision, since some overflow in half and rounded weights stay so."""
    return Precisions(precision, torch.float32 if entry.family == XL else dtype_of_vae(precision))


def _cells(unet: Any) -> int:
    """Latent cells of the pictures that the model was trained on."""
    size = unet.config.sample_size
    return int(size * size if isinstance(size, int) else size[0] * size[1])


def _placed(network: Any, device: torch.device, channels_last: bool = False) -> Any:
    network = network.to(device).eval().requires_grad_(False)
    return network.to(memory_format=torch.channels_last) if channels_last else network


def _check(name: str, parts: Parts, facts: ModelFacts) -> None:
    """Refuse models that look like Stable Diffusion but cannot do this, in words; their size is that of `facts`."""
    set_size(name, parts, facts.size)
    channels, latents = parts.unet.config.in_channels, parts.vae.config.latent_channels
    if channels != latents:
        raise ModelError(
            f"The UNet of {name!r} takes {channels} channels but its autoencoder makes {latents}: they do not belong "
            "together. Choose the autoencoder of the model's family."
        )
    if not hasattr(parts.scheduler, "alphas_cumprod") and not _is_flow(parts.scheduler):
        raise ModelError(
            f"{name!r} is trained with {type(parts.scheduler).__name__}, whose noise schedule cannot be inverted here. "
            "Choose a Stable Diffusion 1, 2 or XL model."
        )


def _guidance(entry: ModelEntry, facts: ModelFacts) -> float:
    if facts.guidance is not None:
        return facts.guidance
    return DISTILLED_GUIDANCE if entry.few_steps else DEFAULT_GUIDANCE


def _skip_layers(name: str, parts: Parts, clip_skip: int) -> None:
    """Leave the last `clip_skip` - 1 layers of the text encoder out: its final norm then reads the one that is last."""
    if len(parts.text_encoders) != 1:
        raise ModelError(f"clip_skip in diffedit.json of {name!r} is for Stable Diffusion 1 and 2, not for XL.")
    (encoder,) = parts.text_encoders
    stack = getattr(encoder, "text_model", encoder).encoder
    if clip_skip > len(stack.layers):
        raise ModelError(
            f"clip_skip in diffedit.json of {name!r} is {clip_skip}, but its text encoder has "
            f"{len(stack.layers)} layers."
        )
    stack.layers = stack.layers[: len(stack.layers) - clip_skip + 1]


def _embed_guidance(unet: Any) -> None:
    """Tell an LCM's UNet the guidance that it was distilled with (arXiv 2310.04378): a constant beside the time."""
    from diffusers import LatentConsistencyModelPipeline

    width = unet.config.time_cond_proj_dim
    weight = torch.tensor([_LCM_GUIDANCE - 1.0])
    embedding = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, weight, embedding_dim=width)

    def add_guidance(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return inputs[0], embedding.to(inputs[0]).expand(len(inputs[0]), -1)

    unet.time_embedding.register_forward_pre_hook(add_guidance)


def _is_flow(scheduler: Any) -> bool:
    """Whether a UNet was trained as a rectified flow, one shift for every size of picture."""
    return type(scheduler).__name__ == "FlowMatchEulerDiscreteScheduler" and not scheduler.config.use_dynamic_shifting


def _schedule(name: str, parts: Parts, facts: ModelFacts, entry: ModelEntry) -> NoiseSchedule:
    if _is_flow(parts.scheduler):
        return FlowSchedule(shift=float(parts.scheduler.config.shift))
    own = parts.scheduler.config.prediction_type
    kind: Any = facts.prediction_type or entry.prediction_type or own  # checked below
    scheduler = parts.scheduler
    zero = entry.zero_terminal_snr if facts.zero_terminal_snr is None else facts.zero_terminal_snr
    if zero and float(scheduler.alphas_cumprod[-1]) > 0:
        from diffusers import DDIMScheduler

        scheduler = DDIMScheduler.from_config(scheduler.config, rescale_betas_zero_snr=True)
    try:
        return VariancePreservingSchedule.from_scheduler(scheduler, kind)
    except ValueError as error:
        raise ModelError(
            f"The settings of {name!r} say that it predicts {kind!r}; it must be epsilon, v_prediction or sample. "
            "Correct its scheduler_config.json.",
            detail=str(error),
        ) from error


def _key(name: str, place: Path, facts: ModelFacts, vae: str | None) -> str:
    """A digest that changes when the model does: names, sizes and times of the weights, and what is said of it."""
    digest = hashlib.sha256(f"{name}:{facts}:{vae}".encode())
    places = [place] if vae is None else [place, vae_path(vae)]
    files = [f for p in places for f in ([p] if p.is_file() else sorted(p.rglob("*.safetensors")))]
    for file in files:
        status = file.stat()
        digest.update(f"{file}:{status.st_size}:{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]
