"""What a file of weights is, told by the names of its tensors: families of models, and everything that is none; and
which models and LoRAs were distilled to a few steps (LCM, Turbo, Lightning, Hyper, DMD).

Names of tensors are facts of the published formats (the original layout of Stability AI, diffusers, kohya, LyCORIS).

A model says it by its scheduler or its UNet; a single file and a LoRA only by their names, which may be wrong:
`diffedit.json` has the last word ({"few_steps": 0} for a model that is none).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .weight_files import TensorFact

SD1, SD2, XL, OTHER = "SD 1", "SD 2", "SD XL", "other"
LOADABLE = "Stable Diffusion 1, 2 and XL"  # in sentences
# Width of the text embeddings that the UNet looks at. XL: 768 of its first text encoder and 1280 of its second.
_BY_WIDTH = {768: SD1, 1024: SD2, 2048: XL}
# Input channels of UNets that take more than noisy latents.
SPECIAL_UNETS = {
    9: "an inpainting model",
    8: "an image-conditioned model (InstructPix2Pix, Marigold)",
    7: "an upscaler",
    5: "a depth-conditioned model",
}
SPECIAL_UNET_REASON = "DiffEdit looks for the region by the plain network of 4 channels"

# A tensor that only this architecture has, without a leading "model.diffusion_model."; the more special ones first.
_TRANSFORMERS = {
    "single_stream_modulation.lin.weight": "FLUX.2",
    "early_stream_modulations.image.lin.weight": "FLUX.3",
    "distilled_guidance_layer.in_proj.bias": "Chroma",
    "txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias": "HunyuanVideo",
    "double_blocks.0.img_attn.norm.key_norm.scale": "FLUX.1",
    "joint_blocks.0.context_block.adaLN_modulation.1.bias": "Stable Diffusion 3",
    "noise_refiner.0.attention.to_q.weight": "Z-Image",
    "layers.0.adaLN_modulation.0.weight": "Z-Image",
    "cap_embedder.0.weight": "Lumina 2",
    "transformer_blocks.0.img_mod.1.weight": "Qwen-Image",
    "txtfusion.projector.weight": "Krea 2",
    "double_stream_blocks.0.block.adaLN_modulation.1.bias": "HiDream",
    "cond_seq_linear.weight": "AuraFlow",
    "head.modulation": "Wan",
    "patchify_proj.weight": "LTX-Video",
    "net.x_embedder.proj.1.weight": "Cosmos",
    "clip_txt_mapper.weight": "Stable Cascade",
    "blocks.0.cross_attn.q_linear.weight": "PixArt or Sana",
    # diffusers' own layout
    "transformer_blocks.0.attn.add_q_proj.weight": "a transformer in diffusers' layout (FLUX, Stable Diffusion 3)",
}
_PARTS = (
    (re.compile(r"(^|\.)hada_w1_[ab]$"), "LyCORIS LoHa"),
    (re.compile(r"(^|\.)lokr_w[12](_[ab])?$"), "LyCORIS LoKr"),
    (re.compile(r"(^|\.)(oft_blocks|oft_diag|oft_R\.\w+)$"), "LyCORIS OFT"),
    (re.compile(r"^lora_\w+\.on_input$"), "LyCORIS IA3"),
    (re.compile(r"^lora_(unet|te\d?)_\w+\.diff(_b)?$"), "LyCORIS full"),
    (re.compile(r"lora[_.]"), "LoRA"),
    (re.compile(r"^(emb_params|string_to_param\.\*|clip_[lg])$"), "textual inversion"),
    (re.compile(r"^(control_model|controlnet_blocks)\.|controlnet_cond_embedding\."), "ControlNet"),
    (re.compile(r"^(ip_adapter|image_proj|image_proj_model)\."), "IP-Adapter"),
    (re.compile(r"^adapter\.(body|conv_in)|^body\.0\.block1\."), "T2I-Adapter"),
    (re.compile(r"^down_blocks\.0\.motion_modules\."), "AnimateDiff motion module"),
    (re.compile(r"^(first_stage_model\.)?(encoder|decoder)\.(conv_in|mid|down|up)\b"), "autoencoder (VAE)"),
    (re.compile(r"^decoder\.middle\.0\.residual\."), "autoencoder (VAE)"),
    (
        re.compile(r"^(text_encoders\.|(transformer\.)?text_model\.embeddings\.|encoder\.block\.0\.|shared\.)"),
        "text encoder",
    ),
    (re.compile(r"^(model\.)?(embed_tokens|layers\.0\.self_attn)\."), "text encoder (language model)"),
    (re.compile(r"^(conv_first|body\.0\.rdb1|model\.0)\."), "upscaler"),
    (re.compile(r"^(down_blocks|mid_block)\..*attn2\."), "UNet in diffusers' layout"),
)
_PREFIX = "model.diffusion_model."


def family_of_width(width: int) -> str:
    """The family whose text embeddings have `width` numbers per token, "" for a width of none of them."""
    return _BY_WIDTH.get(width, "")


def transformer_of(names: Iterable[str]) -> str:
    """The architecture of a file whose network is a transformer, "" for none that is known."""
    plain = {name.removeprefix(_PREFIX) for name in names}
    return next((kind for mark, kind in _TRANSFORMERS.items() if mark in plain), "")


def part_of(names: Iterable[str]) -> str:
    """What a file that is no whole model holds: "LoRA", "ControlNet", "autoencoder (VAE)" and so on; "" if unknown."""
    given = list(names)
    return next((kind for mark, kind in _PARTS if any(mark.search(name) for name in given)), "")


def original_unet(tensors: Mapping[str, TensorFact]) -> tuple[int, int]:
    """Input channels of a UNet in the original layout, and width of the text embeddings that it reads; 0: unknown."""
    first = tensors.get(f"{_PREFIX}input_blocks.0.0.weight")
    looking = next((fact for name, fact in tensors.items() if name.endswith("attn2.to_k.weight")), None)
    return (first.shape[1] if first and len(first.shape) > 1 else 0, looking.shape[1] if looking else 0)


DEFAULT_STEPS = 4  # where no count is told; published models are made for 1 to 8
# Distilled models are used without guidance.
GUIDANCE = 1.0
_KIND = re.compile(r"(?<![a-z])(s?d?xl[-_ ]?|sd[-_ ]?)?(lcm|turbo|lightning|hyper|dmd2?)(?![a-z])", re.IGNORECASE)
_MIXED_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=XL)(?=[A-Za-z])")  # "dreamshaperXL_lightningDPMSDE"
_STEPS = re.compile(r"(\d{1,2})[-_ ]?steps?(?![a-z])", re.IGNORECASE)


def few_steps_by_name(name: str) -> int:
    """Steps of a distilled model or LoRA by its name, 0 for a name that says nothing of it."""
    if not _KIND.search(_MIXED_CASE.sub("_", name)):
        return 0
    steps = _STEPS.search(name)
    return int(steps[1]) if steps else DEFAULT_STEPS


def few_steps_by_settings(scheduler: str, settings: Mapping[str, Any], unet: Mapping[str, Any]) -> int:
    """Steps of a distilled model by its scheduler's class and settings and those of its UNet, 0 for a base model.

    LCM and TCD have schedulers of their own; Turbo models come with Euler's on trailing time steps; LCMs that were
    distilled with their guidance have a projection of it in the UNet.
    """
    turbo = (
        scheduler in ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler")
        and settings.get("timestep_spacing") == "trailing"
        and not settings.get("rescale_betas_zero_snr", False)
    )
    own = scheduler in ("LCMScheduler", "TCDScheduler")
    return DEFAULT_STEPS if own or turbo or unet.get("time_cond_proj_dim") is not None else 0
