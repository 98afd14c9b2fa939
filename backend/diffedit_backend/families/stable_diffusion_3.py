"""Stable Diffusion 3 and 3.5 (medium, large), as diffusers' StableDiffusion3Pipeline calls it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..method.family import FamilyModel, ModelFamily
from ..method.text_condition import TextCondition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..method.schedule import Level

_T5_TOKENS = 256


@dataclass(frozen=True)
class StableDiffusion3(ModelFamily):
    """tokenizers and text_encoders: CLIP-L, CLIP-G and, unless it is left out for want of memory, T5-XXL."""

    name = "Stable Diffusion 3"

    def factor(self, model: FamilyModel) -> int:
        return int(2 ** (len(model.vae.config.block_out_channels) - 1))

    def multiple(self, model: FamilyModel) -> int:
        return int(self.factor(model) * model.denoiser.config.patch_size)

    def native_size(self, model: FamilyModel) -> int:
        return int(self.factor(model) * model.denoiser.config.sample_size)

    def latent_channels(self, model: FamilyModel) -> int:
        return int(model.vae.config.latent_channels)

    def encode_text(self, model: FamilyModel, text: str) -> TextCondition:
        """tokens: (77 + 256, D), zeros for a T5 that was left out. pooled: those of both CLIPs."""
        width = int(model.denoiser.config.joint_attention_dim)
        clip, pooled = [], []
        for tokenizer, encoder in zip(model.tokenizers[:2], model.text_encoders[:2], strict=True):
            length = model.tokenizers[0].model_max_length
            output = encoder(_ids(model, tokenizer, text, length), output_hidden_states=True)
            clip.append(output.hidden_states[-2][0])
            pooled.append(output[0][0])
        both = torch.cat(clip, dim=-1)
        tokens = [torch.nn.functional.pad(both, (0, width - both.shape[-1])).to(model.dtype)]
        if len(model.text_encoders) > 2:
            ids = _ids(model, model.tokenizers[2], text, _T5_TOKENS)
            tokens.append(model.text_encoders[2](ids)[0][0].to(model.dtype))
        else:
            tokens.append(torch.zeros(_T5_TOKENS, width, device=model.device, dtype=model.dtype))
        return TextCondition(torch.cat(tokens), torch.cat(pooled, dim=-1).to(model.dtype))

    def words_beyond(self, model: FamilyModel, text: str) -> str:
        """What no encoder reads: T5 takes more than CLIP does."""
        with_t5 = len(model.tokenizers) > 2
        tokenizer = model.tokenizers[-1]
        limit = _T5_TOKENS if with_t5 else tokenizer.model_max_length
        ids = tokenizer(text, truncation=False, verbose=False).input_ids
        return str(tokenizer.decode(ids[limit - 1 : -1])).strip() if len(ids) > limit else ""

    def encode(self, model: FamilyModel, picture: Tensor) -> Tensor:
        z = model.vae.encode(picture).latent_dist.mode()
        latents: Tensor = (z - model.vae.config.shift_factor) * model.vae.config.scaling_factor
        return latents

    def decode(self, model: FamilyModel, latents: Tensor) -> Tensor:
        z = latents / model.vae.config.scaling_factor + model.vae.config.shift_factor
        picture: Tensor = model.vae.decode(z).sample
        return picture

    def forward(
        self, model: FamilyModel, network: Any, x: Tensor, level: Level, texts: Sequence[TextCondition]
    ) -> Tensor:
        output: Tensor = network(
            hidden_states=x,
            timestep=torch.full((len(x),), level.t, device=x.device),
            encoder_hidden_states=torch.stack([text.tokens for text in texts]),
            pooled_projections=torch.stack([text.pooled for text in texts if text.pooled is not None]),
            return_dict=False,
        )[0]
        return output


def _ids(model: FamilyModel, tokenizer: Any, text: str, length: int) -> Tensor:
    ids: Tensor = tokenizer(
        text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    return ids.to(model.device)
