"""Scenes with known truth: one to three things on a ground, their caption, and edits rendered from the same seed.

A `Scene` is numbers only; `render` draws it at any size. `Scenes` draws scenes and pairs from seeds, for training or
held out. Held out are combinations, never single words: some pairs of classes, some classes on some grounds, and some
classes in some ninths of the picture are shown in no training scene, while every held-out edit shows at least one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .art import Sprite, SpriteCache
from .backgrounds import TEXTURES, background
from .captions import caption
from .edition import FIRST, Edition
from .scene import Scene, Thing
from .second.art import DrawingCache
from .second.grounds import ground
from .second.styles import CHANCES, STYLES, finish

Split = Literal["train", "heldout"]
Kind = Literal["swap", "background", "colour", "add", "delete"]
KINDS: tuple[Kind, ...] = ("swap", "background", "colour", "add", "delete")
SPLITS: tuple[Split, ...] = ("train", "heldout")

SIZE = 128  # px: the bundled model's own picture size

# Longer side of a thing as a share of the picture, by the number of things; multiples of 1/64.
_SCALES = {1: (28, 45), 2: (24, 32), 3: (20, 26)}
_COUNTS = (0.03, 0.42, 0.45, 0.10)  # share of scenes with 0, 1, 2, 3 things
_ANGLES = (-8, -4, 0, 4, 8)  # degrees
_PLACING_TRIES = 60
_NINTHS = 3  # rows and columns of the grid of places


@dataclass(frozen=True)
class Rendered:
    """`pixels` (size, size, 3) uint8 sRGB; `masks` (n, size, size) bool, where each thing has touched the picture."""

    pixels: NDArray[np.uint8]
    masks: NDArray[np.bool_]


@dataclass(frozen=True)
class Pair:
    """An edit with known truth. Pictures (size, size, 3) uint8 sRGB, masks (size, size) bool.

    mask: what a perfect edit has to find (the old thing; the new one when adding; all but the things for a ground).
    changed: every place where source and target may differ.
    ground: where the target shows ground that a thing covered in the source.
    thing: where the target shows the new thing; nothing but for "swap", "colour" and "add".
    subject: the thing that is edited, as the target shows it (as the source does for "delete"); None for "background".
    """

    kind: Kind
    seed: int
    source: NDArray[np.uint8]
    target: NDArray[np.uint8]
    source_caption: str
    target_caption: str
    mask: NDArray[np.bool_]
    changed: NDArray[np.bool_]
    ground: NDArray[np.bool_]
    thing: NDArray[np.bool_]
    subject: Thing | None
    source_scene: Scene
    target_scene: Scene


def is_held_out(scene: Scene, edition: Edition = FIRST) -> bool:
    """Whether the scene shows a combination that no training scene of its edition shows."""
    names = [edition.things.index(thing.name) for thing in scene.things]
    number = edition.grounds.index(scene.ground)
    if any((3 * name + number) % 10 == 0 for name in names):  # one ground in ten for every class
        return True
    if any((2 * name + _ninth(thing)) % 9 == 0 for name, thing in zip(names, scene.things, strict=True)):
        return True
    return any((a + b) % 9 == 0 for i, a in enumerate(names) for b in names[:i])  # one pair of classes in about nine


def _ninth(thing: Thing) -> int:
    return min(int(thing.y * _NINTHS), _NINTHS - 1) * _NINTHS + min(int(thing.x * _NINTHS), _NINTHS - 1)


@dataclass
class Scenes:
    """Draws scenes and pairs of an edition at one size in px; keeps sprites, so that later ones come quickly."""

    size: int = SIZE
    split: Split = "train"
    edition: Edition = FIRST
    sprites: SpriteCache = field(default_factory=SpriteCache)
    drawings: DrawingCache = field(default_factory=DrawingCache)

    def scene(self, seed: int, things: int | None = None) -> Scene:
        """The scene of a seed (with that many things, 0 to 3): the same everywhere, and of this split."""
        rng = self._rng(seed, 0)
        while True:
            scene = _random_scene(rng, things, self.edition)
            if self.split == "heldout" or not is_held_out(scene, self.edition):
                return scene

    def pair(self, seed: int, kind: Kind) -> Pair:
        """The edit `kind` of a seed. Held-out pairs show a held-out combination before the edit, after it, or both."""
        rng = self._rng(seed, 1 + KINDS.index(kind))
        while True:
            count = None if kind == "background" else int(rng.choice((1, 2), p=(0.4, 0.6)))
            source = _random_scene(rng, count, self.edition)
            edit = _edited(source, kind, rng, self.edition)
            if edit is None:
                continue
            target, index = edit
            held_out = is_held_out(source, self.edition) or is_held_out(target, self.edition)
            if held_out == (self.split == "heldout"):
                return self._pair(seed, kind, source, target, index, rng)

    def render(self, scene: Scene) -> Rendered:
        """Draw a scene at this size."""
        size = self.size
        empty = self._ground(scene)
        pixels = (empty[:, ::-1] if scene.mirrored else empty).astype(np.uint16)
        pixels = np.minimum(pixels * round(scene.light * 128) >> 7, 255)
        masks = np.zeros((len(scene.things), size, size), bool)
        for thing, mask in zip(scene.things, masks, strict=True):
            self._lay(self._sprite(thing, scene.style), thing, pixels, mask)
        return Rendered(finish(pixels.astype(np.uint8), scene.style), masks)

    def _ground(self, scene: Scene) -> NDArray[np.uint8]:
        if self.edition.number == FIRST.number:
            return background(scene.ground, scene.texture, self.size)
        return ground(scene.ground, scene.texture, self.size, scene.style)

    def _sprite(self, thing: Thing, style: str) -> Sprite:
        if self.edition.number == FIRST.number:
            return self.sprites.sprite(thing, self.size)
        return self.drawings.sprite(thing, self.size, style)

    def _lay(self, sprite: Sprite, thing: Thing, pixels: NDArray[np.uint16], mask: NDArray[np.bool_]) -> None:
        """Lay one thing over `pixels` and note in `mask` what it touches, both in place."""
        size = self.size
        height, width = sprite.alpha.shape[:2]
        top, left = round(thing.y * size - height / 2), round(thing.x * size - width / 2)
        rows, columns = slice(max(0, top), min(size, top + height)), slice(max(0, left), min(size, left + width))
        part = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
        alpha = sprite.alpha[part]
        pixels[rows, columns] = (pixels[rows, columns] * (255 - alpha) + sprite.rgb[part] + 127) // 255
        mask[rows, columns] = alpha[..., 0] > 0

    def _rng(self, seed: int, stream: int) -> np.random.Generator:
        return np.random.default_rng((SPLITS.index(self.split), stream, seed))

    def _pair(self, seed: int, kind: Kind, source: Scene, target: Scene, index: int, rng: np.random.Generator) -> Pair:
        before, after = self.render(source), self.render(target)
        if kind == "background":
            mask = np.logical_not(before.masks.any(0))
            # A soft edge lets some ground through, so the edge pixels of things change with it.
            changed = mask | (before.pixels != after.pixels).any(-1)
            subject = None
        elif kind == "add":
            mask = changed = after.masks[index]
            subject = target.things[index]
        elif kind == "delete":
            mask = changed = before.masks[index]
            subject = source.things[index]
        else:
            mask, subject = before.masks[index], target.things[index]
            changed = mask | after.masks[index]
        style = int(rng.integers(1 << 16))
        ground = np.logical_and(before.masks.any(0), np.logical_not(after.masks.any(0)))
        thing = after.masks[index] if kind in ("swap", "colour", "add") else np.zeros_like(ground)
        return Pair(
            kind,
            seed,
            before.pixels,
            after.pixels,
            caption(source.things, source.ground, style),
            caption(target.things, target.ground, style),
            mask,
            changed,
            ground,
            thing,
            subject,
            source,
            target,
        )


def _random_scene(rng: np.random.Generator, count: int | None, edition: Edition) -> Scene:
    if count is None:
        count = int(rng.choice(4, p=_COUNTS))
    scene = Scene(
        ground=edition.grounds[rng.integers(len(edition.grounds))],
        texture=int(rng.integers(TEXTURES)),
        mirrored=bool(rng.random() < 0.5),
        light=float(rng.uniform(0.92, 1.06)),
        things=_random_things(rng, count, edition),
    )
    if edition.number == FIRST.number:  # whose scenes draw no further number
        return scene
    return replace(scene, style=STYLES[rng.choice(len(STYLES), p=CHANCES)])


def _random_things(rng: np.random.Generator, count: int, edition: Edition) -> tuple[Thing, ...]:
    """`count` things of different classes at places where they do not overlap."""
    names = rng.choice(len(edition.things), count, replace=False)
    while True:
        things: list[Thing] = []
        for name in names:
            thing = _placed_thing(rng, edition.things[name], count, things, edition)
            if thing is None:
                break
            things.append(thing)
        else:
            return tuple(things)


def _placed_thing(
    rng: np.random.Generator, name: str, count: int, others: list[Thing], edition: Edition
) -> Thing | None:
    scale = int(rng.integers(*_SCALES[count], endpoint=True)) / 64
    for _ in range(_PLACING_TRIES):
        x, y = (float(v) for v in rng.uniform(scale * 0.48, 1 - scale * 0.48, 2))
        if all(max(abs(x - o.x), abs(y - o.y)) > 0.48 * (scale + o.scale) for o in others):
            colours = edition.colours.get(name)
            colour = colours[rng.integers(len(colours))] if colours and rng.random() < 0.7 else None
            thing = Thing(name, x, y, scale, colour, int(rng.choice(_ANGLES)), bool(rng.random() < 0.5))
            return replace(thing, drawing=_drawing(rng, name, edition))
    return None


def _drawing(rng: np.random.Generator, name: str, edition: Edition) -> int:
    """One of a thing's drawings; no number is drawn where there is but one."""
    return int(rng.integers(edition.drawings[name])) if edition.drawings[name] > 1 else 0


