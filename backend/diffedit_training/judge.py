"""The judge of edits: three small networks that say what a picture of the bundled scenes' kind shows.

It was trained on the same generator (`training/judge.py`; its held-out accuracy is in `judge/judge.json`), and knows
nothing of diffusion. `Judge.success` says whether an edit has become what it should.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from .scenes.art import CLASSES, COLOURS, HUES
from .scenes.backgrounds import BACKGROUNDS
from .scenes.scene import Thing
from .scenes.scenes import Pair

CROP = 40  # px: every crop and picture is brought to this size
NOTHING = "nothing"  # the answer for a crop of mere ground

ANSWERS: dict[str, tuple[str, ...]] = {
    "thing": (*CLASSES, NOTHING),
    "colour": tuple(HUES),
    "ground": BACKGROUNDS,
}


def judge_folder() -> Path:
    return Path(__file__).parent / "judge_weights"


def new_network(answers: int) -> nn.Sequential:
    """Crops (n, 3, CROP, CROP) float32 in -1..1 -> logits (n, answers)."""
    layers: list[nn.Module] = []
    channels = 3
    for width, stride in ((24, 2), (48, 2), (96, 2), (96, 1)):
        layers += [nn.Conv2d(channels, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(channels * (CROP // 8) ** 2, 64), nn.ReLU(), nn.Linear(64, answers)
    )


def crop(picture: NDArray[np.uint8], box: tuple[int, int, int, int] | None = None) -> NDArray[np.uint8]:
    """A box (left, top, right, bottom) of a picture, or all of it, as (CROP, CROP, 3) uint8; borders are repeated."""
    height, width = picture.shape[:2]
    left, top, right, bottom = box or (0, 0, width, height)
    rows, columns = np.arange(top, bottom).clip(0, height - 1), np.arange(left, right).clip(0, width - 1)
    part = np.ascontiguousarray(picture[rows][:, columns])
    return np.asarray(Image.fromarray(part).resize((CROP, CROP), Image.Resampling.BOX))


def to_input(crops: list[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass
class Judge:
    """Answers about pictures (h, w, 3) uint8 sRGB of any size; `networks` by the names in ANSWERS."""

    networks: dict[str, nn.Sequential]

    @classmethod
    def load(cls, folder: Path | None = None) -> Judge:
        """The judge that ships with the package, or one that `train-bundled --stage judge` has left in a folder."""
        weights = load_file(str((folder or judge_folder()) / "judge.safetensors"))
        networks = {}
        for name, answers in ANSWERS.items():
            network = new_network(len(answers))
            prefix = name + "."
            network.load_state_dict(
                {k.removeprefix(prefix): v.float() for k, v in weights.items() if k.startswith(prefix)}
            )
            networks[name] = network.eval()
        return cls(networks)

    @staticmethod
    def figures(folder: Path | None = None) -> dict[str, float]:
        """How often each network was right on held-out scenes."""
        accuracy: dict[str, float] = json.loads(((folder or judge_folder()) / "judge.json").read_text())[
            "held_out_accuracy"
        ]
        return accuracy

    def thing(self, picture: NDArray[np.uint8], at: Thing) -> str:
        """The class shown where `at` is, or NOTHING."""
        return self._answer("thing", crop(picture, at.box(picture.shape[1])))

    def colour(self, picture: NDArray[np.uint8], at: Thing) -> str:
        """The colour of the thing shown where `at` is; meaningful for the classes in COLOURS only."""
        return self._answer("colour", crop(picture, at.box(picture.shape[1])))

    def ground(self, picture: NDArray[np.uint8]) -> str:
        """The ground of a picture."""
        return self._answer("ground", crop(picture))

    def success(self, pair: Pair, edited: NDArray[np.uint8]) -> bool:
        """Whether `edited` shows what the pair's target shows where the edit was asked for."""
        if pair.subject is None:
            return self.ground(edited) == pair.target_scene.ground
        found = self.thing(edited, pair.subject)
        if pair.kind == "delete":
            return found == NOTHING
        if pair.kind == "colour":
            return found == pair.subject.name and self.colour(edited, pair.subject) == pair.subject.colour
        return found == pair.subject.name

    @torch.no_grad()
    def _answer(self, network: str, pixels: NDArray[np.uint8]) -> str:
        return ANSWERS[network][int(self.networks[network](to_input([pixels])).argmax())]


def shown_colour(thing: Thing) -> str | None:
    """The colour a thing is drawn in; None for classes that come in one colour."""
    return thing.colour or (COLOURS[thing.name][0] if thing.name in COLOURS else None)
