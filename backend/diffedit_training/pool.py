"""A pool of rendered pairs on the training device: a step takes its pictures or latents from there, without waiting.

The pool is a ring: new pairs take the place of the oldest. Every pair is encoded once, when it comes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from .distributed import DistributedGroup
from .examples import Batch
from .pairs import CELL
from .rendering import Recipe, RenderedPairs, Renderers
from .tokenizer import MAX_TOKENS, new_tokenizer
from .vae import LATENT_CHANNELS

_AT_ONCE = 64  # pairs that are taken over or encoded at a time


@dataclass
class Pool:
    """Up to `capacity` pairs of what `recipe` renders, on the group's device."""

    recipe: Recipe
    capacity: int
    group: DistributedGroup
    count: int = 0
    _next: int = 0
    _vae: AutoencoderKL | None = None
    _tensors: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (shape, _) in self.recipe.shapes().items():
            kind = torch.int16 if name == "token_ids" else torch.uint8
            self._tensors[name] = torch.zeros((self.capacity, *shape), dtype=kind, device=self.group.device)
        empty = new_tokenizer(self.recipe.edition)("", padding="max_length", max_length=MAX_TOKENS).input_ids
        self._no_caption = torch.tensor(empty, device=self.group.device)

    def fill(self, renderers: Renderers, pairs: int) -> None:
        """Wait until the pool holds that many pairs, or as many as it can."""
        while self.count < min(pairs, self.capacity):
            self.take_in(renderers, wait=True)

    def take_in(self, renderers: Renderers, wait: bool = False) -> int:
        """Take over what has been rendered, and return how many pairs that was: none, or always as many.

        A GPU has a program of its own for every number of pictures, which it takes long to find.
        """
        pairs = renderers.take(min(_AT_ONCE, self.capacity, renderers.at_once), wait)
        if pairs is None:
            return 0
        places = (torch.arange(len(pairs)) + self._next) % self.capacity
        self._put(pairs, places.to(self.group.device))
        self._next = (self._next + len(pairs)) % self.capacity
        self.count = min(self.capacity, self.count + len(pairs))
        return len(pairs)

    def encode_with(self, vae: AutoencoderKL) -> None:
        """Encode all pairs with this autoencoder, and from now on every new one."""
        self._vae = vae
        side = self.recipe.size // CELL
        shape = (self.capacity, 2, LATENT_CHANNELS, side, side)
        self._tensors["latents"] = torch.zeros(shape, dtype=torch.float32, device=self.group.device)
        for places in torch.arange(self.count, device=self.group.device).split(_AT_ONCE):
            self._encode(places)

    def pictures(self, count: int, side: int) -> Tensor:
        """`count` crops of random pictures, (count, 3, side, side) float32 in -1..1; `side` up to the recipe's size."""
        device, size = self.group.device, self.recipe.size
        which = torch.randint(self.count, (count, 1, 1), device=device), torch.randint(2, (count, 1, 1), device=device)
        corner = torch.randint(size - side + 1, (2, count, 1), device=device)
        along = torch.arange(side, device=device)
        rows, columns = (corner[0] + along)[:, :, None], (corner[1] + along)[:, None, :]
        crops = self._tensors["pixels"][which[0], which[1], rows, columns]
        return crops.permute(0, 3, 1, 2).float() / 127.5 - 1

    def batch(self, pairs: int, uncaptioned: float) -> Batch:
        """Random pairs; a share `uncaptioned` of the examples gets the empty caption. Only after `encode_with`."""
        device = self.group.device
        chosen = torch.randint(self.count, (pairs,), device=device)
        variant = torch.randint(self.recipe.captions, (2, pairs), device=device)
        side = torch.arange(2, device=device)[:, None]
        token_ids = self._tensors["token_ids"][chosen[None], side, variant].flatten(0, 1).long()
        dropped = torch.rand(2 * pairs, 1, device=device) < uncaptioned
        labels = self._of("labels", chosen).float()
        return Batch(
            self._of("latents", chosen),
            self._of("coverage", chosen).float() / 255,
            labels / labels.sum(1, keepdim=True),
            torch.where(dropped, self._no_caption, token_ids),
        )

    def _of(self, name: str, chosen: Tensor) -> Tensor:
        """A tensor of these pairs as 2 n examples, the pair of example i at i + n."""
        return self._tensors[name][chosen].transpose(0, 1).flatten(0, 1)

    def _put(self, pairs: RenderedPairs, places: Tensor) -> None:
        for name in self.recipe.shapes():
            values = torch.from_numpy(getattr(pairs, name))
            if self.group.device.type == "cuda":
                values = values.pin_memory()
            self._tensors[name][places] = values.to(self.group.device, non_blocking=True)
        if self._vae is not None:
            self._encode(places)

    @torch.no_grad()
    def _encode(self, places: Tensor) -> None:
        assert self._vae is not None
        pictures = self._tensors["pixels"][places].flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1
        with self.group.autocast():
            latents = self._vae.encode(pictures).latent_dist.mode().float()
        self._tensors["latents"][places] = latents.unflatten(0, (len(places), 2))
