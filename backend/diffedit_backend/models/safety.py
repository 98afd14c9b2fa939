"""The safety checker that some models of Stable Diffusion 1 come with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffedit_protocol.errors import ModelError
from numpy.typing import NDArray
from PIL import Image

from ..method.memory import bytes_of
from .catalogue.weight_files import weight_files
from .pretrained import pretrained


class SafetyChecker:
    """A vision network with the concepts that it looks for, and what prepares pictures for it."""

    def __init__(self, network: Any, processor: Any) -> None:
        self._network = network.eval().requires_grad_(False)
        self._processor = processor

    def to(self, device: torch.device) -> SafetyChecker:
        self._network.to(device)
        return self

    @property
    def nbytes(self) -> int:
        """Memory of the weights."""
        return bytes_of(self._network)

    @torch.inference_mode()
    def flags(self, pixels: NDArray[np.uint8]) -> bool:
        """Whether the picture (H, W, 3) uint8 shows one of the concepts."""
        prepared = self._processor(Image.fromarray(pixels), return_tensors="pt").pixel_values
        # The network blackens the pictures that it is handed: it gets a stand-in.
        stand_in = [np.zeros((1, 1, 3), np.float32)]
        _, flagged = self._network(clip_input=prepared.to(self._network.device, self._network.dtype), images=stand_in)
        return bool(flagged[0])


def load_safety_checker(name: str, folder: Path, dtype: torch.dtype) -> SafetyChecker | None:
    """The checker in a model's folder; None where the folder was made without one."""
    if not (folder / "safety_checker").is_dir():
        return None
    chosen = weight_files(file.name for file in (folder / "safety_checker").glob("*"))
    if chosen is None:
        raise ModelError(
            f"The safety checker of {name!r} has pickled weights only, which can run any program. Take the version "
            "with .safetensors files, or start with --no-safety-checker."
        )
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPImageProcessor

    return SafetyChecker(
        pretrained(StableDiffusionSafetyChecker, folder, "safety_checker", variant=chosen.variant or None, dtype=dtype),
        CLIPImageProcessor.from_pretrained(str(folder), subfolder="feature_extractor", local_files_only=True),
    )
