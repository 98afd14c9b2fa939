"""Small pipelines with random weights: the deprecated class of diffusers and ours on the same networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from diffedit_backend import DiffEditPipeline
from diffedit_bench.speed.models import random_components
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DPMSolverMultistepInverseScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionDiffEditPipeline,
)
from PIL import Image

SCHEDULES = {
    "ddim": (DDIMScheduler, DDIMInverseScheduler),
    "dpm": (DPMSolverMultistepScheduler, DPMSolverMultistepInverseScheduler),
}


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    """What a test draws without a generator of its own is the same in every run."""
    torch.manual_seed(0)


@dataclass(frozen=True)
class Pair:
    """The deprecated class and ours, with networks in common."""

    old: Any
    ours: Any


@cache
def _networks(dtype: torch.dtype) -> dict[str, Any]:
    return random_components("tiny", dtype)


def _pipeline(kind: type, dtype: torch.dtype, schedule: str, **options: Any) -> Any:
    forward, inverse = SCHEDULES[schedule]
    parts = dict(_networks(dtype))
    parts["scheduler"] = forward.from_config(parts["scheduler"].config)
    parts["inverse_scheduler"] = inverse.from_config(parts["inverse_scheduler"].config)
    parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False, **options}
    pipeline = kind(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def make_ours() -> Callable[..., Any]:
    """make_ours(dtype=torch.float32, schedule="ddim", **components) -> DiffEditPipeline."""

    def make(dtype: torch.dtype = torch.float32, schedule: str = "ddim", **options: Any) -> Any:
        return _pipeline(DiffEditPipeline, dtype, schedule, **options)

    return make


@pytest.fixture
def make_pair(make_ours: Callable[..., Any]) -> Callable[..., Pair]:
    """make_pair(dtype=torch.float64, schedule="ddim", reference=False) -> Pair."""

    def make(dtype: torch.dtype = torch.float64, schedule: str = "ddim", reference: bool = False) -> Pair:
        old = _pipeline(StableDiffusionDiffEditPipeline, dtype, schedule)
        return Pair(old, make_ours(dtype, schedule, reference=reference))

    return make


@pytest.fixture
def picture() -> Image.Image:
    """32 x 32 px of smooth colour with a square in it, so that the VAE has something to encode."""
    y, x = np.mgrid[0:32, 0:32] / 31
    pixels = np.stack([x, y, 1 - x * y], axis=-1)
    pixels[8:20, 10:24] = (0.9, 0.2, 0.1)
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


@pytest.fixture
def latents() -> torch.Tensor:
    """(1, 4, 16, 16) float64 standard normal: a picture's latents."""
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


@pytest.fixture
def seed() -> Callable[[int], torch.Generator]:
    """seed(n) -> a fresh generator."""
    return lambda number: torch.Generator().manual_seed(number)
