"""Z-Image (base and Turbo), as diffusers' ZImagePipeline calls it.

Its pipeline's guidance g adds g times the difference to the conditional prediction: classifier-free guidance of scale
1 + g, which is what guidance means here for every family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..method.text_condition import TextCondition
from .chat import as_chat, beyond
from .stable_diffusion_3 import StableDiffusion3

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..method.family import FamilyModel
    from ..method.schedule import Level

_TEXT_TOKENS = 512


@dataclass(frozen=True)
class ZImage(StableDiffusion3):
    """FLUX.1's VAE, whose latents are scaled as Stable Diffusion 3's are. One Qwen3 encodes the text.

    The network is given 1 - s as its time and answers with the opposite of the velocity.
    """

    name = "Z-Image"
    same_text_length = False

    def multiple(self, model: FamilyModel) -> int:
        return int(self.factor(model) * model.denoiser.config.all_patch_size[0])

    def native_size(self, model: FamilyModel) -> int:
        return int(model.vae.config.sample_size)

    def encode_text(self, model: FamilyModel, text: str) -> TextCondition:
        """tokens: (L, D) of the text in its chat template, without padding."""
        tokenizer, encoder = model.tokenizers[0], model.text_encoders[0]
        chat = as_chat(tokenizer, text, thinking=True)
        ids = tokenizer(chat, return_tensors="pt", truncation=True, max_length=_TEXT_TOKENS).input_ids.to(model.device)
        states = encoder(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
        return TextCondition(states[-2][0].to(model.dtype))

    def words_beyond(self, model: FamilyModel, text: str) -> str:
        tokenizer = model.tokenizers[0]
        return beyond(tokenizer, text, as_chat(tokenizer, text, thinking=True), _TEXT_TOKENS)

    def forward(
        self, model: FamilyModel, network: Any, x: Tensor, level: Level, texts: Sequence[TextCondition]
    ) -> Tensor:
        output = network(
            list(x[:, :, None]),  # each (C, 1, h, w): a video of one picture
            torch.full((len(x),), 1 - level.t / 1000, device=x.device),
            [text.tokens for text in texts],
            return_dict=False,
        )[0]
        return -torch.stack(list(output))[:, :, 0]
