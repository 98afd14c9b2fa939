"""Models of every kind that the backend loads, small, with random weights, written to files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffedit_bench.speed.models import letter_tokenizer
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from original_layout import write_checkpoint
from transformers import CLIPConfig, CLIPImageProcessor, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

FAMILIES = ("sd1", "sd2", "xl")
WIDTH, SECOND_WIDTH = 32, 48  # of the text embeddings; XL tells its two encoders apart by it


def parts(family: str, prediction_type: str | None = None) -> dict[str, Any]:
    """The components of a diffusers pipeline of `family`, with schedule and prediction type as that family has them."""
    torch.manual_seed(0)
    tokenizer = letter_tokenizer()
    xl = family == "xl"
    unet: dict[str, Any] = {
        "sample_size": 16,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": WIDTH + SECOND_WIDTH if xl else WIDTH,
        "attention_head_dim": 8,
        "norm_num_groups": 8,
        "use_linear_projection": family != "sd1",
    }
    if xl:
        time_ids = 6
        unet |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": SECOND_WIDTH + 8 * time_ids,
        }
    made: dict[str, Any] = {
        "unet": UNet2DConditionModel(in_channels=4, out_channels=4, **unet),
        "vae": AutoencoderKL(
            sample_size=32,
            latent_channels=4,
            layers_per_block=1,
            block_out_channels=(16, 32),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=8,
        ),
        "text_encoder": CLIPTextModel(_clip(tokenizer, WIDTH)),
        "tokenizer": tokenizer,
    }
    if xl:
        made["text_encoder_2"] = CLIPTextModelWithProjection(_clip(tokenizer, SECOND_WIDTH))
        made["tokenizer_2"] = tokenizer
    for network in made.values():
        if isinstance(network, torch.nn.Module):
            network.eval()
    made["scheduler"] = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
        prediction_type=prediction_type or ("v_prediction" if family == "sd2" else "epsilon"),
    )
    return made


def _clip(tokenizer: Any, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=40,
        num_attention_heads=4,
        num_hidden_layers=3,
        projection_dim=width,
        vocab_size=len(tokenizer),
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def pipeline(made: dict[str, Any], **more: Any) -> Any:
    """diffusers' pipeline of `made`; `more`: safety_checker and feature_extractor."""
    if "text_encoder_2" in made:
        return StableDiffusionXLPipeline(**made)
    options = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False, **more}
    return StableDiffusionPipeline(**made, **options)


def write_folder(folder: Path, made: dict[str, Any], **more: Any) -> Path:
    """A diffusers folder."""
    pipeline(made, **more).save_pretrained(folder)
    return folder


def write_single_file(file: Path, made: dict[str, Any], family: str) -> Path:
    """A checkpoint in the original layout, and beside it a folder with its settings and tokenizer but no weights."""
    settings = write_folder(file.with_suffix(""), made)
    for weights in settings.rglob("*.safetensors"):
        weights.unlink()
    write_checkpoint(file, made, family)
    return file


def change_settings(folder: Path, part: str, **values: Any) -> None:
    """Overwrite entries of the settings of a part."""
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    file = folder / part / name
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def copy_of(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def flagging_checker(*, flags: bool = True) -> tuple[Any, Any]:
    """A safety checker that flags every picture (or none), and its processor."""
    vision = {
        "hidden_size": 16,
        "intermediate_size": 20,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
        "projection_dim": 12,
    }
    network = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=12))
    with torch.no_grad():
        # A concept is seen where the cosine exceeds its weight.
        network.concept_embeds_weights.fill_(-2.0 if flags else 2.0)
        network.special_care_embeds_weights.fill_(2.0)
    processor = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    return network, processor
