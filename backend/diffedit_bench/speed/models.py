"""Networks and flow models of real shape with random weights: what an edit costs does not depend on what the weights
are worth.

Texts are random embeddings of the family's shape: reading them is a small part of an edit, and kept for the next one.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffedit_backend.families.flux2_klein import Flux2Klein
from diffedit_backend.families.schedule import ShiftedSchedule
from diffedit_backend.families.stable_diffusion_3 import StableDiffusion3
from diffedit_backend.families.z_image import ZImage
from diffedit_backend.method.cache import digest
from diffedit_backend.method.family import FamilyModel, ModelFamily
from diffedit_backend.method.model import LoadedModel
from diffedit_backend.method.text_condition import TextCondition
from diffedit_backend.models.device import compiled_unet
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    DDIMInverseScheduler,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2Transformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    ZImageTransformer2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

# Picture sides in px that the models are made for.
NATIVE_SIZE = {"tiny": 32, "sd15": 512, "sdxl": 1024}
BEGIN, END = "<|startoftext|>", "<|endoftext|>"

_VAE = {
    "sample_size": 512,
    "latent_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
# Shapes from the published config.json files of the models.
_UNETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "sample_size": 16,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 32,
        "attention_head_dim": 8,
        "norm_num_groups": 8,
    },
    # Stable Diffusion 1 with a quarter of its channels and heads: between the bundled model and it.
    "quarter": {
        "sample_size": 64,
        "block_out_channels": (96, 160, 320, 320),
        "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "cross_attention_dim": 768,
        "attention_head_dim": 2,
    },
    "sd15": {
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
    "sdxl": {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "layers_per_block": 2,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
_VAES: dict[str, dict[str, Any]] = {
    "tiny": {
        "sample_size": 32,
        "latent_channels": 4,
        "layers_per_block": 1,
        "block_out_channels": (16, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 8,
    },
    "sd15": {**_VAE, "scaling_factor": 0.18215},
    "sdxl": {**_VAE, "sample_size": 1024, "scaling_factor": 0.13025},
}
_CLIP_TINY = {"hidden_size": 32, "intermediate_size": 37, "num_attention_heads": 4, "num_hidden_layers": 3}
_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20, "num_hidden_layers": 32}


def letter_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer with a vocabulary of letters: it reads any lower-case text, a token per letter."""
    tokens = [BEGIN, END, *string.ascii_lowercase, *(letter + "</w>" for letter in string.ascii_lowercase)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    special = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": END}
    return CLIPTokenizer(vocabulary, merges=[], model_max_length=77, **special)


def random_components(
    size: str, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> dict[str, Any]:
    """The components of a diffusers pipeline of `size` ("tiny", "sd15" or "sdxl"), weights from a fixed seed.

    DDIM schedulers with the settings of Stable Diffusion. For "sdxl" there is a second tokenizer and text encoder.
    """
    torch.manual_seed(0)
    tokenizer = letter_tokenizer()
    with torch.device(device):
        parts: dict[str, Any] = {
            "unet": UNet2DConditionModel(in_channels=4, out_channels=4, **_UNETS[size]),
            "vae": AutoencoderKL(in_channels=3, out_channels=3, **_VAES[size]),
            "text_encoder": CLIPTextModel(_clip(tokenizer, _CLIP_TINY if size == "tiny" else _CLIP_L)),
        }
        if size == "sdxl":
            parts["text_encoder_2"] = CLIPTextModelWithProjection(_clip(tokenizer, _CLIP_G, projection_dim=1280))
    parts = {name: part.to(device, dtype).eval() for name, part in parts.items()}
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    scheduler = DDIMScheduler(**schedule, clip_sample=False, set_alpha_to_one=False)
    parts["scheduler"], parts["inverse_scheduler"] = scheduler, DDIMInverseScheduler.from_config(scheduler.config)
    parts["tokenizer"] = tokenizer
    if size == "sdxl":
        parts["tokenizer_2"] = tokenizer
    return parts


def random_unet(size: str) -> UNet2DConditionModel:
    """The UNet of `size` ("tiny", "quarter", "sd15" or "sdxl") alone, on the CPU in fp32, weights from a fixed seed."""
    torch.manual_seed(0)
    return UNet2DConditionModel(in_channels=4, out_channels=4, **_UNETS[size]).eval().requires_grad_(False)


def _clip(tokenizer: CLIPTokenizer, shape: dict[str, int], projection_dim: int = 32) -> CLIPTextConfig:
    return CLIPTextConfig(
        **shape,
        vocab_size=len(tokenizer),
        max_position_embeddings=77,
        projection_dim=projection_dim,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


@dataclass(frozen=True)
class _Shape:
    """How a model is built. text: (tokens, width) of its embeddings; pooled: width of theirs, 0 for none."""

    family: ModelFamily
    transformer: Callable[[], Any]
    vae: Callable[[], Any]
    scheduler: dict[str, Any]
    schedule: dict[str, Any]
    text: tuple[int, int]
    pooled: int = 0


def _kl(cls: Any, channels: int, **options: Any) -> Any:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    shape = {"sample_size": 1024, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, **blocks}
    return cls(latent_channels=channels, use_quant_conv=False, use_post_quant_conv=False, **{**shape, **options})


_SHAPES = {
    "tiny-flow": _Shape(
        StableDiffusion3(),
        lambda: SD3Transformer2DModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=32,
            caption_projection_dim=32,
            pooled_projection_dim=16,
            pos_embed_max_size=16,
        ),
        lambda: _kl(
            AutoencoderKL,
            4,
            sample_size=32,
            block_out_channels=(8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            shift_factor=0.06,
        ),
        {"shift": 3.0},
        {"spaces_itself": True},
        (20, 32),
        16,
    ),
    # Transformer: the numbers that diffusers' scripts/convert_sd3_to_diffusers.py reads from the published file (24
    # blocks, second attention in the first 13, a table of 384 x 384 places) and that it sets itself; 2.47 billion
    # parameters with the table. Autoencoder: of the same script. Texts: 77 tokens of CLIP and 256 of T5, padded to T5's
    # width, as StableDiffusion3Pipeline joins them. The shift of 3 is that of the published scheduler_config.json.
    "sd35-medium": _Shape(
        StableDiffusion3(),
        lambda: SD3Transformer2DModel(
            sample_size=128,
            num_layers=24,
            attention_head_dim=64,
            num_attention_heads=24,
            caption_projection_dim=1536,
            pos_embed_max_size=384,
            dual_attention_layers=tuple(range(13)),
            qk_norm="rms_norm",
        ),
        lambda: _kl(AutoencoderKL, 16, scaling_factor=1.5305, shift_factor=0.0609),
        {"shift": 3.0},
        {"spaces_itself": True},
        (333, 4096),
        2048,
    ),
    # Transformer: Klein4BParams of black-forest-labs/flux2 (src/flux2/model.py): width 3072 in 24 heads, 5 double, 20
    # single blocks, texts of 3 x 2560, no embedded guidance; the rest is as in FLUX.2 dev, diffusers' defaults. 3.88
    # billion parameters. Autoencoder: vae/config.json of black-forest-labs/FLUX.2-klein-4B, 84,046,115 parameters.
    # Texts: 512 tokens of Flux2KleinPipeline.
    "flux2-klein-4b": _Shape(
        Flux2Klein(),
        lambda: Flux2Transformer2DModel(
            num_layers=5,
            num_single_layers=20,
            attention_head_dim=128,
            num_attention_heads=24,
            joint_attention_dim=7680,
            guidance_embeds=False,
        ),
        lambda: AutoencoderKLFlux2(),
        {"use_dynamic_shifting": True, "shift": 3.0},
        {"dynamic": "flux2", "cells_per_token": 1},
        (512, 7680),
    ),
    # transformer/config.json and vae/config.json of Tongyi-MAI/Z-Image and Z-Image-Turbo, which are alike; 6.15 billion
    # parameters. The base model's scheduler shifts by 6, Turbo's by 3. Texts have their own length: 64 tokens of Qwen3.
    "z-image": _Shape(
        ZImage(),
        lambda: ZImageTransformer2DModel(
            dim=3840,
            n_layers=30,
            n_refiner_layers=2,
            n_heads=30,
            n_kv_heads=30,
            cap_feat_dim=2560,
            axes_dims=[32, 48, 48],
            axes_lens=[1536, 512, 512],
        ),
        lambda: _kl(AutoencoderKL, 16, scaling_factor=0.3611, shift_factor=0.1159),
        {"shift": 6.0},
        {},
        (64, 2560),
    ),
}
FLOW_SIZES = tuple(_SHAPES)


def random_flow_model(size: str, device: torch.device, dtype: torch.dtype, *, compiled: bool = False) -> LoadedModel:
    """The model of `size`, one of FLOW_SIZES, made where it computes: its weights pass through no other memory.

    compiled: its transformer is compiled at the first call. The benchmark's pictures are of one size, as is a text.
    """
    shape = _SHAPES[size]
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            transformer, vae = shape.transformer(), shape.vae()
    finally:
        torch.set_default_dtype(before)
    transformer = transformer.to(device, dtype).eval().requires_grad_(False)
    return LoadedModel(
        name=f"random {size} ({sum(p.numel() for p in transformer.parameters()) / 1e9:.2g} billion parameters)",
        key=f"random-{size}",
        denoiser=compiled_unet(transformer, device) if compiled else transformer,
        vae=vae.to(device, torch.float32 if dtype == torch.bfloat16 else dtype).eval().requires_grad_(False),
        tokenizers=(),
        text_encoders=(),
        schedule=ShiftedSchedule.from_scheduler(FlowMatchEulerDiscreteScheduler(**shape.scheduler), **shape.schedule),
        device=device,
        dtype=dtype,
        guidance=4.0,
        compiled=compiled,
        family=_with_random_texts(shape),
    )


def _with_random_texts(shape: _Shape) -> ModelFamily:
    """The family, but a text is random numbers that depend on the text alone."""

    def encode_text(_family: ModelFamily, model: FamilyModel, text: str) -> TextCondition:
        draw = torch.Generator().manual_seed(int(digest(text.encode())[:8], 16))
        tokens = torch.randn(shape.text, generator=draw).to(model.device, model.dtype)
        pooled = torch.randn(shape.pooled, generator=draw).to(model.device, model.dtype) if shape.pooled else None
        return TextCondition(tokens, pooled)

    def words_beyond(_family: ModelFamily, _model: FamilyModel, _text: str) -> str:
        return ""

    methods = {"encode_text": encode_text, "words_beyond": words_beyond}
    family: ModelFamily = type("WithRandomTexts", (type(shape.family),), methods)()
    return family
