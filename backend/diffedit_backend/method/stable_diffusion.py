"""Stable Diffusion 1, 2 and XL: a UNet with cross-attention to the embeddings of one or two CLIPs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .family import FamilyModel, ModelFamily
from .text_condition import TextCondition
from .weighting import without_weights

if TYPE_CHECKING:
    from .schedule import Level


@dataclass(frozen=True)
class StableDiffusion(ModelFamily):
    """Sizes are read from the configs of UNet and VAE."""

    name = "Stable Diffusion"
    attention = True
    weighting = True

    def factor(self, model: FamilyModel) -> int:
        return int(2 ** (len(model.vae.config.block_out_channels) - 1))

    def multiple(self, model: FamilyModel) -> int:
        """So that every level of the UNet halves evenly; of a compiled one, so that its shapes are few."""
        evenly = int(self.factor(model) * 2 ** (len(model.denoiser.config.block_out_channels) - 1))
        return -(-self.native_size(model) // 8 // evenly) * evenly if model.compiled else evenly

    def native_size(self, model: FamilyModel) -> int:
        sample_size = model.denoiser.config.sample_size
        return int(self.factor(model) * (sample_size if isinstance(sample_size, int) else max(sample_size)))

    def latent_channels(self, model: FamilyModel) -> int:
        return int(model.vae.config.latent_channels)

    def encode_text(self, model: FamilyModel, text: str) -> TextCondition:
        """Encode by the last layer for SD 1 and 2, by the last but one of both encoders for SDXL."""
        if not model.is_xl:
            return TextCondition(_encoded(model, 0, text).last_hidden_state[0].to(model.dtype))
        tokens, pooled = [], torch.empty(0)
        for index in range(len(model.text_encoders)):
            output = _encoded(model, index, text, output_hidden_states=True)
            tokens.append(output.hidden_states[-2][0])
            pooled = output[0][0]  # the second encoder's projection of its last token is the one that is used
        share = 0.0 if text == "" and model.zero_empty_text else 1.0
        return TextCondition(share * torch.cat(tokens, dim=-1).to(model.dtype), share * pooled.to(model.dtype))

    def words_beyond(self, model: FamilyModel, text: str) -> str:
        tokenizer = model.tokenizers[0]
        ids = tokenizer(model.words.with_tokens(without_weights(text)), truncation=False, verbose=False).input_ids
        room = tokenizer.model_max_length
        return str(tokenizer.decode(ids[room - 1 : -1])).strip() if len(ids) > room else ""

    def encode(self, model: FamilyModel, picture: Tensor) -> Tensor:
        picture = picture.contiguous(memory_format=torch.channels_last)
        latents: Tensor = model.vae.encode(picture).latent_dist.mode()
        return latents * model.scaling_factor

    def decode(self, model: FamilyModel, latents: Tensor) -> Tensor:
        scaled = (latents / model.scaling_factor).contiguous(memory_format=torch.channels_last)
        picture: Tensor = model.vae.decode(scaled).sample
        return picture

    def forward(
        self, model: FamilyModel, network: Any, x: Tensor, level: Level, texts: Sequence[TextCondition]
    ) -> Tensor:
        # Compiled, a number would be part of the program: one compilation for every level.
        time: float | Tensor = torch.tensor(level.t, device=x.device) if model.compiled else level.t
        output: Tensor = network(
            x.contiguous(memory_format=torch.channels_last),
            time,
            encoder_hidden_states=torch.stack([text.tokens for text in texts]),
            added_cond_kwargs=_added(model, x, texts),
            return_dict=False,
        )[0]
        return output


def _added(model: FamilyModel, x: Tensor, texts: Sequence[TextCondition]) -> dict[str, Tensor] | None:
    """SDXL's pooled texts and time ids: original size, crop and target size, all those of the picture at hand."""
    if not model.is_xl:
        return None
    height, width = x.shape[-2] * model.factor, x.shape[-1] * model.factor
    ids = torch.tensor([height, width, 0, 0, height, width], device=x.device, dtype=model.dtype)
    pooled = torch.stack([text.pooled for text in texts if text.pooled is not None])
    return {"text_embeds": pooled, "time_ids": ids.expand(len(texts), -1)}


def token_ids(model: FamilyModel, text: str) -> list[int]:
    """The ids of a text in the first tokenizer, which for SDXL cuts as the second does; padded to its length."""
    tokens = model.words.with_tokens(without_weights(text))
    ids: list[int] = _token_ids(model.tokenizers[0], tokens)[0].tolist()
    return ids


def _encoded(model: FamilyModel, index: int, text: str, **options: Any) -> Any:
    """What text encoder `index` makes of a text, learned words included."""
    ids = _token_ids(model.tokenizers[index], model.words.with_tokens(text)).to(model.device)
    with model.words.embedded(index, model.text_encoders[index], ids) as plain_ids:
        return model.text_encoders[index](plain_ids, **options)


def _token_ids(tokenizer: Any, text: str) -> Tensor:
    room = tokenizer.model_max_length
    ids: Tensor = tokenizer(text, padding="max_length", max_length=room, truncation=True, return_tensors="pt").input_ids
    return ids
