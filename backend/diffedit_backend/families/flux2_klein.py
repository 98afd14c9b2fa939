"""FLUX.2 [klein] (4B and 4B Base), as diffusers' Flux2KleinPipeline calls it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..method.family import FamilyModel, ModelFamily
from ..method.text_condition import TextCondition
from .chat import as_chat, beyond

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..method.schedule import Level

_LAYERS = (9, 18, 27)  # of Qwen3, whose hidden states are the text's embedding side by side
_TEXT_TOKENS = 512


@dataclass(frozen=True)
class Flux2Klein(ModelFamily):
    """Latents are the VAE's, 2 x 2 cells as one of four times the channels, normalised by its batch statistics."""

    name = "FLUX.2 klein"

    def factor(self, model: FamilyModel) -> int:
        return int(2 ** len(model.vae.config.block_out_channels))

    def multiple(self, model: FamilyModel) -> int:
        return self.factor(model)

    def native_size(self, model: FamilyModel) -> int:
        return int(model.vae.config.sample_size)

    def latent_channels(self, model: FamilyModel) -> int:
        return int(4 * model.vae.config.latent_channels)

    def encode_text(self, model: FamilyModel, text: str) -> TextCondition:
        """tokens: (512, 3 D), padding included, which the network sees too."""
        tokenizer, encoder = model.tokenizers[0], model.text_encoders[0]
        chat = as_chat(tokenizer, text, thinking=False)
        tokens = tokenizer(
            chat, return_tensors="pt", padding="max_length", truncation=True, max_length=_TEXT_TOKENS
        ).to(model.device)
        states = encoder(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states
        return TextCondition(torch.cat([states[layer][0] for layer in _LAYERS], dim=-1).to(model.dtype))

    def words_beyond(self, model: FamilyModel, text: str) -> str:
        tokenizer = model.tokenizers[0]
        return beyond(tokenizer, text, as_chat(tokenizer, text, thinking=False), _TEXT_TOKENS)

    def encode(self, model: FamilyModel, picture: Tensor) -> Tensor:
        z: Tensor = model.vae.encode(picture).latent_dist.mode()
        rows, channels, height, width = z.shape
        z = z.reshape(rows, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
        mean, deviation = _statistics(model.vae)
        return (z.reshape(rows, 4 * channels, height // 2, width // 2) - mean) / deviation

    def decode(self, model: FamilyModel, latents: Tensor) -> Tensor:
        mean, deviation = _statistics(model.vae)
        z = latents * deviation + mean
        rows, channels, height, width = z.shape
        z = z.reshape(rows, channels // 4, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
        z = z.reshape(rows, channels // 4, 2 * height, 2 * width)
        picture: Tensor = model.vae.decode(z).sample
        return picture

    def forward(
        self, model: FamilyModel, network: Any, x: Tensor, level: Level, texts: Sequence[TextCondition]
    ) -> Tensor:
        rows, _, height, width = x.shape
        tokens = torch.stack([text.tokens for text in texts])
        output: Tensor = network(
            hidden_states=x.flatten(2).transpose(1, 2),
            timestep=torch.full((rows,), level.t / 1000, device=x.device, dtype=x.dtype),
            guidance=None,
            encoder_hidden_states=tokens,
            txt_ids=_positions(1, 1, tokens.shape[1], x.device).expand(rows, -1, -1),
            img_ids=_positions(height, width, 1, x.device).expand(rows, -1, -1),
            return_dict=False,
        )[0]
        return output.transpose(1, 2).reshape(x.shape)


def _statistics(vae: Any) -> tuple[Tensor, Tensor]:
    mean: Tensor = vae.bn.running_mean.view(1, -1, 1, 1)
    variance: Tensor = vae.bn.running_var.view(1, -1, 1, 1)
    return mean, torch.sqrt(variance + vae.config.batch_norm_eps)


def _positions(height: int, width: int, length: int, device: torch.device) -> Tensor:
    """(1, height width length, 4): picture, row, column and place in the text of every token."""
    axes = (torch.arange(n, device=device) for n in (1, height, width, length))
    return torch.cartesian_prod(*axes)[None]
