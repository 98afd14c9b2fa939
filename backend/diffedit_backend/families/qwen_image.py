"""Qwen-Image, as diffusers' QwenImagePipeline calls it."""

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

# What the model was trained to read around a text (diffusers' QwenImagePipeline); the template's head is dropped.
_TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
_HEAD_TOKENS = 34
_TEXT_TOKENS = 1024


@dataclass(frozen=True)
class QwenImage(ModelFamily):
    """A video's VAE with statistics for each channel; 2 x 2 cells are one token. Qwen2.5-VL encodes the text.

    size: the side in px of the pictures that it was trained on, which no config holds.
    """

    size: int = 1024
    name = "Qwen-Image"
    same_text_length = False

    def factor(self, model: FamilyModel) -> int:
        return int(2 ** len(model.vae.config.temperal_downsample))

    def multiple(self, model: FamilyModel) -> int:
        return 2 * self.factor(model)

    def native_size(self, model: FamilyModel) -> int:
        return self.size

    def latent_channels(self, model: FamilyModel) -> int:
        return int(model.vae.config.z_dim)

    def encode_text(self, model: FamilyModel, text: str) -> TextCondition:
        """tokens: (L, D) of the text and the template's end."""
        tokenizer, encoder = model.tokenizers[0], model.text_encoders[0]
        tokens = tokenizer(
            _TEMPLATE.format(text), max_length=_TEXT_TOKENS + _HEAD_TOKENS, truncation=True, return_tensors="pt"
        ).to(model.device)
        states = encoder(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, output_hidden_states=True
        ).hidden_states
        return TextCondition(states[-1][0, _HEAD_TOKENS:].to(model.dtype))

    def words_beyond(self, model: FamilyModel, text: str) -> str:
        from .chat import beyond

        return beyond(model.tokenizers[0], text, _TEMPLATE.format(text), _TEXT_TOKENS + _HEAD_TOKENS)

    def encode(self, model: FamilyModel, picture: Tensor) -> Tensor:
        mean, deviation = _statistics(model.vae)
        z: Tensor = model.vae.encode(picture[:, :, None]).latent_dist.mode()[:, :, 0]
        return (z - mean) / deviation

    def decode(self, model: FamilyModel, latents: Tensor) -> Tensor:
        mean, deviation = _statistics(model.vae)
        picture: Tensor = model.vae.decode((latents * deviation + mean)[:, :, None]).sample[:, :, 0]
        return picture

    def guide(self, unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
        """Guidance with the length, of every token, of the conditional prediction."""
        guided = super().guide(unconditional, conditional, scale)
        lengths = [_packed(x).norm(dim=-1, keepdim=True) for x in (conditional, guided)]
        height, width = guided.shape[-2:]
        return _unpacked(_packed(guided) * (lengths[0] / lengths[1]), height, width)

    def forward(
        self, model: FamilyModel, network: Any, x: Tensor, level: Level, texts: Sequence[TextCondition]
    ) -> Tensor:
        """Texts of one length go together: so none is padded."""
        rows, _, height, width = x.shape
        lengths = [len(text.tokens) for text in texts]
        output = torch.empty_like(x)
        for length in dict.fromkeys(lengths):
            chosen = [row for row in range(rows) if lengths[row] == length]
            part: Tensor = network(
                hidden_states=_packed(x[chosen]),
                timestep=torch.full((len(chosen),), level.t / 1000, device=x.device, dtype=x.dtype),
                guidance=None,
                encoder_hidden_states=torch.stack([texts[row].tokens for row in chosen]),
                encoder_hidden_states_mask=None,
                img_shapes=[[(1, height // 2, width // 2)]] * len(chosen),
                return_dict=False,
            )[0]
            output[chosen] = _unpacked(part, height, width)
        return output


def _statistics(vae: Any) -> tuple[Tensor, Tensor]:
    mean, deviation = (
        torch.tensor(values, device=vae.device, dtype=vae.dtype).view(1, -1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return mean, deviation


def _packed(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h w / 4, 4 C)."""
    rows, channels, height, width = x.shape
    x = x.reshape(rows, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(rows, height * width // 4, 4 * channels)


def _unpacked(x: Tensor, height: int, width: int) -> Tensor:
    rows, _, channels = x.shape
    x = x.reshape(rows, height // 2, width // 2, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(rows, channels // 4, height, width)
