"""Editing without inversion, inside a mask: FlowAlign (arXiv 2505.23145) for every kind of prediction.

At each level s the picture x0 and the edit z so far are noised by the same fresh noise; the difference of their
velocities, the edit's under the target and the picture's under the source, carries z on. It needs no trajectory, and so
no network that inverts well: distilled models of a few steps, too. Written for rectified flow, where
x_s = (1 - s) x0 + s n; a variance-preserving model is asked at the same shares, scaled by alpha + sigma.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .denoise import blend
from .inversion import OnLevel, no_listener
from .schedule import Level, NoiseSchedule

# velocities(x, level) for x of 3 B rows, of the level's own scale: noise - data under the text that guidance leads away
# from, under the target, and under the source, B rows each.
Velocities = Callable[[Tensor, Level], Tensor]
SOURCE_CONSISTENCY = 0.01  # the paper's zeta: how much the edit is pulled to the picture's own end


@dataclass(frozen=True)
class AlignedStep:
    """One step at `level` to `end`, whose shares of noise are s and s_end: x_s = (1 - s) x0 + s n."""

    level: Level
    end: Level

    @property
    def s(self) -> float:
        return share_of_noise(self.level)

    @property
    def ds(self) -> float:
        """Negative: the way goes down."""
        return share_of_noise(self.end) - self.s


def share_of_noise(level: Level) -> float:
    """s of the flow whose x_s is this level's x / (alpha + sigma)."""
    return level.sigma / (level.alpha + level.sigma)


def velocity(schedule: NoiseSchedule, output: Tensor, x: Tensor, level: Level) -> Tensor:
    """noise - data of a network's output at x of `level`."""
    data, noise = schedule.data_and_noise(output, x, level)
    return noise - data


def aligned_edit(
    x0: Tensor,
    levels: Sequence[Level],
    velocities: Velocities,
    guide: Callable[[Tensor, Tensor], Tensor],
    fresh: Callable[[int], Tensor],
    masks: Sequence[Tensor] | Tensor,
    on_level: OnLevel = no_listener,
) -> Tensor:
    """The picture's latents x0 (B, C, h, w) edited along `levels` (T + 1, descending) inside the masks.

    fresh(i): the standard normal noise (B, C, h, w) of step i. masks: T tensors (1 or B, 1, h, w) in [0, 1]; outside
    x0 comes through bit for bit. guide(away, target): the velocity that guidance makes of these two.
    """
    z = x0
    for index, (level, end) in enumerate(pairwise(levels)):
        step = AlignedStep(level, end)
        noised = (1 - step.s) * x0 + step.s * fresh(index)
        edited = z + noised - x0
        scale = level.alpha + level.sigma
        x = scale * torch.cat((edited, edited, noised))
        away, target, source = velocities(x, level).chunk(3)
        v = guide(away, target)
        pull = noised - step.s * source - (edited - step.s * v)
        z = z + step.ds * (v - source) + SOURCE_CONSISTENCY * pull
        z = blend(z, x0, masks[index])
        on_level(index, z)
    return z
