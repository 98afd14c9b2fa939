"""Demo pictures: scenes of the bundled model's kind, drawn at 512 px, and the words that edit them.

`samples/samples.json` lists them for whoever wants to show something; this module drew them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from diffedit_training.scenes.captions import caption
from diffedit_training.scenes.scenes import Scene, Scenes, Thing
from PIL import Image

SAMPLE_SIZE = 512  # px


@dataclass(frozen=True)
class Sample:
    """A picture in `samples_folder()`, what it shows, and what it could show."""

    file: str
    source: str
    target: str


_DRAWN: dict[str, tuple[Scene, str]] = {
    "horse.png": (
        Scene("grass", 3, False, 1.0, (Thing("horse", 0.5, 0.52, 0.54),)),
        "a zebra on grass",
    ),
    "apple-and-car.png": (
        Scene("sand", 5, False, 1.0, (Thing("apple", 0.27, 0.33, 0.44), Thing("car", 0.71, 0.69, 0.48))),
        "a pear and a car on sand",
    ),
    "red-car.png": (
        Scene("gray", 8, False, 1.0, (Thing("car", 0.5, 0.54, 0.68, "red"),)),
        "a blue car on a gray background",
    ),
    "cat.png": (
        Scene("blue", 2, False, 1.0, (Thing("cat", 0.5, 0.5, 0.62),)),
        "a dog on a blue background",
    ),
}


def samples_folder() -> Path:
    return Path(__file__).parent / "samples"


def samples() -> tuple[Sample, ...]:
    """The demo pictures, in the order in which to show them."""
    return tuple(Sample(**entry) for entry in json.loads((samples_folder() / "samples.json").read_text()))


def write_samples(folder: Path) -> None:
    """Draw every sample into `folder` and list them in `samples.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = Scenes(size=SAMPLE_SIZE)
    entries = []
    for file, (scene, target) in _DRAWN.items():
        Image.fromarray(scenes.render(scene).pixels).save(folder / file, optimize=True)
        entries.append({"file": file, "source": caption(scene.things, scene.ground, 0), "target": target})
    (folder / "samples.json").write_text(json.dumps(entries, indent=2) + "\n")
