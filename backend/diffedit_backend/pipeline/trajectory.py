"""What `DiffEditPipeline` knows about a trajectory: the schedule it was made with, and the picture that it came from.

The interface of the drop-in class hands trajectories around as bare tensors. Steps, strength, x0 and the picture are
remembered beside the tensor, by its identity and for as long as it lives, so that a call need not be told them a second
time.
"""

from __future__ import annotations

import logging
import math
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMParallelScheduler,
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepInverseScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    UniPCMultistepScheduler,
)
from diffusers.configuration_utils import FrozenDict
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .inputs import check_fraction

logger = logging.getLogger(__name__)

# A count that is whole but for the rounding of the product, such as 50 * 0.58 = 28.999999999999996.
ROUNDING = 1e-9
# Schedulers whose steps lead back over an inversion, by the inverse scheduler that climbs their levels.
_LIKE_DDIM = (DDIMScheduler, DDIMParallelScheduler)
_LIKE_DPM_SOLVER = (
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    UniPCMultistepScheduler,
    DEISMultistepScheduler,
)
# What must agree for the levels of an inversion to be the levels that the edit passes.
LEVEL_SETTINGS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "prediction_type",
    "timestep_spacing",
)


class TrajectorysSteps(int):
    """A default number of steps that gives way to the number that the trajectory was made with."""


class TrajectorysStrength(float):
    """A default strength that gives way to the strength that the trajectory was made with."""


# The defaults of the interface, for trajectories of unknown origin.
TRAJECTORYS_STEPS, TRAJECTORYS_STRENGTH = TrajectorysSteps(50), TrajectorysStrength(0.8)


@dataclass(frozen=True)
class Origin:
    """Where a trajectory comes from.

    steps, strength: of its inversion. x0: (B, C, h, w), the picture's latents. picture: (B, 3, H, W) float32 in [0, 1],
    the picture itself at its own size, or None when latents were inverted. steps_offset: of the inverse scheduler.
    """

    steps: int
    strength: float
    steps_offset: int
    x0: Tensor
    picture: Tensor | None

    @property
    def count(self) -> int:
        """The number of its levels."""
        return encoding_steps(self.steps, self.strength)

    def repeated(self, copies: int) -> Origin:
        """The origin of a batch that holds every picture `copies` times in a row."""
        picture = None if self.picture is None else self.picture.repeat_interleave(copies, dim=0)
        return replace(self, x0=self.x0.repeat_interleave(copies, dim=0), picture=picture)


_origins: Any = WeakTensorKeyDictionary()


def remember(trajectory: Tensor, origin: Origin) -> None:
    """Keep `origin` for as long as `trajectory` is alive."""
    _origins[trajectory] = origin


def origin_of(trajectory: Any) -> Origin | None:
    """The origin of this very tensor, or None when it was not made by `invert` (loaded from a file, sliced, moved)."""
    return _origins.get(trajectory) if isinstance(trajectory, Tensor) else None


def encoding_steps(steps: int, strength: float) -> int:
    """How many of `steps` a strength in [0, 1] runs through: the whole part of their product, in exact arithmetic."""
    return min(math.floor(steps * strength + ROUNDING), steps)


def schedule_for(trajectory: Any, steps: int, strength: float | None) -> tuple[int, float]:
    """Steps and strength of the edit of `trajectory`: what was asked for, or the trajectory's own where that was left
    open.

    Raises ValueError for a strength out of [0, 1], or when what was asked for is not what the trajectory was made with.
    """
    origin = origin_of(trajectory)
    if origin is not None:
        steps = origin.steps if isinstance(steps, TrajectorysSteps) else steps
        strength = origin.strength if isinstance(strength, TrajectorysStrength) else strength
    ratio = check_fraction("inpaint_strength", strength)
    if origin is not None and (steps, encoding_steps(steps, ratio)) != (origin.steps, origin.count):
        raise ValueError(
            f"`image_latents` was inverted with num_inference_steps={origin.steps}, inpaint_strength={origin.strength},"
            f" but num_inference_steps={steps}, inpaint_strength={ratio} were asked for. Leave both out, or invert"
            " again."
        )
    return int(steps), ratio