def _edited(scene: Scene, kind: Kind, rng: np.random.Generator, edition: Edition) -> tuple[Scene, int] | None:
    """The scene after an edit and the index of what was edited; None where the scene does not allow this edit."""
    if kind == "background":
        others = [name for name in edition.grounds if name != scene.ground]
        return replace(scene, ground=others[rng.integers(len(others))]), -1
    index = int(rng.integers(len(scene.things)))
    old = scene.things[index]
    if kind == "delete":
        return replace(scene, things=scene.things[:index] + scene.things[index + 1 :]), index
    if kind == "add":  # a deletion, read backwards, keeps things apart; the caller swaps nothing, so place a new one
        return _with_one_more(scene, rng, edition)
    if kind == "colour":
        colours = edition.colours.get(old.name)
        if not colours or not (old.colour or edition.own_colour):
            return None
        others = [colour for colour in colours if colour != (old.colour or colours[0])]
        new = replace(old, colour=others[rng.integers(len(others))])
    else:
        shown = {thing.name for thing in scene.things}
        free = [name for name in edition.things if name not in shown]
        name = free[rng.integers(len(free))]
        new = replace(old, name=name, colour=None, drawing=_drawing(rng, name, edition))
    return replace(scene, things=(*scene.things[:index], new, *scene.things[index + 1 :])), index


def _with_one_more(scene: Scene, rng: np.random.Generator, edition: Edition) -> tuple[Scene, int] | None:
    shown = {thing.name for thing in scene.things}
    free = [name for name in edition.things if name not in shown]
    new = _placed_thing(rng, free[rng.integers(len(free))], min(3, len(scene.things) + 1), list(scene.things), edition)
    if new is None:
        return None
    return replace(scene, things=(*scene.things, new)), len(scene.things)
