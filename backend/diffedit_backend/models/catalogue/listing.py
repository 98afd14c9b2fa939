"""What can be loaded on this machine: of which kind, and how much memory its weights take. Nothing is loaded for it.

`inspect` is asked before every load as well, so what is listed as faultless is what loading accepts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffedit_protocol.errors import ModelError

from ...bundled import weights_folder
from .facts import ModelFacts, facts_of, read_json
from .families import (
    LOADABLE,
    OTHER,
    SD1,
    SD2,
    SPECIAL_UNET_REASON,
    SPECIAL_UNETS,
    XL,
    family_of_width,
    few_steps_by_name,
    few_steps_by_settings,
    original_unet,
    part_of,
    transformer_of,
)
from .flow_entries import FlowFacts, flow_facts
from .folders import BUNDLED, PICKLES, cached_snapshots, kept_models, pickled_models, vae_beside
from .weight_files import TensorFact, has_pickles, tensors_in, weight_files

# The networks that an edit needs; a safety checker comes on top where there is one.
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
_UNET, _VAE, _TEXT = "model.diffusion_model.", "first_stage_model.", ("cond_stage_model.", "conditioner.")
_REFINER = "conditioner.embedders.0.model."  # the second text encoder of XL in the first one's place
_REFINER_WIDTH = 1280
_LATENTS = 4  # channels of the latents of Stable Diffusion 1, 2 and XL
_TEXT_ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection")


@dataclass(frozen=True)
class ModelEntry:
    """One model. `parameters`: of the networks that an edit needs, `largest_network`: of the largest of them. `size`:
    px that it was trained at, 0 where unknown. `few_steps`: what a distilled model was made for, 0 for a base model.
    `prediction_type`: where the weights themselves say it (NoobAI's "v_pred"), else "". `zero_terminal_snr`: likewise.
    `quantised`: parameters that stay quantised in memory (fp8, GGUF), where they take `quantised_bytes`.

    `fault`: why it cannot be loaded, "" when nothing speaks against it.
    """

    name: str
    family: str
    place: Path
    parameters: int = 0
    largest_network: int = 0
    size: int = 0
    few_steps: int = 0
    prediction_type: str = ""
    zero_terminal_snr: bool = False
    quantised: int = 0
    quantised_bytes: int = 0
    fault: str = ""

    def bytes_in_memory(self, bytes_per_parameter: int) -> int:
        """Memory of the weights: 2 bytes per parameter on a GPU (fp16, bf16), 4 on a CPU (fp32)."""
        return (self.parameters - self.quantised) * bytes_per_parameter + self.quantised_bytes


def models() -> list[ModelEntry]:
    """The bundled model, those of the models folder, those in the hub's cache."""
    places = {BUNDLED: weights_folder(), **kept_models(), **pickled_models()}
    places |= cached_snapshots("model_index.json")
    return [entry_of(name, place) for name, place in places.items()]


def entry_of(name: str, place: Path) -> ModelEntry:
    """What is known of the model at `place` (a folder or a file); where it cannot be loaded, with the fault."""
    try:
        return inspect(name, place)
    except ModelError as error:
        return ModelEntry(name, OTHER, place, fault=error.sentence)


def inspect(name: str, place: Path, vae: str | None = None) -> ModelEntry:
    """What is known of the model at `place`, from its settings and the headers of its files.

    vae: an autoencoder that will be used in place of its own. Raises ModelError, which says why it cannot be loaded.
    """
    facts = facts_of(place)
    if (flow := flow_facts(name, place)) is not None:
        return _flow_entry(name, place, flow, facts)
    vae = vae or facts.vae or vae_beside(place)
    entry = _inspect_file(name, place, vae) if place.is_file() else _inspect_folder(name, place, vae)
    return entry if facts.few_steps is None else replace(entry, few_steps=facts.few_steps)


def _flow_entry(name: str, place: Path, flow: FlowFacts, facts: ModelFacts) -> ModelEntry:
    return ModelEntry(
        name,
        flow.kind.name,
        place,
        flow.parameters,
        flow.largest,
        facts.size or flow.size,
        flow.few_steps if facts.few_steps is None else facts.few_steps,
        quantised=flow.quantised,
        quantised_bytes=flow.quantised_bytes,
    )


def _inspect_folder(name: str, folder: Path, vae: str | None) -> ModelEntry:
    index_file = folder / "model_index.json"
    if not index_file.is_file():
        raise ModelError(f"The folder {name!r} has no model_index.json: {_what_folder(folder)}")
    index = read_json(index_file)
    _check_kinds(name, index)
    unet, vae_settings = (_settings(name, folder, part) for part in ("unet", "vae"))
    _check_unet(name, index, unet, vae_settings)
    schedule = _check_words_and_schedule(name, folder, index)
    networks = []
    for part in PARTS:
        if part in ("unet", "vae") or kind_in(index, part) is not None:
            if part == "vae" and vae is not None:
                continue
            networks.append(sum(fact.elements for fact in _weights(name, folder, part)))
    text_time = unet.get("addition_embed_type") == "text_time"
    width = unet.get("cross_attention_dim")
    family = XL if text_time else family_of_width(width) if isinstance(width, int) else ""
    size = _cells(unet) * 2 ** (len(vae_settings["block_out_channels"]) - 1)
    few = few_steps_by_settings(str(kind_in(index, "scheduler")), schedule, unet) or few_steps_by_name(folder.name)
    return ModelEntry(name, family or OTHER, folder, sum(networks), max(networks), size, few)


def kind_in(index: dict[str, Any], part: str) -> str | None:
    """The class of a part of a model, by its model_index.json; None where it has no such part."""
    entry = index.get(part)
    return entry[1] if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str) else None


