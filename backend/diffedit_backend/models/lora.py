"""LoRA layers (arXiv 2106.09685) in a model's UNet and text encoders, by peft through diffusers' own loaders.

Layers stay in the networks, switched off, so that taking a LoRA up again costs nothing; beyond a bound those that were
used least recently are deleted.
"""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from diffedit_protocol.errors import ModelError
from diffusers.loaders import (
    Flux2LoraLoaderMixin,
    QwenImageLoraLoaderMixin,
    SD3LoraLoaderMixin,
    StableDiffusionLoraLoaderMixin,
    StableDiffusionXLLoraLoaderMixin,
    ZImageLoraLoaderMixin,
)
from diffusers.loaders.lora_base import (
    disable_lora_for_text_encoder,
    enable_lora_for_text_encoder,
    set_adapters_for_text_encoder,
)
from peft.tuners.tuners_utils import BaseTunerLayer
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


KEPT_BYTES = 128 << 20  # of LoRAs that are not in force: two to ten of the usual size
_PEFT = "base_model.model."  # what peft itself puts before every key when it saves a UNet's LoRA
# Tensors that make up a LoRA's layers; what else a file holds (DoRA's magnitudes, embeddings) has no effect.
_OF_LAYERS = re.compile(r"^(?!.*dora_scale).*(lora.*\.weight|\.alpha)$")
_OF_LAYER = re.compile(r"^(.+?)\.(?:lora_[AB]|lora\.(?:down|up))(?:\.\w+)*\.weight$")  # in the layouts that name it
_NAMED = 3  # of the parts that are left out, in a sentence


@dataclass(frozen=True)
class _Held:
    """A LoRA in the networks: its memory, and what of its file has no effect ("" for nothing)."""

    nbytes: int
    remark: str


# The LoRAs of each UNet that is in memory, least recently used first.
_held: WeakKeyDictionary[Any, OrderedDict[str, _Held]] = WeakKeyDictionary()


def holds_lora(model: LoadedModel, key: str) -> bool:
    """Whether the networks hold a LoRA already, in force or not."""
    return key in _of(model)


def held_bytes(model: LoadedModel) -> int:
    """Memory of all LoRAs that the networks hold."""
    return sum(lora.nbytes for lora in _of(model).values())


def lora_remarks(model: LoadedModel, keys: Iterable[str]) -> tuple[str, ...]:
    """What an artist should know of these LoRAs."""
    return tuple(_of(model)[key].remark for key in keys if key in _of(model) and _of(model)[key].remark)


def add_lora(model: LoadedModel, name: str, key: str, tensors: Mapping[str, Tensor]) -> None:
    """Put a LoRA's layers into the networks under `key`. Raises ModelError when it does not fit.

    Formats: diffusers' ("unet.…lora_A.weight", or "lora.down" of old), kohya's ("lora_unet_…lora_down.weight" with
    alphas), peft's own ("base_model.model.…").
    """
    loader = loader_of(model)
    given = {
        f"{loader.network}.{k.removeprefix(_PEFT)}" if k.startswith(_PEFT) else k: tensor
        for k, tensor in tensors.items()
        if _OF_LAYERS.search(k)
    }
    parts = _parts(model)
    try:
        states, alphas = loader.states(given, model.denoiser.config)
        left_out = [k for k in tensors if not _OF_LAYERS.search(k)]
        with warnings.catch_warnings():
            # That there are several LoRAs is meant so.
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            for prefix, network in parts.items():
                fitting, others = _fitting(prefix, network, states)
                left_out += others
                if fitting:
                    _check_fit(prefix, network, fitting)
                    loader.add(prefix, fitting, alphas, network, key)
        known = tuple(f"{prefix}." for prefix in parts)
        left_out += [k for k in states if not k.startswith(known)]
        if not any(key in _keys(network) for network in parts.values()):
            raise ValueError(f"none of its {len(given)} tensors belongs to its network or a text encoder")
    except (ValueError, RuntimeError, KeyError, IndexError, AttributeError, TypeError) as error:
        _delete(model, key)
        raise ModelError(
            f"The LoRA {name!r} does not fit the model '{model.name}': it was made for another kind of model.",
            detail=f"{error!r:.500}",
        ) from error
    _of(model)[key] = _Held(sum(tensor.nbytes for tensor in given.values()), _remark(name, left_out, len(tensors)))


