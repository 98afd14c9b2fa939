"""diffusers' loader of LoRAs for each family of models, behind one interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffusers.loaders import (
    Flux2LoraLoaderMixin,
    QwenImageLoraLoaderMixin,
    SD3LoraLoaderMixin,
    StableDiffusionLoraLoaderMixin,
    StableDiffusionXLLoraLoaderMixin,
    ZImageLoraLoaderMixin,
)
from torch import Tensor

from ..method.model import LoadedModel

_OF_FLOW = {
    "FLUX.2 klein": Flux2LoraLoaderMixin,
    "Stable Diffusion 3": SD3LoraLoaderMixin,
    "Z-Image": ZImageLoraLoaderMixin,
    "Qwen-Image": QwenImageLoraLoaderMixin,
}


@dataclass(frozen=True)
class LoraLoader:
    """`mixin`: of diffusers. `network`: what files call the network that predicts, "unet" or "transformer"."""

    mixin: Any
    network: str

    def states(self, tensors: Mapping[str, Tensor], config: Any) -> tuple[Mapping[str, Tensor], Any]:
        """The tensors by diffusers' names, and the alphas of old formats; config: the network's."""
        if self.network == "unet":
            states, alphas = self.mixin.lora_state_dict(tensors, unet_config=config)
            return states, alphas
        return self.mixin.lora_state_dict(tensors), None

    def add(self, part: str, states: Mapping[str, Tensor], alphas: Any, network: Any, key: str) -> None:
        """Load what of the tensors belongs to the `network` that files call `part`, under the name `key`."""
        if part == "unet":
            self.mixin.load_lora_into_unet(states, alphas, network, adapter_name=key)
        elif part == "transformer":
            self.mixin.load_lora_into_transformer(states, transformer=network, adapter_name=key)
        else:
            self.mixin.load_lora_into_text_encoder(states, alphas, network, prefix=part, adapter_name=key)


def loader_of(model: LoadedModel) -> LoraLoader:
    """The loader for a model's family."""
    if (mixin := _OF_FLOW.get(model.family.name)) is not None:
        return LoraLoader(mixin, "transformer")
    return LoraLoader(StableDiffusionXLLoraLoaderMixin if model.is_xl else StableDiffusionLoraLoaderMixin, "unet")
