"""What the text-to-latent model is trained on: latents of fresh scenes in pairs, captions, and where which thing is.

Examples come in pairs: a scene, and the scene with one thing exchanged. Both get the same noise and timestep in
training, so what differs between the two predictions is what differs between the two captions.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTokenizer

from .distributed import DistributedGroup
from .pairs import coverage_and_labels, training_caption, training_pair
from .scenes.scene import Scene
from .scenes.scenes import Rendered, Scenes
from .vae import to_tensor

_scenes = Scenes()  # of a rendering process


@dataclass(frozen=True)
class Example:
    """latents (8, h, w) float32, whitened; coverage (1, h, w) float32 in 0..1, how much of a latent is a thing; labels
    (`labels_of`, h/2, w/2) float32, the share of each thing in each coarse cell, sums to 1. h = w = 16 at 128 px."""

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
            yield "" if rng.random() < uncaptioned else training_caption(example.scene, rng)

    def close(self) -> None:
        """End the processes that render."""
        if self._renderers is not None:
            self._renderers.shutdown()

    def _rendered(self, scenes: list[Scene]) -> list[Rendered]:
        if self.data_workers == 0:
            return [self.scenes.render(scene) for scene in scenes]
        if self._renderers is None:
            spawn = multiprocessing.get_context("spawn")  # a fork of a process that uses a GPU is not allowed to
            empty = Scenes(self.scenes.size, self.scenes.split, self.scenes.edition)
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
                coverage, labels = coverage_and_labels(scene, picture.masks, self.scenes.edition)
                examples.append(Example(scene, z.clone(), torch.from_numpy(coverage), torch.from_numpy(labels)))
        for number, pair in zip(dict.fromkeys(numbers), zip(examples[::2], examples[1::2], strict=True), strict=True):
            self.pairs[number, single] = pair


def _start_rendering(scenes: Scenes) -> None:
    global _scenes
    _scenes = scenes


def _render(scene: Scene) -> Rendered:
    return _scenes.render(scene)
