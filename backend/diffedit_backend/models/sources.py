"""Where a model's parts come from: a folder, a single file, the hub. Pickled weights are refused: they can run code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffedit_protocol.errors import ModelError

from .catalogue.facts import read_json
from .catalogue.flow_kinds import GGUF
from .catalogue.folders import PICKLES, SAFE
from .catalogue.listing import ModelEntry, kind_in
from .catalogue.weight_files import weight_files
from .hub import fetch_model, is_hub_id
from .options import ModelOptions
from .parts import Parts, Precisions
from .pretrained import damage_reported, load_autoencoder, pretrained
from .safety import load_safety_checker
from .single_file import load_single_file

_ENCODERS = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))


def load_folder(entry: ModelEntry, precisions: Precisions, vae: str | None, *, safety: bool) -> Parts:
    """The parts in a folder that `inspect` found nothing wrong with. vae: another autoencoder in place of its own.

    safety: with its safety checker, where it has one. Raises ModelError, which says what is damaged.
    """
    name, folder = entry.name, entry.place
    index = read_json(folder / "model_index.json")
    with damage_reported("model", name):
        return _load(name, folder, index, precisions, vae, safety and kind_in(index, "safety_checker") is not None)


def _load(
    name: str, folder: Path, index: dict[str, Any], precisions: Precisions, vae: str | None, safety: bool
) -> Parts:
    import diffusers
    import transformers

    def network(cls: Any, part: str) -> Any:
        # Each part by itself: a cache may hold one in half precision and another in full.
        chosen = weight_files(file.name for file in (folder / part).glob("*"))
        variant = chosen.variant if chosen is not None and chosen.variant else None
        dtype = precisions.vae if part == "vae" else precisions.network
        named = {"dtype": dtype} if cls.__module__.startswith("transformers") else {"torch_dtype": dtype}
        return pretrained(cls, folder, part, variant=variant, **named)

    pairs = [(tokenizer, encoder) for tokenizer, encoder in _ENCODERS if kind_in(index, encoder) is not None]
    return Parts(
        unet=network(diffusers.UNet2DConditionModel, "unet"),
        vae=network(diffusers.AutoencoderKL, "vae") if vae is None else load_autoencoder(vae, folder, precisions.vae),
        tokenizers=tuple(
            transformers.CLIPTokenizer.from_pretrained(str(folder), subfolder=part, local_files_only=True)
            for part, _ in pairs
        ),
        text_encoders=tuple(network(getattr(transformers, str(kind_in(index, part))), part) for _, part in pairs),
        scheduler=getattr(diffusers, str(kind_in(index, "scheduler"))).from_pretrained(
            str(folder), subfolder="scheduler", local_files_only=True
        ),
        zero_empty_text=bool(index.get("force_zeros_for_empty_prompt", False)),
        safety=load_safety_checker(name, folder, precisions.network) if safety else None,
    )


def load_parts(entry: ModelEntry, precisions: Precisions, vae: str | None, *, safety: bool) -> Parts:
    """The parts of the model of `entry`. vae: another autoencoder, None for its own; `safety`: its checker as well.

    Raises ModelError.
    """
    if entry.place.is_file():
        return load_single_file(entry, precisions, vae)
    return load_folder(entry, precisions, vae, safety=safety)


def located(name: str, place: Path, options: ModelOptions, *, halved: bool) -> Path:
    """The folder or the file of the model `name`: `place` if it is on this machine, else what the hub has under it.

    halved: whether weights in half precision do, where the hub has a choice. Raises ModelError.
    """
    if place.is_dir():
        return place
    if place.suffix.lower() == SAFE and not place.is_file():
        raise ModelError(f"There is no file {name!r}.")
    if place.suffix.lower() in (SAFE, GGUF, *PICKLES):
        return place
    if place.is_file():
        raise ModelError(f"{name!r} is no model: a .safetensors file, a diffusers folder or a hub id was expected.")
    if is_hub_id(name):
        return fetch_model(name, halved=halved, safety=options.safety)
    raise ModelError(
        f"There is no model {name!r}: it is no folder and no file here, and a hub id looks like 'owner/model'."
    )
