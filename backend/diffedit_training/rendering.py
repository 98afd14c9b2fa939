"""Scenes that all cores render ahead of a training process, in memory that it shares with them.

A GPU takes thousands of pictures a second. What one process renders when a step asks for it keeps the GPU waiting, and
what is sent through pipes is copied four times. Here processes fill the slots of one block of shared memory, and the
training process takes what is ready.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import queue
import shutil
import time
import traceback
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pairs import CELL, COARSE, coverage_and_labels, labels_of, training_caption, training_pair
from .scenes.edition import FIRST, Edition
from .scenes.scenes import SIZE, Scenes
from .tokenizer import MAX_TOKENS, new_tokenizer

_SLOTS = 256
_SHARED = "/dev/shm"  # where Linux keeps shared memory; containers make it small
_ALIVE = 5.0  # seconds after which an idle process looks whether it is still needed
_PATIENCE = 120.0  # seconds without a single pair, after which something must be wrong


@dataclass(frozen=True)
class Recipe:
    """What is rendered: pairs of training scenes from the number `first` on, a share `single` with one thing each.

    captions: how many captions of each scene are written down for training to choose from.
    """

    edition: Edition = FIRST
    size: int = SIZE
    first: int = 0
    single: float = 0.25
    captions: int = 4

    def shapes(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Shape and type of what there is of one pair, by the fields of `RenderedPairs`."""
        fine, coarse = self.size // CELL, self.size // (CELL * COARSE)
        return {
            "pixels": ((2, self.size, self.size, 3), np.uint8),
            "coverage": ((2, 1, fine, fine), np.uint8),
            "labels": ((2, labels_of(self.edition), coarse, coarse), np.uint8),
            "token_ids": ((2, self.captions, MAX_TOKENS), np.int16),
        }


@dataclass(frozen=True)
class RenderedPairs:
    """n pairs of scenes. pixels (n, 2, size, size, 3) uint8 sRGB; coverage (n, 2, 1, h, w) uint8, the share of a latent
    that a thing covers, of 255; labels (n, 2, L, h/2, w/2) uint8, the share of each thing, of 255; token_ids
    (n, 2, captions, MAX_TOKENS) int16.
    """

    pixels: NDArray[np.uint8]
    coverage: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    token_ids: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass
class Renderers:
    """`workers` processes that render by a recipe until they are closed. A context manager."""

    recipe: Recipe
    workers: int
    taken: int = 0  # pairs, so far
    waited: float = 0.0  # seconds in which `take` had nothing to give, so far
    _slots: int = 2
    _processes: list[Any] = field(default_factory=list)

    def __enter__(self) -> Renderers:
        context = multiprocessing.get_context("spawn")  # a fork of a process that uses a GPU is not allowed to
        self._slots = slots = self._fitting_slots()
        shapes = self.recipe.shapes()
        self._buffers = {
            name: context.RawArray(ctypes.c_uint8, slots * int(np.prod(shape)) * np.dtype(kind).itemsize)
            for name, (shape, kind) in shapes.items()
        }
        self._views = _views(self._buffers, self.recipe)
        self._free, self._ready = context.Queue(), context.Queue()
        for slot in range(slots):
            self._free.put(slot)
        for worker in range(self.workers):
            given = (self.recipe, worker, self.workers, self._buffers, self._free, self._ready)
            self._processes.append(context.Process(target=_render_on, args=given, daemon=True))
            self._processes[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        self._processes.clear()
        for pipe in (self._free, self._ready):
            pipe.cancel_join_thread()
            pipe.close()

    @property
    def at_once(self) -> int:
        """How many pairs can be ready at the same time while others are being rendered."""
        return max(1, self._slots // 2)

    def take(self, count: int, wait: bool) -> RenderedPairs | None:
        """`count` pairs, up to `at_once`, copied; without `wait` only where so many are ready, else None.

        Raises RuntimeError where rendering has failed.
        """
        if not wait and self._ready.qsize() < count and all(process.is_alive() for process in self._processes):
            return None
        slots: list[int] = []
        started = time.monotonic()
        while len(slots) < count:
            try:
                got = self._ready.get(timeout=1.0)
            except queue.Empty:
                self._check(time.monotonic() - started)
                continue
            if isinstance(got, str):
                raise RuntimeError(f"A process that renders scenes has failed:\n{got}")
            slots.append(got)
        self.waited += time.monotonic() - started
        pairs = RenderedPairs(**{name: view[slots] for name, view in self._views.items()})
        for slot in slots:
            self._free.put(slot)
        self.taken += len(slots)
        return pairs

    def _fitting_slots(self) -> int:
        """As many as a half of the shared memory holds, at least two for each worker."""
        size = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in self.recipe.shapes().values())
        try:
            room = shutil.disk_usage(_SHARED).free // 2
        except OSError:  # no such folder: the standard library takes a file elsewhere
            room = _SLOTS * size
        return max(2 * self.workers, 2, min(_SLOTS, room // size))

    def _check(self, waited: float) -> None:
        dead = [process.exitcode for process in self._processes if not process.is_alive()]
        if dead:
            raise RuntimeError(f"A process that renders scenes has ended with exit code {dead[0]}.")
        if waited > _PATIENCE:
            raise RuntimeError(f"No scene was rendered in {waited:.0f} s.")


def _views(buffers: dict[str, Any], recipe: Recipe) -> dict[str, NDArray[Any]]:
    return {
        name: np.frombuffer(buffers[name], kind).reshape(-1, *shape) for name, (shape, kind) in recipe.shapes().items()
    }


def _render_on(recipe: Recipe, worker: int, workers: int, buffers: dict[str, Any], free: Any, ready: Any) -> None:
    """What a process does: fill one free slot after another."""
    try:
        views, scenes = _views(buffers, recipe), Scenes(recipe.size, "train", recipe.edition)
        tokenizer = new_tokenizer(recipe.edition)
        number = recipe.first + worker
        while True:
            try:
                slot = free.get(timeout=_ALIVE)
            except queue.Empty:
                parent = multiprocessing.parent_process()
                if parent is None or not parent.is_alive():  # it was killed, and has told nobody
                    return
                continue
            rng = np.random.default_rng((11, number))
            pair = training_pair(scenes, number, single=bool(rng.random() < recipe.single))
            for side, scene in enumerate(pair):
                rendered = scenes.render(scene)
                coverage, labels = coverage_and_labels(scene, rendered.masks, recipe.edition)
                texts = [training_caption(scene, rng) for _ in range(recipe.captions)]
                tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=MAX_TOKENS)
                views["pixels"][slot, side] = rendered.pixels
                views["coverage"][slot, side] = np.round(coverage * 255)
                views["labels"][slot, side] = np.round(labels * 255)
                views["token_ids"][slot, side] = tokens.input_ids
            ready.put(slot)
            number += workers
    except Exception:  # whatever it was: the training process stops with it, and shows it
        ready.put(traceback.format_exc())
