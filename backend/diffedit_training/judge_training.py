"""Stage 3: the judge, trained on crops of fresh scenes, blurred and noisy as edits are; tested on held-out scenes."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffedit_protocol.errors import BadInputError
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from torch import Tensor, nn

from .judge import BUILDS, NOTHING, answers_of, crop, new_network, shown_colour, to_input
from .scenes.edition import FIRST, Edition
from .scenes.scene import Thing
from .scenes.scenes import SIZE, Scenes, Split

STAGE = 3  # the seed's second number
BATCH, PEAK_LEARNING_RATE = 64, 4e-3
_FIRST_SCENE = 500_000_000
_CHUNK = 200  # scenes that a process renders at a time

Crops = dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]


@dataclass(frozen=True)
class Plan:
    """How a judge is trained: on which scenes, how many of them, how often. size: px, of the scenes.

    workers: processes that render; 0 renders in this one.
    """

    edition: Edition = FIRST
    size: int = SIZE
    training_scenes: int = 8000
    test_scenes: int = 1500
    epochs: int = 10
    device: str = "cpu"
    workers: int = 0


def train(folder: Path, seed: int, plan: Plan) -> dict[str, float]:
    """Train the three networks (some minutes on one core); write `judge.safetensors` and `judge.json` into `folder`."""
    torch.manual_seed(seed)
    training = _all_examples(plan, "train", plan.training_scenes, (seed, STAGE), spoil=True)
    test = _all_examples(plan, "heldout", plan.test_scenes, (seed, STAGE + 1), spoil=False)
    weights: dict[str, Tensor] = {}
    accuracy: dict[str, float] = {}
    for name, answers in answers_of(plan.edition).items():
        network = _fit(new_network(len(answers), BUILDS[plan.edition.number]), *training[name], plan).cpu()
        pictures, truth = test[name]
        with torch.no_grad():
            right = [
                network(to_input(list(part))).argmax(1) for part in np.array_split(pictures, len(truth) // 256 + 1)
            ]
        accuracy[name] = round((torch.cat(right).numpy() == truth).mean().item(), 4)
        weights |= {f"{name}.{key}": _small(value) for key, value in network.state_dict().items()}
        print(
            f"judge {name}: {accuracy[name]:.2%} of {len(truth)} held-out crops, {len(training[name][1])} for training",
            flush=True,
        )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, str(folder / "judge.safetensors"))
    figures = {
        "held_out_accuracy": accuracy,
        "scenes": plan.edition.number,
        "training_scenes": plan.training_scenes,
        "test_scenes": plan.test_scenes,
        "seed": seed,
    }
    (folder / "judge.json").write_text(json.dumps(figures, indent=2) + "\n")
    return accuracy


def _small(value: Tensor) -> Tensor:
    return value.half().contiguous() if value.is_floating_point() else value.contiguous()


def _all_examples(plan: Plan, split: Split, count: int, seed: tuple[int, ...], spoil: bool) -> Crops:
    """The crops of `count` scenes, made by this process or by several, each chunk from a seed of its own."""
    if plan.workers == 0:
        return examples(plan, split, range(count), np.random.default_rng(seed), spoil)
    parts = [range(first, min(first + _CHUNK, count)) for first in range(0, count, _CHUNK)]
    spawn = multiprocessing.get_context("spawn")  # a fork of a process that uses a GPU is not allowed to
    with ProcessPoolExecutor(plan.workers, spawn) as pool:
        waiting = [
            pool.submit(examples, plan, split, part, np.random.default_rng((*seed, part.start)), spoil)
            for part in parts
        ]
        made = [job.result() for job in waiting]
    return {
        name: (np.concatenate([part[name][0] for part in made]), np.concatenate([part[name][1] for part in made]))
        for name in made[0]
    }


def examples(plan: Plan, split: Split, numbers: range, rng: np.random.Generator, spoil: bool) -> Crops:
    """Crops (n, side, side, 3) uint8 and answers (n,) int64 of scenes, for every network.

    spoil: shake the boxes, blur the crops and add noise, as edits are shifted, soft and grainy.
    """
    scenes, side = Scenes(plan.size, split, plan.edition), BUILDS[plan.edition.number].crop
    answers = answers_of(plan.edition)
    crops: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in answers}
    truths: dict[str, list[int]] = {name: [] for name in answers}

    def add(name: str, answer: str, pixels: NDArray[np.uint8]) -> None:
        crops[name].append(_spoilt(pixels, rng) if spoil else pixels)
        truths[name].append(answers[name].index(answer))

    for number in numbers:
        scene = scenes.scene(_FIRST_SCENE + number)
        pixels = scenes.render(scene).pixels
        add("ground", scene.ground, crop(pixels, side))
        for thing in scene.things:
            part = crop(pixels, side, _shaken(thing, plan.size, rng) if spoil else thing.box(plan.size))
            add("thing", thing.name, part)
            if (colour := shown_colour(thing, plan.edition)) is not None:
                add("colour", colour, part)
        if number % 4 == 0 and (empty := _free_spot(scene.things, rng)) is not None:
            add("thing", NOTHING, crop(pixels, side, empty.box(plan.size)))
    return {
        name: (np.stack(crops[name]) if crops[name] else np.zeros((0, side, side, 3), np.uint8), np.array(truths[name]))
        for name in answers
    }


def _shaken(thing: Thing, size: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    left, top, right, bottom = thing.box(size, margin=float(rng.uniform(0.9, 1.35)))
    dx, dy = (round(v) for v in rng.uniform(-0.12, 0.12, 2) * (right - left))
    return left + dx, top + dy, right + dx, bottom + dy


def _free_spot(things: tuple[Thing, ...], rng: np.random.Generator) -> Thing | None:
    for _ in range(20):
        scale = float(rng.uniform(0.3, 0.6))
        x, y = (float(v) for v in rng.uniform(scale / 2, 1 - scale / 2, 2))
        if all(max(abs(x - t.x), abs(y - t.y)) > 0.45 * (scale + t.scale) for t in things):
            return Thing("apple", x, y, scale)
    return None


def _spoilt(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    image = Image.fromarray(pixels)
    if rng.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1.6))))
    noise = rng.normal(0, rng.uniform(0, 14), pixels.shape)
    return (np.asarray(image) + noise).clip(0, 255).astype(np.uint8)


def _fit(network: nn.Sequential, pictures: NDArray[np.uint8], truth: NDArray[np.int64], plan: Plan) -> nn.Sequential:
    if not len(truth):
        raise BadInputError(
            f"{plan.training_scenes} scenes hold no crop for one of the judge's networks: train on more."
        )
    device = torch.device(plan.device)
    network = network.to(device)
    crops, answers = torch.from_numpy(pictures).to(device), torch.from_numpy(truth).to(device)
    batch = min(BATCH, len(truth))
    optimiser = torch.optim.AdamW(network.parameters(), PEAK_LEARNING_RATE, weight_decay=0.02)
    steps = plan.epochs * (len(truth) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_LEARNING_RATE, total_steps=steps)
    network.train()
    for _ in range(plan.epochs):
        for chosen in torch.randperm(len(truth))[: len(truth) // batch * batch].split(batch):
            part = crops[chosen.to(device)].permute(0, 3, 1, 2).float() / 127.5 - 1
            loss = F.cross_entropy(network(part), answers[chosen.to(device)], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()
