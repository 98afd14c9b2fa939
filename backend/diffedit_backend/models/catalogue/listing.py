"""What can be loaded on this machine: of which kind, and how much memory its weights take."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffedit_protocol.errors import ModelError

from ...bundled import weights_folder
from .families import OTHER, SD1, SD2, XL, family_of_width
from .folders import BUNDLED, PICKLES, SAFE, kept_models, pickled_models
from .headers import TensorFact, tensors_in

# The networks that an edit needs; a safety checker comes on top where there is one.
_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
_IN_ORIGINAL = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.")


@dataclass(frozen=True)
class ModelEntry:
    """One model. `parameters`: of the networks that an edit needs, `largest_network`: of the largest of them. `size`:
    px that it was trained at, 0 where unknown.

    `fault`: why it cannot be loaded, "" when nothing speaks against it.
    """

    name: str
    family: str
    place: Path
    parameters: int = 0
    largest_network: int = 0
    size: int = 0
    fault: str = ""

    def bytes_in_memory(self, bytes_per_parameter: int) -> int:
        """Memory of the weights: 2 bytes per parameter on a GPU (fp16, bf16), 4 on a CPU (fp32)."""
        return self.parameters * bytes_per_parameter


def models() -> list[ModelEntry]:
    """The bundled model, those of the models folder, those in the hub's cache."""
    places = {BUNDLED: weights_folder(), **kept_models(), **pickled_models()}
    places |= dict(hub_snapshots("model_index.json"))
    return [entry_of(name, place) for name, place in places.items()]


def entry_of(name: str, place: Path) -> ModelEntry:
    """What is known of the model at `place` (a folder or a file) without loading it."""
    try:
        return _file_entry(name, place) if place.is_file() else _folder_entry(name, place)
    except ModelError as error:
        return ModelEntry(name, OTHER, place, fault=error.sentence)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return ModelEntry(name, OTHER, place, fault=f"Its settings cannot be read: {error!r:.200}")


def _folder_entry(name: str, folder: Path) -> ModelEntry:
    index = _json(folder / "model_index.json")
    if index.get("unet", [None, None])[1] != "UNet2DConditionModel":
        raise ModelError(f"A {index.get('_class_name', 'model of another kind')}, which is no Stable Diffusion.")
    unet = _json(folder / "unet" / "config.json")
    sample = unet.get("sample_size") or 0
    cells = sample if isinstance(sample, int) else max(sample)
    vae_levels = len(_json(folder / "vae" / "config.json")["block_out_channels"])
    text_time = unet.get("addition_embed_type") == "text_time"
    fault = "" if any((folder / "unet").glob(f"*{SAFE}")) else "It has no .safetensors weights."
    networks = [sum(fact.elements for file in _one_variant(folder / part) for fact in _facts(file)) for part in _PARTS]
    family = XL if text_time else family_of_width(unet["cross_attention_dim"]) or OTHER
    return ModelEntry(name, family, folder, sum(networks), max(networks), cells * 2 ** (vae_levels - 1), fault)


def _one_variant(folder: Path) -> list[Path]:
    """The weight files of a part; where it has them in full and in half precision, the full ones."""
    files = sorted(folder.glob(f"*{SAFE}"))
    plain = [file for file in files if ".fp16." not in file.name]
    return plain or files


def _file_entry(name: str, file: Path) -> ModelEntry:
    if file.suffix.lower() in PICKLES:
        raise ModelError("A pickle, which can run any program when it is opened. Take its .safetensors version.")
    tensors = tensors_in(file)
    if not any(key.startswith("model.diffusion_model.") for key in tensors):
        return ModelEntry(name, OTHER, file, fault="No whole Stable Diffusion model (a LoRA, a VAE, another network).")
    if any(key.startswith("conditioner.embedders.1.") for key in tensors):
        family = XL
    else:
        family = SD2 if any(key.startswith("cond_stage_model.model.") for key in tensors) else SD1
    networks = [
        sum(fact.elements for key, fact in tensors.items() if key.startswith(prefix)) for prefix in _IN_ORIGINAL
    ]
    return ModelEntry(name, family, file, sum(networks), max(networks))


def hub_snapshots(mark: str) -> Iterator[tuple[str, Path]]:
    """Id and newest snapshot of every model in the hub's cache that has the file `mark`."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    for folder in sorted(cache.glob("models--*--*")):
        snapshots = sorted(folder.glob(f"snapshots/*/{mark}"), key=lambda file: file.stat().st_mtime)
        if snapshots:
            yield folder.name.removeprefix("models--").replace("--", "/", 1), snapshots[-1].parent


def _facts(file: Path) -> Iterator[TensorFact]:
    yield from tensors_in(file).values()


def _json(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8")))
