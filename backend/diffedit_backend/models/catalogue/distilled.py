"""Models and LoRAs that were distilled to a few steps (LCM, Turbo, Lightning, Hyper, DMD): how they are recognised.

A model says it by its scheduler or its UNet; a single file and a LoRA only by their names, which may be wrong:
`diffedit.json` has the last word ({"few_steps": 0} for a model that is none).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

DEFAULT_STEPS = 4  # where no count is told; published models are made for 1 to 8
# Distilled models are used without guidance.
GUIDANCE = 1.0
_KIND = re.compile(r"(?<![a-z])(s?d?xl[-_ ]?|sd[-_ ]?)?(lcm|turbo|lightning|hyper|dmd2?)(?![a-z])", re.IGNORECASE)
_MIXED_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=XL)(?=[A-Za-z])")  # "dreamshaperXL_lightningDPMSDE"
_STEPS = re.compile(r"(\d{1,2})[-_ ]?steps?(?![a-z])", re.IGNORECASE)


def few_steps_by_name(name: str) -> int:
    """Steps of a distilled model or LoRA by its name, 0 for a name that says nothing of it."""
    if not _KIND.search(_MIXED_CASE.sub("_", name)):
        return 0
    steps = _STEPS.search(name)
    return int(steps[1]) if steps else DEFAULT_STEPS


def few_steps_by_settings(scheduler: str, settings: Mapping[str, Any], unet: Mapping[str, Any]) -> int:
    """Steps of a distilled model by its scheduler's class and settings and those of its UNet, 0 for a base model.

    LCM and TCD have schedulers of their own; Turbo models come with Euler's on trailing time steps; LCMs that were
    distilled with their guidance have a projection of it in the UNet.
    """
    turbo = (
        scheduler in ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler")
        and settings.get("timestep_spacing") == "trailing"
        and not settings.get("rescale_betas_zero_snr", False)
    )
    own = scheduler in ("LCMScheduler", "TCDScheduler")
    return DEFAULT_STEPS if own or turbo or unet.get("time_cond_proj_dim") is not None else 0
