"""FlowAlign inside a mask: an edit without inversion, for models of every prediction."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from diffedit_backend.editing import edit_picture
from diffedit_backend.method.align import Velocities, aligned_edit, share_of_noise, velocity
from diffedit_backend.method.denoise import guide
from diffedit_backend.method.engine import DiffEditEngine, LatentEdit, Subject
from diffedit_backend.method.schedule import FlowSchedule, Level, NoiseSchedule, VariancePreservingSchedule
from diffedit_backend.method.settings import ALIGN, FAST, settings_for
from diffedit_backend.method.solvers import seeded_noise
from diffedit_protocol.messages import EditRequest
from diffusers import DDIMScheduler
from numpy.typing import NDArray
from tiny_models import tiny_model
from torch import Tensor

SOURCE, TARGET = torch.full((1, 2, 3, 3), 0.5), torch.full((1, 2, 3, 3), -1.5)  # where the two texts' data lie
PICTURE = torch.linspace(-1, 1, 18).reshape(1, 2, 3, 3)
REQUEST = EditRequest(source="a", target="b", method="align", seed=4, threshold=0.5)


def vp_schedule() -> NoiseSchedule:
    return VariancePreservingSchedule.from_scheduler(DDIMScheduler(), "v_prediction")


def exact_velocities(schedule: NoiseSchedule) -> Velocities:
    """Those of a network that knows one picture for each text, and so their exact noise, in the schedule's unit."""

    def velocities(x: Tensor, level: Level) -> Tensor:
        data = torch.cat((SOURCE, TARGET, SOURCE))
        noise = (x - level.alpha * data) / level.sigma
        if schedule.prediction_type == "flow":
            return velocity(schedule, noise - data, x, level)
        return velocity(schedule, level.alpha * noise - level.sigma * data, x, level)

    return velocities


def picture_of(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("schedule", [FlowSchedule(), vp_schedule()], ids=["flow", "v_prediction"])
def test_an_edit_that_aims_at_the_target_moves_the_picture_by_the_difference_of_the_texts(
    schedule: NoiseSchedule,
) -> None:
    levels = schedule.levels(200, 0.9, 9)[::-1]
    edited = aligned_edit(
        PICTURE,
        levels,
        exact_velocities(schedule),
        partial(guide, scale=1.0),
        lambda index: seeded_noise(PICTURE.shape, index, PICTURE),
        torch.ones(len(levels) - 1, 1, 1, 3, 3),
    )
    # Guidance 1 and exact data: dz/ds = -(target - source - (z - x0)) / s, so z - x0 nears target - source.
    assert torch.allclose(edited - PICTURE, TARGET - SOURCE, atol=0.15)


def test_a_variance_preserving_model_gives_the_same_edit_as_the_flow_that_it_is() -> None:
    """The levels of one, expressed as shares of noise, are levels of the other."""
    vp = vp_schedule()
    levels = vp.levels(30, 0.8, 9)[::-1]
    as_flow = tuple(Level(0.0, 1 - share_of_noise(level), share_of_noise(level)) for level in levels)
    edits = [
        aligned_edit(
            PICTURE,
            chosen,
            exact_velocities(schedule),
            partial(guide, scale=2.0),
            lambda index: seeded_noise(PICTURE.shape, index, PICTURE),
            torch.ones(len(levels) - 1, 1, 1, 3, 3),
        )
        for schedule, chosen in ((vp, levels), (FlowSchedule(), as_flow))
    ]
    assert torch.allclose(*edits, atol=1e-4)


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_outside_of_the_mask_an_edit_without_inversion_is_the_picture_bit_for_bit(kind: str) -> None:
    engine = DiffEditEngine(tiny_model(kind))
    subject = Subject.of(picture_of(32, 32))
    mask = torch.zeros(16, 16)
    mask[4:10, 3:9] = 1
    settings = replace(ALIGN, steps=6)
    latents = engine.edit_without_inversion(
        LatentEdit(subject, "a zebra", mask, 0.8, 3.0, settings, source="a horse", negative="blurred", seeds=(1, 2))
    )
    x0 = engine.encode(subject)
    outside = (mask == 0).expand_as(latents)
    assert torch.equal(latents[outside], x0.expand_as(latents)[outside])
    assert not torch.allclose(latents[0][:, mask > 0], x0[0][:, mask > 0])
    assert not torch.equal(latents[0], latents[1])


def test_it_takes_three_evaluations_a_step_and_none_for_an_inversion() -> None:
    engine = DiffEditEngine(tiny_model("sd2"))
    settings = replace(ALIGN, steps=10)
    engine.edit_without_inversion(
        LatentEdit(Subject.of(picture_of(32, 32)), "b", torch.ones(16, 16), 0.8, 2.0, settings, source="a")
    )
    assert engine.evaluations == 3 * 8


def test_every_seed_gives_a_variation_of_its_own() -> None:
    outcome = edit_picture(DiffEditEngine(tiny_model()), replace(REQUEST, variations=3), picture_of(40, 40))
    assert len(outcome.edits) == 3
    assert not np.array_equal(outcome.edits[0].pixels, outcome.edits[1].pixels)


def test_guidance_away_from_the_source_is_half_as_much_again_as_the_models_own_unless_it_is_asked_for() -> None:
    settings = settings_for("align", "normal")
    assert settings.guidance_for(None, 4.0) == 6.0
    assert settings.guidance_for(2.5, 4.0) == 2.5


def test_a_distilled_model_is_edited_without_inversion_in_its_own_few_steps() -> None:
    assert settings_for("fast", "normal") == FAST
    chosen = settings_for("fast", "normal", few_steps=4)
    assert (chosen.inverts, chosen.steps, chosen.guidance_for(None, 1.0)) == (False, 4, 1.0)
    assert settings_for("fast", "draft", few_steps=4).steps == 4
    assert settings_for("fast", "fine", few_steps=4, steps=12) == replace(chosen, steps=8, maps=2 * FAST.maps)
    assert settings_for("paper", "normal", few_steps=4).inverts
    model = replace(tiny_model(), few_steps=4, guidance=1.0)
    engine = DiffEditEngine(model)
    edit_picture(engine, replace(REQUEST, method="fast"), picture_of(40, 40))
    maps = 2 * FAST.maps
    assert engine.evaluations == maps + 3 * round(4 * REQUEST.strength)
