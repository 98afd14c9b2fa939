"""From noise back to a picture under the target text, the background held in place (paper, section 3.2, step 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .inversion import OnLevel, Predict, SolverStep, no_listener


def guide(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598): 1 is the conditional prediction itself."""
    return unconditional + scale * (conditional - unconditional)


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
