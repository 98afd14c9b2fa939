"""Says what a picture shows, by BLIP (arXiv 2201.12086): the first words of an edit. Optional, loaded on demand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffedit_protocol.errors import ModelError
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError

from .device import choose_device
from .load import quiet_libraries
from .offload import bytes_of
from .sources import network_folder

DEFAULT_CAPTIONER = "Salesforce/blip-image-captioning-base"
_FROM_HUB = ["*.json", "*.safetensors", "*.txt"]
_LONGEST = 40  # tokens of a caption


class Captioner:
    """A captioning network on its device, and what prepares pictures and reads answers for it."""

    def __init__(self, network: Any, processor: Any, device: torch.device) -> None:
        self._network = network.to(device).eval().requires_grad_(False)
        self._processor = processor
        self._device = device

    @property
    def nbytes(self) -> int:
        """Memory of the weights."""
        return bytes_of(self._network)

    @torch.inference_mode()
    def describe(self, pixels: NDArray[np.uint8], count: int = 1, seed: int = 0) -> list[str]:
        """Captions of a picture (H, W, 3) uint8: the likeliest one, or `count` drawn at random from `seed`."""
        prepared = self._processor(images=Image.fromarray(pixels), return_tensors="pt").to(self._device)
        drawing = {"do_sample": True, "num_return_sequences": count, "top_p": 0.9} if count > 1 else {}
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(seed)
            ids = self._network.generate(pixel_values=prepared.pixel_values, max_new_tokens=_LONGEST, **drawing)
        return [text.strip() for text in self._processor.batch_decode(ids, skip_special_tokens=True)]


def load_captioner(name: str = DEFAULT_CAPTIONER, device: str | None = None) -> Captioner:
    """BLIP from a folder in transformers' layout or a hub id. Raises ModelError when its weights are not to be had."""
    quiet_libraries()
    folder, settings = network_folder(name, "captioning model", _FROM_HUB)
    if (kind := settings.get("model_type")) != "blip":
        raise ModelError(
            f"{name!r} is no BLIP captioning model (its kind is {kind!r}), for example {DEFAULT_CAPTIONER}."
        )
    from transformers import BlipForConditionalGeneration, BlipProcessor

    try:
        return Captioner(
            BlipForConditionalGeneration.from_pretrained(str(folder), use_safetensors=True, local_files_only=True),
            BlipProcessor.from_pretrained(str(folder), local_files_only=True),
            choose_device(device),
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"The captioning model {name!r} is incomplete or damaged. Download it again.", detail=f"{error!r:.500}"
        ) from error
