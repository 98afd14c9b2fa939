"""LoRA layers (arXiv 2106.09685) in a model's UNet and text encoders, by peft through diffusers' own loaders."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from diffedit_protocol.errors import ModelError
from diffusers.loaders import StableDiffusionLoraLoaderMixin, StableDiffusionXLLoraLoaderMixin
from diffusers.loaders.lora_base import (
    disable_lora_for_text_encoder,
    enable_lora_for_text_encoder,
    set_adapters_for_text_encoder,
)
from torch import Tensor

from ..method.model import LoadedModel

_PEFT = "base_model.model."  # what peft itself puts before every key when it saves a UNet's LoRA


def holds_lora(model: LoadedModel, key: str) -> bool:
    """Whether the networks hold a LoRA already, in force or not."""
    return any(key in _keys(network) for network in _parts(model).values())


def add_lora(model: LoadedModel, name: str, key: str, tensors: Mapping[str, Tensor]) -> None:
    """Put a LoRA's layers into the networks under `key`. Raises ModelError when it does not fit.

    Formats: diffusers' ("unet.…lora_A.weight", or "lora.down" of old), kohya's ("lora_unet_…lora_down.weight" with
    alphas), peft's own ("base_model.model.…").
    """
    loader = StableDiffusionXLLoraLoaderMixin if model.is_xl else StableDiffusionLoraLoaderMixin
    given = {f"unet.{k.removeprefix(_PEFT)}" if k.startswith(_PEFT) else k: tensor for k, tensor in tensors.items()}
    try:
        states, alphas = loader.lora_state_dict(given, unet_config=model.unet.config)
        with warnings.catch_warnings():
            # That there are several LoRAs is meant so.
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            for prefix, network in _parts(model).items():
                _add_to(loader, prefix, network, key, states, alphas)
        if not any(key in _keys(network) for network in _parts(model).values()):
            raise ValueError(f"none of its {len(given)} tensors belongs to the UNet or a text encoder")
    except (ValueError, RuntimeError, KeyError, IndexError, AttributeError) as error:
        for network in _parts(model).values():
            if key in _keys(network):
                network.delete_adapters([key]) if network is model.unet else network.delete_adapter(key)
        raise ModelError(
            f"The LoRA {name!r} does not fit the model '{model.name}': it was made for another kind of model.",
            detail=f"{error!r:.500}",
        ) from error


def _add_to(
    loader: Any, prefix: str, network: Any, key: str, states: Mapping[str, Tensor], alphas: Mapping[str, float] | None
) -> None:
    """Load what of a LoRA belongs to the network that its file calls `prefix`."""
    if not any(k.startswith(f"{prefix}.") for k in states):
        return
    _check_fit(prefix, network, states)
    if prefix == "unet":
        loader.load_lora_into_unet(states, alphas, network, adapter_name=key)
    else:
        loader.load_lora_into_text_encoder(states, alphas, network, prefix=prefix, adapter_name=key)


def set_adapters(model: LoadedModel, weights: Mapping[str, float]) -> None:
    """Have exactly these LoRAs in force, each with its weight, out of those that the networks hold."""
    worn = {key: weights[key] for key in weights if key in _keys(model.unet)}
    if worn:
        model.unet.enable_lora()
        model.unet.set_adapters(list(worn), list(worn.values()))
    elif _keys(model.unet):
        model.unet.disable_lora()
    for encoder in model.text_encoders:
        worn = {key: weights[key] for key in weights if key in _keys(encoder)}
        if worn:
            enable_lora_for_text_encoder(encoder)
            set_adapters_for_text_encoder(list(worn), encoder, list(worn.values()))
        elif _keys(encoder):
            disable_lora_for_text_encoder(encoder)


def _parts(model: LoadedModel) -> dict[str, Any]:
    """The networks by the names that LoRA files call them."""
    encoders = dict(zip(("text_encoder", "text_encoder_2"), model.text_encoders, strict=False))
    return {"unet": model.unet, **encoders}


def _keys(network: Any) -> set[str]:
    """The LoRAs that a network holds."""
    return set(getattr(network, "peft_config", {}))


def _check_fit(prefix: str, network: Any, states: Mapping[str, Tensor]) -> None:
    """Raise ValueError when a layer's input is not as wide as the network's: the library only finds it half-way."""
    modules = dict(network.named_modules())
    for key, tensor in states.items():
        layer, found, _ = key.removeprefix(f"{prefix}.").partition(".lora_A.")
        # Published LoRAs name a text encoder's layers as transformers did before 5.6.
        module = modules.get(layer, modules.get(layer.removeprefix("text_model.")))
        module = module if key.startswith(f"{prefix}.") and found else None
        weight = getattr(module, "weight", None)
        if weight is not None and weight.shape[1] != tensor.shape[1]:
            raise ValueError(f"{layer} has inputs of {weight.shape[1]}, the LoRA's of {tensor.shape[1]}")
