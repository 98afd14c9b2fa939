"""From noise back to a picture under the target text, the background held in place (paper, section 3.2, step 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .inversion import OnLevel, Predict, SolverStep, no_listener


def guide(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598): 1 is the conditional prediction itself."""
    return unconditional + scale * (conditional - unconditional)


class Guided:
    """A guided prediction whose direction is asked for at the first step and at every so many-th after it.

    Between, it leads as far in the same direction as at the step before, in the network's own unit: one prediction in
    the place of two. What two texts differ by changes little from one step to the next: CFG-Cache (arXiv 2410.19355)
    takes it again as well, and Compress Guidance (arXiv 2408.11194) leaves it out. One for each way down.
    """

    def __init__(
        self,
        without_and_under: Callable[[Tensor, Any], tuple[Tensor, Tensor]],
        under: Predict,
        guide: Callable[[Tensor, Tensor], Tensor],
        every: int = 1,
    ) -> None:
        """without_and_under: (x, level) to the predictions (B, C, h, w) that guidance leads away from and to, under: to
        the latter alone, guide: what it makes of the two.
        """
        self._without_and_under = without_and_under
        self._under = under
        self._guide = guide
        self._every = every
        self._index = 0
        self._direction: Tensor | None = None

    def __call__(self, x: Tensor, level: Any) -> Tensor:
        index, self._index = self._index, self._index + 1
        if self._direction is None or (index - 1) % self._every == 0:
            without, under = self._without_and_under(x, level)
            self._direction = under - without
        else:
            under = self._under(x, level)
            without = under - self._direction
        return self._guide(without, under)


def blend(edited: Tensor, background: Tensor, mask: Tensor) -> Tensor:
    """`mask * edited + (1 - mask) * background`; where the mask is 0 the background comes through bit for bit."""
    return torch.lerp(background, edited, mask)


def masked_denoise(
    x: Tensor,
    timesteps: Sequence[Any] | Tensor,
    predict: Predict,
    step: SolverStep,
    backgrounds: Sequence[Tensor] | Tensor,
    masks: Sequence[Tensor] | Tensor,
    on_level: OnLevel = no_listener,
) -> Tensor:
    """Denoise x through `timesteps` (descending), putting back the background of each level that is reached.

    x: (B, C, h, w), the most noised level. backgrounds: T tensors that broadcast to x, `backgrounds[i]` being the
    encoded latents of the level that step i arrives at (x0 at the last). masks: T tensors (1 or B, 1, h, w) in [0, 1],
    1 = edited.
    """
    for index, t in enumerate(timesteps):
        x = blend(step(predict(x, t), t, x), backgrounds[index], masks[index])
        on_level(index, x)
    return x


def strength_masks(mask: Tensor, steps: int) -> Tensor:
    """A soft mask as strength per cell (differential diffusion, arXiv 2306.00950).

    mask: (B, 1, h, w) in [0, 1]. Returns (steps, B, 1, h, w) of 0 and 1: a cell of value m is free in the last m of the
    steps only, so it is edited less deeply; a binary mask comes back `steps` times.
    """
    held = 1 - torch.arange(1, steps + 1, device=mask.device, dtype=mask.dtype) / steps
    return (mask > held.view(-1, 1, 1, 1, 1)).to(mask.dtype)