def set_adapters(model: LoadedModel, weights: Mapping[str, float]) -> None:
    """Have exactly these LoRAs in force, each with its weight, out of those that the networks hold."""
    for network in _parts(model).values():
        active = {key: weights[key] for key in weights if key in _keys(network)}
        if network is model.denoiser:
            if active:
                network.enable_lora()
                network.set_adapters(list(active), list(active.values()))
            elif _keys(network):
                network.disable_lora()
        elif active:
            enable_lora_for_text_encoder(network)
            set_adapters_for_text_encoder(list(active), network, list(active.values()))
        elif _keys(network):
            disable_lora_for_text_encoder(network)
    for key in weights:
        if holds_lora(model, key):
            _of(model).move_to_end(key)


def surplus_loras(model: LoadedModel, in_force: Iterable[str], most: int | None = None) -> list[str]:
    """The LoRAs to be deleted so that those not in force take at most `most` bytes (None: KEPT_BYTES): least
    recently used first."""
    wanted = set(in_force)
    idle = [(key, lora.nbytes) for key, lora in _of(model).items() if key not in wanted]
    over = sum(nbytes for _, nbytes in idle) - (KEPT_BYTES if most is None else most)
    surplus = []
    for key, nbytes in idle:
        if over <= 0:
            break
        surplus.append(key)
        over -= nbytes
    return surplus


def delete_loras(model: LoadedModel, keys: Iterable[str]) -> None:
    """Take LoRAs out of the networks and free their memory."""
    for key in list(keys):
        _delete(model, key)


def _delete(model: LoadedModel, key: str) -> None:
    for network in _parts(model).values():
        if key in _keys(network):
            # By peft itself: transformers' own way asks for a later peft than adding does.
            for layer in network.modules():
                if isinstance(layer, BaseTunerLayer):
                    layer.delete_adapter(key)
            del network.peft_config[key]
    _of(model).pop(key, None)


def _fitting(prefix: str, network: Any, states: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors for layers that the network has, and the names of those for layers that it lacks."""
    modules = dict(network.named_modules())
    fitting, others = {}, []
    for key, tensor in states.items():
        if key.startswith(f"{prefix}."):
            layer = _OF_LAYER.match(key.removeprefix(f"{prefix}."))
            if layer is None or _module(modules, layer[1]) is not None:
                fitting[key] = tensor
            else:
                others.append(key)
    return fitting, others


def _module(modules: Mapping[str, Any], layer: str) -> Any:
    # Published LoRAs name a text encoder's layers as transformers did before 5.6.
    return modules.get(layer, modules.get(layer.removeprefix("text_model.")))


def _check_fit(prefix: str, network: Any, states: Mapping[str, Tensor]) -> None:
    """Raise ValueError when a layer's input is not as wide as the network's: the library only finds it half-way."""
    modules = dict(network.named_modules())
    for key, tensor in states.items():
        layer, found, _ = key.removeprefix(f"{prefix}.").partition(".lora_A.")
        weight = getattr(_module(modules, layer), "weight", None) if found else None
        if weight is not None and weight.shape[1] != tensor.shape[1]:
            raise ValueError(f"{layer} has inputs of {weight.shape[1]}, the LoRA's of {tensor.shape[1]}")


def _remark(name: str, left_out: list[str], total: int) -> str:
    if not left_out:
        return ""
    first = ", ".join(left_out[:_NAMED]) + (", …" if len(left_out) > _NAMED else "")
    return f"{len(left_out)} of the {total} tensors of the LoRA {name!r} fit no layer and have no effect: {first}."


def _parts(model: LoadedModel) -> dict[str, Any]:
    """The networks by the names that LoRA files call them."""
    encoders = dict(zip(("text_encoder", "text_encoder_2"), model.text_encoders, strict=False))
    return {loader_of(model).network: model.denoiser, **encoders}


def _keys(network: Any) -> set[str]:
    """The LoRAs that a network holds."""
    return set(getattr(network, "peft_config", {}))


def _of(model: LoadedModel) -> OrderedDict[str, _Held]:
    return _held.setdefault(model.denoiser, OrderedDict())
