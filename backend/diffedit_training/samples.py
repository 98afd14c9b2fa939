"""Draws the sample pictures that ship with the bundled model."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from .scenes.captions import caption
from .scenes.scene import Scene, Thing
from .scenes.scenes import Scenes

SAMPLE_SIZE = 512  # px

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


def write_samples(folder: Path) -> None:
    """Draw every sample into `folder` and list them in `samples.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = Scenes(size=SAMPLE_SIZE)
    entries = []
    for file, (scene, target) in _DRAWN.items():
        Image.fromarray(scenes.render(scene).pixels).save(folder / file, optimize=True)
        entries.append({"file": file, "source": caption(scene.things, scene.ground, 0), "target": target})
    (folder / "samples.json").write_text(json.dumps(entries, indent=2) + "\n")
