"""One .safetensors file in Stable Diffusion's original layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffedit_protocol.errors import ModelError

from .parts import Parts


def load_single_file(name: str, file: Path, dtype: torch.dtype, vae_dtype: torch.dtype) -> Parts:
    """The parts in `file`. The configs are those of a folder of the same name beside it, else the library's for its
    kind.

    The library keeps configs and tokenizer of each kind on the hub: they are asked of its cache first, then of the hub.
    """
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as weights:
            names = set(weights.keys())
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{name!r} is damaged: it cannot be read as safetensors.", detail=str(error)) from error
    if not any(key.startswith("model.diffusion_model.") for key in names):
        raise ModelError(
            f"{name!r} holds no whole Stable Diffusion model (a LoRA, a VAE or another network). Choose a checkpoint."
        )
    is_xl = any(key.startswith("conditioner.embedders.1.") for key in names)
    kind = StableDiffusionXLPipeline if is_xl else StableDiffusionPipeline
    config = file.with_suffix("")
    options: dict[str, Any] = {"config": str(config)} if config.is_dir() else {}
    pipeline = _loaded(name, file, kind, options, dtype, vae_dtype)
    parts = pipeline.components
    pairs = [suffix for suffix in ("", "_2") if parts.get(f"text_encoder{suffix}") is not None]
    return Parts(
        unet=parts["unet"],
        vae=parts["vae"],
        tokenizers=tuple(parts[f"tokenizer{suffix}"] for suffix in pairs),
        text_encoders=tuple(parts[f"text_encoder{suffix}"] for suffix in pairs),
        scheduler=parts["scheduler"],
        zero_empty_text=bool(pipeline.config.get("force_zeros_for_empty_prompt", False)),
    )


def _loaded(
    name: str, file: Path, kind: Any, options: dict[str, Any], dtype: torch.dtype, vae_dtype: torch.dtype
) -> Any:
    from diffusers import AutoencoderKL

    extra: dict[str, Any] = {} if "XL" in kind.__name__ else {"safety_checker": None, "requires_safety_checker": False}
    failure: Exception | None = None
    for local in (True, False):
        chosen = {**options, "local_files_only": local}
        try:
            if vae_dtype != dtype:
                extra["vae"] = AutoencoderKL.from_single_file(
                    str(file), subfolder="vae", torch_dtype=vae_dtype, **chosen
                )
            return kind.from_single_file(str(file), torch_dtype=dtype, **chosen, **extra)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            failure = error
    raise ModelError(
        f"{name!r} was found, but not the settings and the tokenizer of its kind, which every such file needs (2 MB). "
        f"Connect once so that they can be fetched, or put them in a folder {str(file.with_suffix(''))!r} beside it.",
        detail=str(failure),
    ) from failure
