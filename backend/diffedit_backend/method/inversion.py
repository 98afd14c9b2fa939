"""From a picture's latents to noise, level by level (paper, section 3.2, step 2): the encoding trajectory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# What the network says about x at time t: predict(x, t). The unit is the model's own (noise, v or data).
Predict = Callable[[Tensor, Any], Tensor]
# One step of a solver: step(output, t, x) gives x at the next level.
SolverStep = Callable[[Tensor, Any, Tensor], Tensor]
# Told after every step: (index from 0, x at the level just reached).
OnLevel = Callable[[int, Tensor], None]


def no_listener(_index: int, _x: Tensor) -> None:
    """The `on_level` of a caller who does not listen."""


def invert(
    x0: Tensor, timesteps: Sequence[Any] | Tensor, predict: Predict, step: SolverStep, on_level: OnLevel = no_listener
) -> Tensor:
    """Carry clean latents up through the noise levels of `timesteps` (ascending), one prediction each.

    x0: (B, C, h, w). Returns the trajectory (T + 1, B, C, h, w), `trajectory[0]` being x0 itself and `trajectory[T]`
    the most noised level, so that `trajectory[k]` is the background of the denoising that arrives at level k.
    """
    trajectory = [x0]
    for index, t in enumerate(timesteps):
        x = trajectory[-1]
        trajectory.append(step(predict(x, t), t, x))
        on_level(index, trajectory[-1])
    return torch.stack(trajectory)
