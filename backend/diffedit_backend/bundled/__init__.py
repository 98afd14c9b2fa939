"""The small trained model that ships with the package; and sample pictures of its kind, 512 px, with the words that
edit them, which `samples/samples.json` lists. `diffedit_training.samples` drew them.

Importing this package needs no torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


def weights_folder() -> Path:
    """The folder of the bundled model, in the layout of diffusers' `StableDiffusionPipeline` (fp16 safetensors)."""
    return Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Sample:
    """A picture in `samples_folder()`, what it shows, and what it could show."""

    file: str
    source: str
    target: str


def samples_folder() -> Path:
    return Path(__file__).parent / "samples"


def samples() -> tuple[Sample, ...]:
    """The demo pictures, in the order in which to show them."""
    return tuple(Sample(**entry) for entry in json.loads((samples_folder() / "samples.json").read_text()))
