"""Flow models of a few thousand random weights, as diffusers' own tests build them, and their pipelines."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffedit_backend.families.flux2_klein import Flux2Klein
from diffedit_backend.families.qwen_image import QwenImage
from diffedit_backend.families.schedule import ShiftedSchedule
from diffedit_backend.families.stable_diffusion_3 import StableDiffusion3
from diffedit_backend.families.z_image import ZImage
from diffedit_backend.method.family import ModelFamily
from diffedit_backend.models import LoadedModel
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
)

VOCABULARY = 300
_CHAT = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if not enable_thinking %}<no thought>{% endif %}{% endif %}"
)


def byte_tokenizer(length: int, *, ends: bool) -> PreTrainedTokenizerFast:
    """A token for every byte; `ends`: with a begin and an end, as CLIP and T5 have them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*alphabet, "<s>", "</s>", "<pad>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=length,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=_CHAT,
    )


def _clip(width: int) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            max_position_embeddings=77,
            projection_dim=8,
            bos_token_id=256,
            eos_token_id=257,
            pad_token_id=258,
        )
    )


def _qwen3(layers: int) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=600,
        )
    )


def _kl(kind: Any, channels: int, **options: Any) -> Any:
    return kind(
        sample_size=32,
        latent_channels=channels,
        layers_per_block=1,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **options,
    )


def flux2_klein(*, distilled: bool = False) -> Flux2KleinPipeline:
    vae = _kl(AutoencoderKLFlux2, 4)
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2)
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        vae=vae,
        text_encoder=_qwen3(28),
        tokenizer=byte_tokenizer(1024, ends=False),
        transformer=Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        ),
        is_distilled=distilled,
    )


def stable_diffusion_3(*, with_t5: bool = True) -> StableDiffusion3Pipeline:
    t5 = T5EncoderModel(
        T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4, pad_token_id=258)
    )
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=32,
            pooled_projection_dim=16,
            pos_embed_max_size=16,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_kl(AutoencoderKL, 4, scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=_clip(8),
        tokenizer=byte_tokenizer(77, ends=True),
        text_encoder_2=_clip(16),
        tokenizer_2=byte_tokenizer(77, ends=True),
        text_encoder_3=t5 if with_t5 else None,
        tokenizer_3=byte_tokenizer(256, ends=True) if with_t5 else None,
    )


def z_image(*, turbo: bool = False) -> ZImagePipeline:
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=not turbo),
        vae=_kl(AutoencoderKL, 16, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=_qwen3(3),
        tokenizer=byte_tokenizer(1024, ends=False),
        transformer=ZImageTransformer2DModel(
            in_channels=16,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[8, 4, 4],
            axes_lens=[1024, 32, 32],
        ),
    )


def qwen_image() -> QwenImagePipeline:
    text = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
        "rope_theta": 1000000.0,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 600,
    }
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 16,
        "fullatt_block_indexes": [1],
    }
    return QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=0.9,
            max_image_seq_len=8192,
            shift_terminal=0.02,
        ),
        vae=AutoencoderKLQwenImage(
            base_dim=24,
            z_dim=4,
            dim_mult=[1, 2, 4],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[0.1, -0.2, 0.3, -0.4],
            latents_std=[1.5, 0.8, 2.0, 1.1],
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(text_config=text, vision_config=vision, vocab_size=VOCABULARY)
        ),
        tokenizer=byte_tokenizer(2048, ends=False),
        transformer=QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=3,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
        ),
    )


@dataclass(frozen=True)
class TinyFamily:
    """build: its diffusers pipeline. family: its adapter. options: of its schedule."""

    build: Callable[[], Any]
    family: ModelFamily
    options: dict[str, Any]


TINY = {
    "flux2-klein": TinyFamily(flux2_klein, Flux2Klein(), {"dynamic": "flux2", "cells_per_token": 1}),
    "sd3": TinyFamily(stable_diffusion_3, StableDiffusion3(), {"spaces_itself": True}),
    "sd3-without-t5": TinyFamily(
        lambda: stable_diffusion_3(with_t5=False), StableDiffusion3(), {"spaces_itself": True}
    ),
    "z-image": TinyFamily(z_image, ZImage(), {}),
    "z-image-turbo": TinyFamily(lambda: z_image(turbo=True), ZImage(), {}),
    "qwen-image": TinyFamily(qwen_image, QwenImage(size=32), {}),
}


def tiny_pipeline(kind: str) -> Any:
    """The diffusers pipeline of a kind; the same weights at every call."""
    torch.manual_seed(0)
    pipeline = TINY[kind].build()
    pipeline.set_progress_bar_config(disable=True)
    for name, part in pipeline.components.items():
        if name == "transformer":
            for parameter in part.parameters():  # several begin at 0, which would hide what they are given
                torch.nn.init.normal_(parameter, std=0.15)
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return pipeline


def tiny_flow_model(kind: str, pipeline: Any = None) -> LoadedModel:
    """The model of a kind, of the networks of its pipeline."""
    pipeline = pipeline or tiny_pipeline(kind)
    suffixes = [s for s in ("", "_2", "_3") if getattr(pipeline, f"text_encoder{s}", None) is not None]
    tiny = TINY[kind]
    return LoadedModel(
        name=kind,
        key=kind,
        denoiser=pipeline.transformer,
        vae=pipeline.vae,
        tokenizers=tuple(getattr(pipeline, f"tokenizer{s}") for s in suffixes),
        text_encoders=tuple(getattr(pipeline, f"text_encoder{s}") for s in suffixes),
        schedule=ShiftedSchedule.from_scheduler(pipeline.scheduler, **tiny.options),
        device=torch.device("cpu"),
        dtype=torch.float32,
        guidance=4.0,
        family=tiny.family,
    )


FOLDERS = ("flux2-klein", "sd3", "z-image", "qwen-image")  # kinds that a folder tells from each other


def write_folders(root: Path) -> Mapping[str, Path]:
    """A diffusers folder of each family in `root`, as diffusers itself writes it, by kind."""
    for kind in FOLDERS:
        tiny_pipeline(kind).save_pretrained(root / kind)
    return {kind: root / kind for kind in FOLDERS}


def transformer_alone(folder: Path, root: Path) -> Path:
    """The transformer of a diffusers folder as a single file in ComfyUI's folders below `root`, encoders and
    autoencoder in theirs, settings in a folder of the file's own name.
    """
    file = root / "diffusion_models" / f"tiny-{folder.name}-base.safetensors"
    weights = shutil.ignore_patterns("*.safetensors", "*.safetensors.index.json", "model_index.json")
    shutil.copytree(folder, file.with_suffix(""), ignore=weights)
    shutil.copy(next((folder / "transformer").glob("*.safetensors")), file)
    for part in folder.glob("text_encoder*"):
        (root / "text_encoders").mkdir(exist_ok=True)
        shutil.copy(next(part.glob("*.safetensors")), root / "text_encoders" / f"{part.name}.safetensors")
    (root / "vae").mkdir()
    shutil.copy(next((folder / "vae").glob("*.safetensors")), root / "vae" / "ae.safetensors")
    return file
