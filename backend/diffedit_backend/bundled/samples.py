"""Sample pictures of the bundled model's kind, 512 px, and the words that edit them; `samples/samples.json` lists them.

`diffedit_training.samples` drew them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


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