def _what_folder(folder: Path) -> str:
    """What a folder without model_index.json is; the rest of a sentence."""
    if (folder / "config.json").is_file():
        settings = read_json(folder / "config.json")
        kind = settings.get("_class_name") or settings.get("model_type") or "network"
        return f"it holds a {kind} alone, no whole model in diffusers' layout."
    checkpoints = sorted(folder.glob("*.safetensors"))
    if checkpoints:
        return f"it is no model in diffusers' layout. Name the file, for example {str(checkpoints[0])!r}."
    return "it is not a model in diffusers' layout."


def _check_kinds(name: str, index: dict[str, Any]) -> None:
    """Refuse what is no Stable Diffusion 1, 2 or XL, by its name."""
    pipeline = index.get("_class_name", "model of an unknown kind")
    choose = f"Choose a base model of {LOADABLE}."
    if kind_in(index, "unet") is None and kind_in(index, "transformer") is not None:
        raise ModelError(f"{name!r} is a {pipeline} with a transformer, which is not supported. {choose}")
    if kind_in(index, "unet") != "UNet2DConditionModel" or kind_in(index, "vae") != "AutoencoderKL":
        raise ModelError(f"{name!r} is a {pipeline}, which is not supported. {choose}")
    if kind_in(index, "text_encoder") is None and kind_in(index, "text_encoder_2") is not None:
        raise ModelError(f"{name!r} is a refiner of XL, which only finishes the pictures of another model. {choose}")
    if kind_in(index, "controlnet") is not None:
        raise ModelError(f"{name!r} is a {pipeline} with a ControlNet, which needs a guiding picture. {choose}")
    if kind_in(index, "text_encoder") is None:
        raise ModelError(f"{name!r} has no text encoder, so it cannot read words. {choose}")
    for part in ("text_encoder", "text_encoder_2"):
        if kind_in(index, part) not in (None, *_TEXT_ENCODERS):
            raise ModelError(f"{name!r} reads words with a {kind_in(index, part)}, which is not supported. {choose}")
    if kind_in(index, "scheduler") is None:
        raise ModelError(f"The model_index.json of {name!r} names no scheduler. Download the model again.")


def _check_unet(name: str, index: dict[str, Any], unet: dict[str, Any], vae: dict[str, Any]) -> None:
    for part, settings in (("unet", unet), ("vae", vae)):
        if not isinstance(settings.get("block_out_channels"), list):
            raise ModelError(f"The settings of the {part} of {name!r} lack block_out_channels. Download it again.")
    channels, latents = unet.get("in_channels", _LATENTS), vae.get("latent_channels", _LATENTS)
    if channels != latents:
        _refuse_channels(name, channels)


def _refuse_channels(name: str, channels: int) -> None:
    kind = SPECIAL_UNETS.get(channels, "a special model")
    raise ModelError(
        f"{name!r} is {kind}: its UNet takes {channels} channels, and {SPECIAL_UNET_REASON}. "
        "Choose the base model that it was made from."
    )


