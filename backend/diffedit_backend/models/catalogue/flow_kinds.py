"""The families of flow models that can be loaded: their parts, and how files and folders tell them. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class FlowKind:
    """One family.

    name: in sentences. pipeline, transformer, vae: diffusers' classes. encoders: (tokenizer, text encoder, class of
    transformers) of each text encoder; `optional`: those that may be left out. marks: tensors that only this
    transformer has, in the original layout and in diffusers'. hub: where the settings of a file without any are.
    few_steps: of its distilled versions. guidance: classifier-free guidance that suits a base model.
    """

    name: str
    pipeline: str
    transformer: str
    vae: str
    encoders: tuple[tuple[str, str, str], ...]
    marks: tuple[str, ...]
    hub: str
    few_steps: int
    guidance: float
    optional: frozenset[str] = field(default_factory=frozenset)


GGUF = ".gguf"  # llama.cpp's files, which diffusers reads for these
_QWEN3 = (("tokenizer", "text_encoder", "Qwen3ForCausalLM"),)
FLOW_KINDS = (
    FlowKind(
        name="FLUX.2 klein",
        pipeline="Flux2KleinPipeline",
        transformer="Flux2Transformer2DModel",
        vae="AutoencoderKLFlux2",
        encoders=_QWEN3,
        marks=("single_stream_modulation.lin.weight", "single_stream_modulation.linear.weight"),
        hub="black-forest-labs/FLUX.2-klein-4B",
        few_steps=4,
        guidance=4.0,
    ),
    FlowKind(
        name="Stable Diffusion 3",
        pipeline="StableDiffusion3Pipeline",
        transformer="SD3Transformer2DModel",
        vae="AutoencoderKL",
        encoders=(
            ("tokenizer", "text_encoder", "CLIPTextModelWithProjection"),
            ("tokenizer_2", "text_encoder_2", "CLIPTextModelWithProjection"),
            ("tokenizer_3", "text_encoder_3", "T5EncoderModel"),
        ),
        marks=(
            "joint_blocks.0.context_block.adaLN_modulation.1.bias",
            "transformer_blocks.0.norm1_context.linear.bias",
        ),
        hub="stabilityai/stable-diffusion-3.5-medium",
        few_steps=4,
        guidance=4.5,
        optional=frozenset({"text_encoder_3"}),
    ),
    FlowKind(
        name="Z-Image",
        pipeline="ZImagePipeline",
        transformer="ZImageTransformer2DModel",
        vae="AutoencoderKL",
        encoders=_QWEN3,
        marks=("noise_refiner.0.attention.to_q.weight", "noise_refiner.0.attention.qkv.weight"),
        hub="Tongyi-MAI/Z-Image-Turbo",
        few_steps=8,
        guidance=5.0,
    ),
    FlowKind(
        name="Qwen-Image",
        pipeline="QwenImagePipeline",
        transformer="QwenImageTransformer2DModel",
        vae="AutoencoderKLQwenImage",
        encoders=(("tokenizer", "text_encoder", "Qwen2_5_VLForConditionalGeneration"),),
        marks=("transformer_blocks.0.img_mod.1.weight",),
        hub="Qwen/Qwen-Image",
        few_steps=8,
        guidance=4.0,
    ),
)
_DISTILLED = re.compile(r"(?<![a-z])(turbo|lightning|distilled|schnell|\d-?steps?)(?![a-z])", re.IGNORECASE)
_PREFIXES = ("model.diffusion_model.", "transformer.")


def kind_of_pipeline(index: Mapping[str, Any]) -> FlowKind | None:
    """The family of a folder by its model_index.json, None where it is none of these."""
    return next((kind for kind in FLOW_KINDS if kind.pipeline == index.get("_class_name")), None)


def kind_of_tensors(names: Iterable[str]) -> FlowKind | None:
    """The family of a file by the names of its tensors, None where it is none of these.

    Lumina 2 has Z-Image's refiners as well as a token embedder of its own, and is none.
    """
    plain = set()
    for name in names:
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        plain.add(name)
    if "time_caption_embed.timestep_embedder.linear_1.weight" in plain:
        return None
    return next((kind for kind in FLOW_KINDS if plain & set(kind.marks)), None)


def few_steps_of(kind: FlowKind, name: str, index: Mapping[str, Any]) -> int:
    """The steps that a distilled model of a family was made for, 0 for a base model: by its settings, else by its name.

    FLUX.2 klein is distilled unless it is called "base".
    """
    if "is_distilled" in index:
        return kind.few_steps if index["is_distilled"] else 0
    if kind.pipeline == "Flux2KleinPipeline":
        return 0 if "base" in name.lower() else kind.few_steps
    return kind.few_steps if _DISTILLED.search(name) else 0
