"""Models of a few thousand random weights, in the shapes of Stable Diffusion 1, 2 and XL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from diffedit_backend.method.schedule import VariancePreservingSchedule
from diffedit_backend.models import LoadedModel
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

NATIVE = 32  # px: latents of 16 x 16 cells, a factor of 2


class LetterTokenizer:
    """A token for every letter, as CLIP's tokenizer is called and answers."""

    model_max_length = 16
    begin, end = 26, 27

    def __call__(
        self, text: str, *, truncation: bool, padding: Any = False, return_tensors: Any = None, **_: Any
    ) -> Any:
        ids = [self.begin, *(ord(c) - ord("a") for c in text.lower() if c.isascii() and c.isalpha()), self.end]
        if truncation and len(ids) > self.model_max_length:
            ids = [*ids[: self.model_max_length - 1], self.end]
        if padding == "max_length":
            ids += [self.end] * (self.model_max_length - len(ids))
        return type("Batch", (), {"input_ids": torch.tensor([ids]) if return_tensors == "pt" else ids})

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(i + ord("a")) for i in ids if i < 26)


def _text_config(width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=28,
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LetterTokenizer.model_max_length,
        projection_dim=24,
        bos_token_id=26,
        eos_token_id=27,
        pad_token_id=27,
    )


def tiny_model(kind: str = "sd1") -> LoadedModel:
    """kind: "sd1" predicts noise, "sd2" v, "xl" has two text encoders and time ids. The same weights at every call."""
    torch.manual_seed(0)
    widths = (16, 24) if kind == "xl" else (16,)
    extra: dict[str, Any] = {}
    if kind == "xl":
        extra = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 24 + 6 * 8,
        }
    unet = UNet2DConditionModel(
        sample_size=NATIVE // 2,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=sum(widths),
        attention_head_dim=8,
        norm_num_groups=8,
        **extra,
    )
    vae = AutoencoderKL(
        sample_size=NATIVE,
        latent_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        scaling_factor=0.2,
    )
    encoders = [CLIPTextModel(_text_config(widths[0]))]
    if kind == "xl":
        encoders.append(CLIPTextModelWithProjection(_text_config(widths[1])))
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        prediction_type="v_prediction" if kind == "sd2" else "epsilon",
    )
    return LoadedModel(
        name=kind,
        key=kind,
        denoiser=unet.eval().requires_grad_(False),
        vae=vae.eval().requires_grad_(False),
        tokenizers=(LetterTokenizer(),) * len(encoders),
        text_encoders=tuple(encoder.eval().requires_grad_(False) for encoder in encoders),
        schedule=VariancePreservingSchedule.from_scheduler(scheduler),
        device=torch.device("cpu"),
        dtype=torch.float32,
        zero_empty_text=kind == "xl",
    )


def with_denoiser(model: LoadedModel, denoiser: Any) -> LoadedModel:
    """The model with another network in the UNet's place."""
    return replace(model, denoiser=denoiser)
