"""Networks of real shape with random weights: what an edit costs does not depend on what the weights are worth."""

from __future__ import annotations

import string
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMInverseScheduler, DDIMScheduler, UNet2DConditionModel
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
