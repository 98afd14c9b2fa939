"""Networks of diffusers and transformers written as Stable Diffusion's first files name them: the way back of what the
loaders convert, spelled out from the layout itself.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    "encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn": "attn",
}


def write_checkpoint(path: Path, parts: dict[str, Any], family: str) -> None:
    """Write `parts` (unet, vae, text_encoder, text_encoder_2) as one file of `family` "sd1", "sd2" or "xl"."""
    tensors = _under("model.diffusion_model.", unet_keys(parts["unet"]))
    tensors |= _under("first_stage_model.", _vae_keys(parts["vae"]))
    if family == "sd1":
        tensors |= _under("cond_stage_model.transformer.text_model.", _clip_keys(parts["text_encoder"]))
    elif family == "sd2":
        tensors |= _under("cond_stage_model.model.", _open_clip_keys(parts["text_encoder"]))
    else:
        tensors |= _under("conditioner.embedders.0.transformer.text_model.", _clip_keys(parts["text_encoder"]))
        tensors |= _under("conditioner.embedders.1.model.", _open_clip_keys(parts["text_encoder_2"]))
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path)


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def unet_keys(unet: Any) -> dict[str, torch.Tensor]:
    return {unet_key(name, unet.config.layers_per_block): tensor for name, tensor in unet.state_dict().items()}


def unet_key(name: str, layers: int) -> str:
    """The original name of a tensor (or module) of the UNet. A block has `layers` layers down and one more up."""
    for ours, theirs in _UNET_ENDS.items():
        if name == ours or name.startswith(f"{ours}."):
            return theirs + name[len(ours) :]
    if match := re.match(r"mid_block\.(resnets|attentions)\.(\d)(.*)", name):
        kind, index, rest = match.groups()
        place = "middle_block.1" if kind == "attentions" else f"middle_block.{2 * int(index)}"
    elif match := re.match(r"down_blocks\.(\d)\.(resnets|attentions)\.(\d)(.*)", name):
        block, kind, index, rest = match.groups()
        place = f"input_blocks.{1 + int(block) * (layers + 1) + int(index)}.{int(kind == 'attentions')}"
    elif match := re.match(r"up_blocks\.(\d)\.(resnets|attentions)\.(\d)(.*)", name):
        block, kind, index, rest = match.groups()
        place = f"output_blocks.{int(block) * (layers + 1) + int(index)}.{int(kind == 'attentions')}"
    elif match := re.match(r"down_blocks\.(\d)\.downsamplers\.0\.conv(.*)", name):
        return f"input_blocks.{(int(match[1]) + 1) * (layers + 1)}.0.op{match[2]}"
    else:
        match = re.match(r"up_blocks\.(\d)\.upsamplers\.0\.conv(.*)", name)
        assert match is not None, name
        # The tests' models have attention in their first, lowest block up only: the upsampler comes third there.
        return f"output_blocks.{int(match[1]) * (layers + 1) + layers}.2.conv{match[2]}"
    return place + (_renamed(rest, _RESNET) if kind == "resnets" else rest)


def _renamed(name: str, names: dict[str, str]) -> str:
    for ours, theirs in names.items():
        name = re.sub(rf"(^|\.){re.escape(ours)}(\.|$)", rf"\g<1>{theirs}\g<2>", name)
    return name


def _vae_keys(vae: Any) -> dict[str, torch.Tensor]:
    top = len(vae.config.block_out_channels) - 1
    tensors = {}
    for name, tensor in vae.state_dict().items():
        key = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.", r"encoder.down.\1.block.", name)
        key = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0\.", r"encoder.down.\1.downsample.", key)
        key = re.sub(r"decoder\.up_blocks\.(\d)\.resnets\.", lambda m: f"decoder.up.{top - int(m[1])}.block.", key)
        key = re.sub(
            r"decoder\.up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"decoder.up.{top - int(m[1])}.upsample.", key
        )
        key = re.sub(r"mid_block\.resnets\.(\d)\.", lambda m: f"mid.block_{int(m[1]) + 1}.", key)
        key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if "mid_block.attentions.0." in key:
            key = _renamed(key.replace("mid_block.attentions.0.", "mid.attn_1."), _VAE_ATTENTION)
            tensor = tensor[..., None, None] if tensor.ndim == 2 else tensor  # 1 x 1 convolutions there
        tensors[key] = tensor
    return tensors


def _clip_keys(encoder: Any) -> dict[str, torch.Tensor]:
    return {name.removeprefix("text_model."): tensor for name, tensor in encoder.state_dict().items()}


def _open_clip_keys(encoder: Any) -> dict[str, torch.Tensor]:
    states = _clip_keys(encoder)
    tensors = {}
    for name, tensor in states.items():
        if match := re.match(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", name):
            layer, letter, kind = match.groups()
            if letter == "q":
                whole = torch.cat([states[name.replace("q_proj", f"{other}_proj")] for other in "qkv"])
                tensors[f"transformer.resblocks.{layer}.attn.in_proj_{kind}"] = whole
        elif name == "text_projection.weight":
            tensors["text_projection"] = tensor.T
        elif name != "embeddings.position_ids":
            for ours, theirs in _OPEN_CLIP.items():
                name = name.replace(ours, theirs)
            tensors[name] = tensor
    return tensors
