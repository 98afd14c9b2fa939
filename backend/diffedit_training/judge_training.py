"""Stage 3: the judge, trained on crops of fresh scenes, blurred and noisy as edits are; tested on held-out scenes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from torch import Tensor, nn

from .judge import ANSWERS, NOTHING, crop, new_network, shown_colour, to_input
from .scenes.scene import Thing
from .scenes.scenes import SIZE, Scenes, Split

STAGE = 3  # the seed's second number
EPOCHS, BATCH, PEAK_LEARNING_RATE = 10, 64, 4e-3
_TRAINING_SCENES, _TEST_SCENES = 8000, 1500

Examples = dict[str, tuple[Tensor, Tensor]]


def train(folder: Path, seed: int) -> dict[str, float]:
    """Train the three networks (some minutes on one core); write `judge.safetensors` and `judge.json` into `folder`."""
    torch.manual_seed(seed)
    training = examples("train", _TRAINING_SCENES, np.random.default_rng((seed, STAGE)), spoil=True)
    test = examples("heldout", _TEST_SCENES, np.random.default_rng((seed, STAGE + 1)), spoil=False)
    weights: dict[str, Tensor] = {}
    accuracy: dict[str, float] = {}
    for name, answers in ANSWERS.items():
        network = _fit(new_network(len(answers)), *training[name])
        pictures, truth = test[name]
        with torch.no_grad():
            accuracy[name] = round((network(pictures).argmax(1) == truth).float().mean().item(), 4)
        weights |= {f"{name}.{key}": _small(value) for key, value in network.state_dict().items()}
        print(
            f"judge {name}: {accuracy[name]:.2%} of {len(truth)} held-out crops, {len(training[name][1])} for training",
            flush=True,
        )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, str(folder / "judge.safetensors"))
    figures = {
        "held_out_accuracy": accuracy,
        "training_scenes": _TRAINING_SCENES,
        "test_scenes": _TEST_SCENES,
        "seed": seed,
    }
    (folder / "judge.json").write_text(json.dumps(figures, indent=2) + "\n")
    return accuracy


def _small(value: Tensor) -> Tensor:
    return value.half().contiguous() if value.is_floating_point() else value.contiguous()


def examples(split: Split, count: int, rng: np.random.Generator, spoil: bool) -> Examples:
    """Crops and answers of `count` scenes for every network; `spoil`: shaken boxes, blur and noise."""
    scenes = Scenes(split=split)
    crops: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in ANSWERS}
    truths: dict[str, list[int]] = {name: [] for name in ANSWERS}

    def add(name: str, answer: str, pixels: NDArray[np.uint8]) -> None:
        crops[name].append(_spoilt(pixels, rng) if spoil else pixels)
        truths[name].append(ANSWERS[name].index(answer))

    for number in range(count):
        scene = scenes.scene(500_000_000 + number)
        pixels = scenes.render(scene).pixels
        add("ground", scene.ground, crop(pixels))
        for thing in scene.things:
            part = crop(pixels, _shaken(thing, rng) if spoil else thing.box(SIZE))
            add("thing", thing.name, part)
            if (colour := shown_colour(thing)) is not None:
                add("colour", colour, part)
        if number % 4 == 0 and (empty := _free_spot(scene.things, rng)) is not None:
            add("thing", NOTHING, crop(pixels, empty.box(SIZE)))
    return {name: (to_input(crops[name]), torch.tensor(truths[name])) for name in ANSWERS}


def _shaken(thing: Thing, rng: np.random.Generator) -> tuple[int, int, int, int]:
    left, top, right, bottom = thing.box(SIZE, margin=float(rng.uniform(0.9, 1.35)))
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


def _fit(network: nn.Sequential, pictures: Tensor, truth: Tensor) -> nn.Sequential:
    optimiser = torch.optim.AdamW(network.parameters(), PEAK_LEARNING_RATE, weight_decay=0.02)
    steps = EPOCHS * (len(truth) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_LEARNING_RATE, total_steps=steps)
    network.train()
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(truth))[: len(truth) // BATCH * BATCH].split(BATCH):
            loss = F.cross_entropy(network(pictures[chosen]), truth[chosen], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()