def check_retraceable(scheduler: Any) -> None:
    """Raises ValueError for a scheduler that cannot retrace an inversion.

    Its steps must be one evaluation each and draw no noise of their own, and its latents those of the model.
    """
    name = type(scheduler).__name__
    if not isinstance(scheduler, (*_LIKE_DDIM, *_LIKE_DPM_SOLVER)):
        raise ValueError(
            f"{name} cannot retrace an inversion: its latents or steps are of another kind, or it draws noise. Use"
            " DDIMScheduler or DPMSolverMultistepScheduler, for instance: pipe.scheduler ="
            " DDIMScheduler.from_config(pipe.scheduler.config)."
        )
    if scheduler.config.get("prediction_type") not in ("epsilon", "v_prediction", "sample"):
        raise ValueError(
            f"{name} has the prediction_type {scheduler.config.get('prediction_type')!r}; `DiffEditPipeline` edits with"
            " models of epsilon, v_prediction or sample."
        )


def offset_of(scheduler: Any) -> int:
    """The scheduler's `steps_offset`; 0 for one that has none."""
    return int(scheduler.config.get("steps_offset", 0))


def retracing(scheduler: Any, origin: Origin) -> Any:
    """`scheduler`, or a copy of it that passes the time steps of the inversion: those of its `steps_offset`.

    The two may differ since only the scheduler's offset is set to 1 when a pipeline is made.
    """
    if offset_of(scheduler) == origin.steps_offset:
        return scheduler
    scheduler = copy(scheduler)
    scheduler._internal_dict = FrozenDict({**scheduler.config, "steps_offset": origin.steps_offset})
    return scheduler


def last_timesteps(scheduler: Any, steps: int, strength: float) -> Tensor:
    """The last `strength` of the scheduler's time steps, descending."""
    timesteps: Tensor = scheduler.timesteps[(steps - encoding_steps(steps, strength)) * scheduler.order :]
    return timesteps


def inverse_of(scheduler: Any, inverse: Any | None) -> Any:
    """A scheduler that climbs the levels which `scheduler` descends: `inverse`, or a new one where that is None.

    Differences that make them pass other levels are told in the log, but for `steps_offset`: see `retracing`.
    Raises ValueError for an `inverse` that draws noise: no inversion does.
    """
    if inverse is None:
        if isinstance(scheduler, _LIKE_DPM_SOLVER):
            algorithm = str(scheduler.config.get("algorithm_type", "dpmsolver++")).removeprefix("sde-")
            return DPMSolverMultistepInverseScheduler.from_config(scheduler.config, algorithm_type=algorithm)
        # A scheduler without the setting does not clip; the inverse scheduler would.
        clips = bool(scheduler.config.get("clip_sample", False))
        return DDIMInverseScheduler.from_config(scheduler.config, clip_sample=clips)
    if str(inverse.config.get("algorithm_type", "")).startswith("sde-"):
        raise ValueError(
            f"The inverse scheduler's algorithm_type {inverse.config.algorithm_type!r} draws noise, which no inversion"
            " does. Leave `inverse_scheduler` out: the one that fits is made from `scheduler`."
        )
    differing = [
        f"{name}: {scheduler.config[name]!r} and {inverse.config[name]!r}"
        for name in LEVEL_SETTINGS
        if name in scheduler.config and name in inverse.config and scheduler.config[name] != inverse.config[name]
    ]
    if differing:
        logger.warning(
            "Scheduler and inverse scheduler pass different noise levels (%s). Make one from the other's config.",
            "; ".join(differing),
        )
    return inverse


def backgrounds_of(
    levels: Tensor, origin: Origin | None, mask: Tensor, one_level_late: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """What is put back outside the mask after every step, and the masks: the level just reached, x0 at the end.

    levels: (T, N, C, h, w). mask: (N, 1, h, w). one_level_late: the level that was left instead, as the old class did.
    Without x0 the last step is not blended: the background that it denoises is one step from the picture.
    """
    count = len(levels)
    if one_level_late:
        return list(levels), [mask] * count
    if origin is None:
        return [*levels[1:], levels[-1]], [mask] * (count - 1) + [torch.ones_like(mask)]
    return [*levels[1:], origin.x0.to(levels)], [mask] * count
