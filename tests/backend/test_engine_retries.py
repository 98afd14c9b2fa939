"""An edit in which the model still sees the source is begun anew; what is seen is told by a diffusion classifier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffedit_backend.method.engine import DiffEditEngine, LatentEdit, Subject
from diffedit_backend.method.schedule import FlowSchedule, VariancePreservingSchedule
from diffedit_backend.method.settings import FAST, settings_for
from diffedit_backend.models import load_model
from diffedit_bench.quality.cases import bundled_cases
from diffusers import DDIMScheduler
from tiny_models import NATIVE, tiny_model

QUICK = replace(FAST, steps=5, maps=2, retries=2)
WALKED = 2 * 4  # evaluations of one edit: 4 levels, under two texts
LOOK = 2 * QUICK.checks  # evaluations of one look at one result
MASK = torch.zeros(NATIVE // 2, NATIVE // 2)
MASK[4:12, 4:12] = 1


@pytest.fixture(scope="module")
def tiny():
    return tiny_model("sd1")


@pytest.fixture(scope="module")
def subject():
    return Subject.of(np.random.default_rng(0).integers(0, 256, (NATIVE, NATIVE, 3), dtype=np.uint8))


class Seeing(DiffEditEngine):
    """An engine that sees in the results, one after the other, what it is told; 1 of the source in the picture."""

    def __init__(self, model, *leads):
        super().__init__(model)
        self.leads = list(leads)
        self.looks = []

    def source_lead(self, edit):
        return 1.0

    def target_lead(self, latents, edit):
        self.looks.append(latents.clone())
        return torch.tensor([self.leads.pop(0) for _ in latents])


def edited(engine, subject, seeds=(0,), ratio=0.8, source="a horse", settings=QUICK, mask=MASK, **options):
    edit = LatentEdit(subject, "a zebra", mask, ratio, 4.0, settings, source=source, seeds=seeds)
    trajectory = engine.trajectory(subject, source, ratio, settings)
    before = engine.evaluations
    return engine.edit_until_seen(edit, trajectory, **options), engine.evaluations - before


def test_an_edit_in_which_the_target_is_seen_is_the_one_that_the_inversion_gives(tiny, subject):
    engine = Seeing(tiny, 0.6)
    latents, evaluations = edited(engine, subject)
    plain, _ = edited(DiffEditEngine(tiny), subject, settings=replace(QUICK, retries=0))
    assert torch.equal(latents, plain)
    assert evaluations == WALKED


def test_an_edit_in_which_the_source_is_seen_is_begun_anew_until_the_target_is(tiny, subject):
    engine = Seeing(tiny, -0.4, 0.9)
    latents, evaluations = edited(engine, subject)
    assert torch.equal(latents, engine.looks[1])
    assert not torch.allclose(engine.looks[1], engine.looks[0], atol=1e-2)
    assert evaluations == WALKED + 2 * 4  # 0.9 of 5 steps are 4 levels as well


def test_where_the_target_is_never_clearly_seen_the_result_that_shows_it_most_is_kept(tiny, subject):
    engine = Seeing(tiny, -0.4, 0.3, 0.1)
    latents, _ = edited(engine, subject)
    assert len(engine.looks) == 1 + QUICK.retries
    assert torch.equal(latents, engine.looks[1])


def test_of_several_variations_only_those_that_failed_are_begun_anew(tiny, subject):
    engine = Seeing(tiny, 0.8, -0.2, 0.7, 0.9)
    latents, _ = edited(engine, subject, seeds=(5, 6, 7))
    assert [len(look) for look in engine.looks] == [3, 1]
    assert torch.equal(latents[[0, 2]], engine.looks[0][[0, 2]])
    assert torch.equal(latents[1], engine.looks[1][0])


def test_a_variation_that_is_begun_anew_is_the_same_alone_and_among_others(tiny, subject):
    among, _ = edited(Seeing(tiny, -0.2, -0.3, 0.9, 0.9), subject, seeds=(5, 6))
    alone, _ = edited(Seeing(tiny, -0.3, 0.9), subject, seeds=(6,))
    assert torch.allclose(among[1:], alone, atol=1e-4)


def test_outside_of_the_mask_an_edit_that_is_begun_anew_changes_nothing(tiny, subject):
    engine = Seeing(tiny, -0.4, 0.9)
    latents, _ = edited(engine, subject)
    x0 = engine.encode(subject)
    assert torch.equal(latents[(MASK == 0).expand_as(latents)], x0[(MASK == 0).expand_as(x0)])


@pytest.mark.parametrize(
    "options",
    [{"ratio": 0.6}, {"source": ""}, {"settings": replace(QUICK, retries=0)}, {"mask": (MASK == 0).float()}],
    ids=["a low strength is meant to keep much", "no source to compare with", "not asked for", "a ground changes"],
)
def test_an_edit_is_not_looked_at_where_it_means_nothing(tiny, subject, options):
    engine = Seeing(tiny)
    edited(engine, subject, **options)
    assert engine.looks == []


def test_every_step_of_an_edit_that_is_begun_anew_is_told_and_none_goes_back(tiny, subject):
    steps = []
    edited(Seeing(tiny, -0.4, 0.9), subject, on_step=steps.append)
    assert [(step.step, step.total) for step in steps] == [(i, 4) for i in range(1, 5)] + [(i, 8) for i in range(5, 9)]


def test_a_look_costs_two_evaluations_for_each_of_its_noises(tiny, subject):
    engine = DiffEditEngine(tiny)
    edit = LatentEdit(subject, "a zebra", MASK, 0.8, 4.0, QUICK, source="a horse")
    latents, before = engine.encode(subject), engine.evaluations
    assert engine.target_lead(latents, edit).shape == (1,)
    assert engine.evaluations - before == LOOK


def test_the_bundled_model_sees_the_source_in_the_picture_and_the_target_in_the_true_edit():
    model = load_model("bundled", "cpu")
    engine, settings = DiffEditEngine(model), settings_for("fast", "normal")
    cases = bundled_cases(8, 77, model.native_size, ("swap",))
    for name in cases.names:
        case = cases.load(name)
        assert case.target is not None
        assert case.changed is not None
        mask = torch.nn.functional.adaptive_avg_pool2d(
            torch.from_numpy(case.changed).float()[None, None], model.native_size // model.factor
        )[0, 0]
        before, after = Subject.of(case.source), Subject.of(case.target)
        edit = LatentEdit(
            before, case.target_text, mask, 0.8, model.guidance, settings, source=case.source_text, seeds=(0,)
        )
        assert engine.target_lead(engine.encode(before), edit) < 0 < engine.target_lead(engine.encode(after), edit), (
            name
        )


def test_how_clearly_the_source_is_seen_is_read_from_the_difference_map(tiny, subject):
    engine = DiffEditEngine(tiny)
    edit = LatentEdit(subject, "a zebra", MASK, 0.8, 4.0, replace(QUICK, checks=QUICK.maps), source="a horse")
    engine.difference(subject, "a horse", "a zebra", QUICK)
    before = engine.evaluations
    lead = engine.source_lead(edit)
    assert engine.evaluations == before
    assert lead == pytest.approx(-float(engine.target_lead(engine.encode(subject), edit)), abs=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample", "flow"])
def test_the_error_of_a_perfect_prediction_is_0_for_every_kind_of_model(kind):
    schedule = (
        FlowSchedule(shift=3.0)
        if kind == "flow"
        else VariancePreservingSchedule.from_scheduler(DDIMScheduler(prediction_type=kind))
    )
    level = schedule.level_at(0.65, 256)
    data, noise = torch.randn(2, 4, 4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = level.alpha * data + level.sigma * noise
    perfect = {
        "epsilon": noise,
        "v_prediction": level.alpha * noise - level.sigma * data,
        "sample": data,
        "flow": noise - data,
    }[kind]
    assert torch.allclose(schedule.compared(perfect, x, level), schedule.true_compared(data, noise))
