"""The judge of edits: three small networks that say what a picture of the bundled scenes' kind shows.

It was trained on the same generator (`judge_training`; its held-out accuracy is in `judge.json` beside the weights)
and knows nothing of diffusion. `Judge.success` says whether an edit has become what it should.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffedit_protocol.errors import BadInputError
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from .scenes.edition import FIRST, Edition
from .scenes.scene import Thing
from .scenes.scenes import Pair

NOTHING = "nothing"  # the answer for a crop of mere ground


@dataclass(frozen=True)
class Build:
    """How the networks of an edition's judge are built. crop: px, every crop and picture is brought to this size;
    layers: (channels, stride) of the convolutions; hidden: width of the layer before the last."""

    crop: int
    layers: tuple[tuple[int, int], ...]
    hidden: int


BUILDS = {
    1: Build(40, ((24, 2), (48, 2), (96, 2), (96, 1)), 64),
    2: Build(64, ((32, 2), (64, 2), (128, 2), (160, 2), (160, 1)), 128),
}


def answers_of(edition: Edition) -> dict[str, tuple[str, ...]]:
    """What each of the networks can answer, by the networks' names."""
    return {"thing": (*edition.things, NOTHING), "colour": tuple(edition.hues), "ground": edition.grounds}


def judge_folder(edition: Edition = FIRST) -> Path:
    """Where the judge of an edition lies in the package, if it has been trained."""
    return Path(__file__).parent / ("judge_weights" if edition.number == 1 else f"judge_weights_{edition.number}")


def new_network(answers: int, build: Build) -> nn.Sequential:
    """Crops (n, 3, crop, crop) float32 in -1..1 -> logits (n, answers)."""
    layers: list[nn.Module] = []
    channels, side = 3, build.crop
    for width, stride in build.layers:
        layers += [nn.Conv2d(channels, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU()]
        channels, side = width, side // stride
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(channels * side**2, build.hidden), nn.ReLU(), nn.Linear(build.hidden, answers)
    )


def crop(picture: NDArray[np.uint8], side: int, box: tuple[int, int, int, int] | None = None) -> NDArray[np.uint8]:
    """A box (left, top, right, bottom) of a picture, or all of it, as (side, side, 3) uint8; borders are repeated."""
    height, width = picture.shape[:2]
    left, top, right, bottom = box or (0, 0, width, height)
    rows, columns = np.arange(top, bottom).clip(0, height - 1), np.arange(left, right).clip(0, width - 1)
    part = np.ascontiguousarray(picture[rows][:, columns])
    return np.asarray(Image.fromarray(part).resize((side, side), Image.Resampling.BOX))


def to_input(crops: list[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass
class Judge:
    """Answers about pictures (h, w, 3) uint8 sRGB of any size; `networks` by the names in `answers_of`."""

    networks: dict[str, nn.Sequential]
    edition: Edition = FIRST

    @classmethod
    def load(cls, folder: Path | None = None, edition: Edition = FIRST) -> Judge:
        """The judge that ships with the package, or one that `train-bundled --stage judge` has left in a folder.

        Raises BadInputError where there is none.
        """
        path = (folder or judge_folder(edition)) / "judge.safetensors"
        if not path.is_file():
            raise BadInputError(
                f"There is no judge of the scenes' edition {edition.number} in {path.parent}. Train it: "
                f"diffedit train-bundled --stage judge --scenes {edition.number} --out FOLDER"
            )
        weights = load_file(str(path))
        networks = {}
        for name, answers in answers_of(edition).items():
            network = new_network(len(answers), BUILDS[edition.number])
            prefix = name + "."
            network.load_state_dict(
                {k.removeprefix(prefix): v.float() for k, v in weights.items() if k.startswith(prefix)}
            )
            networks[name] = network.eval()
        return cls(networks, edition)

    @staticmethod
    def figures(folder: Path | None = None, edition: Edition = FIRST) -> dict[str, float]:
        """How often each network was right on held-out scenes."""
        figures = json.loads(((folder or judge_folder(edition)) / "judge.json").read_text())
        accuracy: dict[str, float] = figures["held_out_accuracy"]
        return accuracy

    def thing(self, picture: NDArray[np.uint8], at: Thing) -> str:
        """The class shown where `at` is, or NOTHING."""
        return self._answer("thing", picture, at.box(picture.shape[1]))

    def colour(self, picture: NDArray[np.uint8], at: Thing) -> str:
        """The colour of the thing shown where `at` is; meaningful for those that come in colours only."""
        return self._answer("colour", picture, at.box(picture.shape[1]))

    def ground(self, picture: NDArray[np.uint8]) -> str:
        """The ground of a picture."""
        return self._answer("ground", picture, None)

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
    def _answer(self, network: str, picture: NDArray[np.uint8], box: tuple[int, int, int, int] | None) -> str:
        pixels = crop(picture, BUILDS[self.edition.number].crop, box)
        return answers_of(self.edition)[network][int(self.networks[network](to_input([pixels])).argmax())]


def shown_colour(thing: Thing, edition: Edition = FIRST) -> str | None:
    """The colour a thing is known to be drawn in; None for things that come in one colour, and for those of the second
    edition that the scene gives none.
    """
    if thing.colour is None and edition.own_colour and thing.name in edition.colours:
        return edition.colours[thing.name][0]
    return thing.colour