def _check_words_and_schedule(name: str, folder: Path, index: dict[str, Any]) -> dict[str, Any]:
    """The settings of the scheduler, after a look at the tokenizers and the text encoders' settings."""
    for encoder, tokenizer in (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")):
        if kind_in(index, encoder) is None:
            continue
        files = {file.name for file in (folder / tokenizer).glob("*")}
        if not ("tokenizer.json" in files or {"vocab.json", "merges.txt"} <= files):
            raise ModelError(
                f"{name!r} lacks its {tokenizer}: neither tokenizer.json nor vocab.json with merges.txt are in "
                f"{folder / tokenizer}. Download it again."
            )
        _settings(name, folder, encoder)
    if not (folder / "scheduler" / "scheduler_config.json").is_file():
        raise ModelError(f"{name!r} lacks scheduler/scheduler_config.json. Download it again.")
    return read_json(folder / "scheduler" / "scheduler_config.json", mark=False)


def _settings(name: str, folder: Path, part: str) -> dict[str, Any]:
    if not (folder / part / "config.json").is_file():
        raise ModelError(f"{name!r} is incomplete: {part}/config.json is missing. Download it again.")
    return read_json(folder / part / "config.json", mark=False)  # the libraries, which read it too, know no mark


def _cells(unet: dict[str, Any]) -> int:
    sample = unet.get("sample_size") or 0
    return sample if isinstance(sample, int) else max(sample)


def _weights(name: str, folder: Path, part: str) -> list[TensorFact]:
    """The tensors of a part. Raises ModelError where they are missing, incomplete, pickled or damaged."""
    names = [file.name for file in (folder / part).glob("*")]
    chosen = weight_files(names)
    if chosen is None:
        fault = "pickled weights only, which can run any program" if has_pickles(names) else "no weights"
        raise ModelError(f"The {part} of {name!r} has {fault}. Take the version with .safetensors files.")
    if not chosen.complete:
        raise ModelError(f"The {part} of {name!r} is incomplete: pieces of its weights are missing. Download it again.")
    try:
        return [fact for file in chosen.names for fact in tensors_in(folder / part / file).values()]
    except ModelError as error:
        raise ModelError(f"The {part} of {name!r}: {error.sentence}", detail=error.detail) from error


def _inspect_file(name: str, file: Path, vae: str | None) -> ModelEntry:
    if file.suffix.lower() in PICKLES:
        raise ModelError(
            f"{name!r} is a pickle, which can run any program when it is opened, so it is not loaded. "
            "Take the .safetensors version of the model."
        )
    tensors = tensors_in(file)
    choose = f"Choose a checkpoint of {LOADABLE}."
    if transformer := transformer_of(tensors):
        raise ModelError(f"{name!r} is a model of the kind {transformer}, which is not supported. {choose}")
    if not any(key.startswith(_UNET) for key in tensors):
        part = part_of(tensors) or "other network"
        article = "an" if part[0].lower() in "aeiou" and not part.startswith("U") else "a"
        way = " Put it into the adapters folder." if part.startswith(("LoRA", "LyCORIS", "textual")) else ""
        raise ModelError(f"{name!r} holds no whole model but {article} {part}.{way} {choose}")
    if any(key.startswith("control_model.") for key in tensors):
        raise ModelError(f"{name!r} is a ControlNet, which needs a guiding picture. {choose}")
    channels, width = original_unet(tensors)
    if any(key.startswith(_REFINER) for key in tensors) or width == _REFINER_WIDTH:
        raise ModelError(f"{name!r} is a refiner of XL, which only finishes the pictures of another model. {choose}")
    if channels not in (0, _LATENTS):
        _refuse_channels(name, channels)
    lacks = [
        what
        for what, there in (
            ("autoencoder (VAE)", vae is not None or any(key.startswith(_VAE) for key in tensors)),
            ("text encoder", any(key.startswith(_TEXT) for key in tensors)),
        )
        if not there
    ]
    if lacks:
        way = " Or name an autoencoder by --vae." if lacks == ["autoencoder (VAE)"] else ""
        raise ModelError(f"{name!r} lacks its {' and its '.join(lacks)}: it is no whole model. {choose}{way}")
    if any(key.startswith("conditioner.embedders.1.") for key in tensors):
        family = XL
    else:
        family = SD2 if any(key.startswith("cond_stage_model.model.") for key in tensors) else SD1
    networks = [
        sum(fact.elements for key, fact in tensors.items() if key.startswith(prefix))
        for prefix in (_UNET, _VAE, *_TEXT)
    ]
    return ModelEntry(
        name,
        family,
        file,
        sum(networks),
        max(networks),
        few_steps=few_steps_by_name(file.stem),
        prediction_type="v_prediction" if "v_pred" in tensors else "",
        zero_terminal_snr="ztsnr" in tensors,
    )
