"""Pairs of scenes to learn from, their captions, and where in them which thing is; needs no torch.

A pair is a scene, and the scene with one thing exchanged: what differs between the two predictions for it is what
differs between the two captions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .scenes.captions import caption
from .scenes.edition import FIRST, Edition
from .scenes.scene import Scene
from .scenes.scenes import Scenes, is_held_out

CELL = 8  # px: one latent
COARSE = 2  # latents: one cell of the class map
_MADE_UP_WORDS = 0.06  # share of captions that get a word without meaning
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def training_caption(scene: Scene, rng: np.random.Generator) -> str:
    """One of a scene's captions, now and then with a word that means nothing."""
    words = caption(scene.things, scene.ground, int(rng.integers(1 << 16))).split()
    if rng.random() < _MADE_UP_WORDS:
        made_up = "".join(_LETTERS[i] for i in rng.integers(26, size=rng.integers(2, 6)))
        words.insert(int(rng.integers(len(words) + 1)), made_up)
    return " ".join(words)


def labels_of(edition: Edition) -> int:
    """How many labels a class map has: one for each thing and the last one for the ground."""
    return len(edition.things) + 1


def training_pair(scenes: Scenes, number: int, single: bool) -> tuple[Scene, Scene]:
    """The scene of a number, and the same with one thing exchanged, recoloured or gone, or on another ground."""
    scene = scenes.scene(number, 1 if single else None)
    rng = np.random.default_rng((7, number))
    while True:
        other = _exchange(scene, rng, scenes.edition)
        if other != scene and not is_held_out(other, scenes.edition):
            return scene, other


def _exchange(scene: Scene, rng: np.random.Generator, edition: Edition) -> Scene:
    chance = rng.random()
    if not scene.things or chance < 0.1:
        return replace(scene, ground=edition.grounds[rng.integers(len(edition.grounds))])
    index = int(rng.integers(len(scene.things)))
    old, shown = scene.things[index], {thing.name for thing in scene.things}
    if chance < 0.2:
        return replace(scene, things=scene.things[:index] + scene.things[index + 1 :])
    if chance < 0.35 and old.name in edition.colours:
        name = old.name
    else:
        free = [name for name in edition.things if name not in shown]
        name = free[rng.integers(len(free))]
    colours = edition.colours.get(name)
    colour = colours[rng.integers(len(colours))] if colours and rng.random() < 0.7 else None
    new = replace(old, name=name, colour=colour)
    if edition.drawings[name] > 1 and (name != old.name or colour is None):
        new = replace(new, drawing=int(rng.integers(edition.drawings[name])))
    return replace(scene, things=(*scene.things[:index], new, *scene.things[index + 1 :]))


def coverage_and_labels(
    scene: Scene, masks: NDArray[np.bool_], edition: Edition = FIRST
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The masks of a rendered scene as `Example.coverage` and `Example.labels`."""
    size = masks.shape[-1]
    fine, coarse = size // CELL, size // (CELL * COARSE)
    shares = masks.reshape(-1, coarse, CELL * COARSE, coarse, CELL * COARSE).mean((2, 4), dtype=np.float32)
    labels = np.zeros((labels_of(edition), coarse, coarse), np.float32)
    for thing, share in zip(scene.things, shares, strict=True):
        labels[edition.things.index(thing.name)] = share
    labels[-1] = (1 - labels[:-1].sum(0)).clip(min=0)
    covered = masks.any(0).reshape(fine, CELL, fine, CELL).mean((1, 3), dtype=np.float32)
    return covered[None], labels / labels.sum(0)
