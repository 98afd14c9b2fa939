"""Says what a picture shows, by BLIP (arXiv 2201.12086): the first words of an edit. Optional, loaded on demand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..method.memory import bytes_of
from .catalogue.word_models import DEFAULT_CAPTIONER
from .load import quiet_libraries
from .standalone import Kind, load_standalone

_LONGEST = 40  # tokens of a caption
_BLIP = Kind(
    what="captioning model",
    example=DEFAULT_CAPTIONER,
    wanted="BLIP captioning model",
    fits=lambda settings: settings.get("model_type") == "blip",
    network="BlipForConditionalGeneration",
    reader="BlipProcessor",
)


class CaptioningModel:
    """A captioning network on its device, and what prepares pictures and reads answers for it."""

    def __init__(self, network: Any, processor: Any, device: torch.device) -> None:
        self._network = network
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


def load_captioner(name: str = DEFAULT_CAPTIONER, device: str | None = None) -> CaptioningModel:
    """BLIP from a folder in transformers' layout or a hub id. Raises ModelError when its weights are not to be had."""
    quiet_libraries()
    return CaptioningModel(*load_standalone(_BLIP, name, device)[:3])
