"""What the text-to-latent model is trained on: latents of fresh scenes in pairs, captions, and where which thing is.

Examples come in pairs: a scene, and the scene with one thing exchanged. Both get the same noise and timestep in
training, so what differs between the two predictions is what differs between the two captions.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTokenizer

from .distributed import DistributedGroup
from .scenes.art import CLASSES, COLOURS
from .scenes.backgrounds import BACKGROUNDS
from .scenes.scene import Scene, caption
from .scenes.scenes import Rendered, Scenes, is_held_out
from .vae import to_tensor

CELL = 8  # px: one latent
COARSE = 2  # latents: one cell of the class map
LABELS = len(CLASSES) + 1  # the last one: ground
_scenes = Scenes()  # of a rendering process
_MADE_UP_WORDS = 0.06  # share of captions that get a word without meaning
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Example:
    """latents (8, 16, 16) float32, whitened; coverage (1, 16, 16) float32 in 0..1, how much of a latent is a thing;
    labels (LABELS, 8, 8) float32, the share of each class in each coarse cell, sums to 1."""

    scene: Scene
    latents: Tensor
    coverage: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Batch:
    """2 n examples, the pair of example i at i + n. token_ids (2n, MAX_TOKENS) int64."""

    latents: Tensor
    coverage: Tensor
    labels: Tensor
    token_ids: Tensor


@dataclass
class ExampleStore:
    """Encoded pairs by scene number, made when first asked for and kept."""

    vae: AutoencoderKL
    tokenizer: CLIPTokenizer
    group: DistributedGroup
    scenes: Scenes = field(default_factory=Scenes)
    pairs: dict[tuple[int, bool], tuple[Example, Example]] = field(default_factory=dict)
    data_workers: int = 0  # processes that render; 0: this one
    _renderers: ProcessPoolExecutor | None = None

    def batch(self, numbers: NDArray[np.int64], single: bool, rng: np.random.Generator, uncaptioned: float) -> Batch:
        """The pairs of these numbers; `single`: with one thing each. A share `uncaptioned` gets the empty caption."""
        self._encode([int(n) for n in numbers if (int(n), single) not in self.pairs], single)
        pairs = [self.pairs[int(n), single] for n in numbers]
        examples = [pair[side] for side in (0, 1) for pair in pairs]
        texts = list(self._texts(examples, rng, uncaptioned))
        tokens = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=self.tokenizer.model_max_length
        )
        return Batch(
            torch.stack([e.latents for e in examples]),
            torch.stack([e.coverage for e in examples]),
            torch.stack([e.labels for e in examples]),
            torch.tensor(tokens.input_ids),
        )

    def _texts(self, examples: list[Example], rng: np.random.Generator, uncaptioned: float) -> Iterator[str]:
        for example in examples:
            if rng.random() < uncaptioned:
                yield ""
                continue
            words = caption(example.scene.things, example.scene.ground, int(rng.integers(1 << 16))).split()
            if rng.random() < _MADE_UP_WORDS:
                made_up = "".join(_LETTERS[i] for i in rng.integers(26, size=rng.integers(2, 6)))
                words.insert(int(rng.integers(len(words) + 1)), made_up)
            yield " ".join(words)

    def close(self) -> None:
        """End the processes that render."""
        if self._renderers is not None:
            self._renderers.shutdown()

    def _rendered(self, scenes: list[Scene]) -> list[Rendered]:
        if self.data_workers == 0:
            return [self.scenes.render(scene) for scene in scenes]
        if self._renderers is None:
            spawn = multiprocessing.get_context("spawn")  # a fork of a process that uses a GPU is not allowed to
            empty = Scenes(self.scenes.size, self.scenes.split)
            self._renderers = ProcessPoolExecutor(self.data_workers, spawn, _start_rendering, (empty,))
        return list(self._renderers.map(_render, scenes, chunksize=max(1, len(scenes) // (4 * self.data_workers))))

    @torch.no_grad()
    def _encode(self, numbers: list[int], single: bool) -> None:
        if not numbers:
            return
        scenes = [scene for number in dict.fromkeys(numbers) for scene in training_pair(self.scenes, number, single)]
        rendered = self._rendered(scenes)
        examples = []
        for first in range(0, len(scenes), 64):
            pictures = to_tensor(np.stack([r.pixels for r in rendered[first : first + 64]])).to(self.group.device)
            with self.group.autocast():
                latents = self.vae.encode(pictures).latent_dist.mode().float().cpu()
            for scene, picture, z in zip(scenes[first:], rendered[first:], latents, strict=False):
                examples.append(Example(scene, z.clone(), *coverage_and_labels(scene, picture.masks)))
        for number, pair in zip(dict.fromkeys(numbers), zip(examples[::2], examples[1::2], strict=True), strict=True):
            self.pairs[number, single] = pair


def _start_rendering(scenes: Scenes) -> None:
    global _scenes
    _scenes = scenes


def _render(scene: Scene) -> Rendered:
    return _scenes.render(scene)


def training_pair(scenes: Scenes, number: int, single: bool) -> tuple[Scene, Scene]:
    """The scene of a number, and the same with one thing exchanged, recoloured or gone, or on another ground."""
    scene = scenes.scene(number, 1 if single else None)
    rng = np.random.default_rng((7, number))
    while True:
        other = _exchange(scene, rng)
        if other != scene and not is_held_out(other):
            return scene, other


def _exchange(scene: Scene, rng: np.random.Generator) -> Scene:
    chance = rng.random()
    if not scene.things or chance < 0.1:
        return replace(scene, ground=BACKGROUNDS[rng.integers(len(BACKGROUNDS))])
    index = int(rng.integers(len(scene.things)))
    old, shown = scene.things[index], {thing.name for thing in scene.things}
    if chance < 0.2:
        return replace(scene, things=scene.things[:index] + scene.things[index + 1 :])
    if chance < 0.35 and old.name in COLOURS:
        name = old.name
    else:
        free = [name for name in CLASSES if name not in shown]
        name = free[rng.integers(len(free))]
    colours = COLOURS.get(name)
    colour = colours[rng.integers(len(colours))] if colours and rng.random() < 0.7 else None
    return replace(
        scene, things=(*scene.things[:index], replace(old, name=name, colour=colour), *scene.things[index + 1 :])
    )


def coverage_and_labels(scene: Scene, masks: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """The masks of a rendered scene as `Example.coverage` and `Example.labels`."""
    size = masks.shape[-1]
    fine, coarse = size // CELL, size // (CELL * COARSE)
    shares = masks.reshape(-1, coarse, CELL * COARSE, coarse, CELL * COARSE).mean((2, 4), dtype=np.float32)
    labels = torch.zeros(LABELS, coarse, coarse)
    for thing, share in zip(scene.things, shares, strict=True):
        labels[CLASSES.index(thing.name)] = torch.from_numpy(share)
    labels[-1] = (1 - labels[:-1].sum(0)).clamp(min=0)
    covered = masks.any(0).reshape(fine, CELL, fine, CELL).mean((1, 3), dtype=np.float32)
    return torch.from_numpy(covered)[None], labels / labels.sum(0)
