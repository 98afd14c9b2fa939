"""An edit in which the model still sees the source is begun anew; what is seen is told by a diffusion classifier."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from diffedit_backend.method.engine import DiffEditEngine, LatentEdit, Subject
from diffedit_backend.method.retries import RetriedEdit
from diffedit_backend.method.schedule import FlowSchedule, VariancePreservingSchedule
from diffedit_backend.method.settings import FAST, settings_for
from diffedit_backend.models import load_model
from diffedit_bench.quality.cases import bundled_cases
from diffusers import DDIMScheduler
from tiny_models import NATIVE, tiny_model

QUICK = replace(FAST, steps=5, maps=2, retries=2)
WALKED = 4 + 3  # evaluations of one edit: 4 levels, of which 3 ask what guidance leads away from
LOOK = 2 * QUICK.checks  # evaluations of one look at one result
MASK = torch.zeros(NATIVE // 2, NATIVE // 2)
MASK[4:12, 4:12] = 1


@pytest.fixture(scope="module")
def tiny():
    return tiny_model("sd1")


@pytest.fixture(scope="module")
def subject():
    return Subject.of(np.random.default_rng(0).integers(0, 256, (NATIVE, NATIVE, 3), dtype=np.uint8))


class Seeing(RetriedEdit):
    """An edit that sees in its results, one after the other, what it is told; 1 of the source in the picture."""

    def __init__(self, engine, edit, leads):
        super().__init__(engine, edit)
        self.__dict__["leads"], self.__dict__["looks"] = list(leads), []

    def source_lead(self):
        return 1.0

    def _told_leads(self, latents, enough):
        self.looks.append(latents.clone())
        return torch.tensor([self.leads.pop(0) for _ in latents])


@dataclass
class Edited:
    """Result (B, C, h, w), what was looked at one after the other, and the evaluations that it took."""

    latents: torch.Tensor
    looks: list[torch.Tensor]
    evaluations: int


def edited(model, subject, leads=(), seeds=(0,), ratio=0.8, source="a horse", settings=QUICK, mask=MASK, **options):
    engine = DiffEditEngine(model)
    edit = Seeing(engine, LatentEdit(subject, "a zebra", mask, ratio, 4.0, settings, source=source, seeds=seeds), leads)
    trajectory = engine.trajectory(subject, source, ratio, settings)
    before = engine.evaluations
    latents = edit.latents(trajectory, **options)
    return Edited(latents, edit.looks, engine.evaluations - before)


def test_an_edit_in_which_the_target_is_seen_is_the_one_that_the_inversion_gives(tiny, subject):
    found = edited(tiny, subject, [0.6])
    plain = edited(tiny, subject, settings=replace(QUICK, retries=0))
    assert torch.equal(found.latents, plain.latents)
    assert found.evaluations == WALKED


def test_an_edit_in_which_the_source_is_seen_is_begun_anew_until_the_target_is(tiny, subject):
    found = edited(tiny, subject, [-0.4, 0.9])
    assert torch.equal(found.latents, found.looks[1])
    assert not torch.allclose(found.looks[1], found.looks[0], atol=1e-2)
    assert found.evaluations == 2 * WALKED  # 0.9 of 5 steps are 4 levels as well


def test_where_the_target_is_never_clearly_seen_the_result_that_shows_it_most_is_kept(tiny, subject):
    found = edited(tiny, subject, [-0.4, 0.3, 0.1])
    assert len(found.looks) == 1 + QUICK.retries
    assert torch.equal(found.latents, found.looks[1])


def test_of_several_variations_only_those_that_failed_are_begun_anew(tiny, subject):
    found = edited(tiny, subject, [0.8, -0.2, 0.7, 0.9], seeds=(5, 6, 7))
    assert [len(look) for look in found.looks] == [3, 1]
    assert torch.equal(found.latents[[0, 2]], found.looks[0][[0, 2]])
    assert torch.equal(found.latents[1], found.looks[1][0])


def test_a_variation_that_is_begun_anew_is_the_same_alone_and_among_others(tiny, subject):
    among = edited(tiny, subject, [-0.2, -0.3, 0.9, 0.9], seeds=(5, 6))
    alone = edited(tiny, subject, [-0.3, 0.9], seeds=(6,))
    assert torch.allclose(among.latents[1:], alone.latents, atol=1e-4)


def test_outside_of_the_mask_an_edit_that_is_begun_anew_changes_nothing(tiny, subject):
    latents = edited(tiny, subject, [-0.4, 0.9]).latents
    x0 = DiffEditEngine(tiny).encode(subject)
    assert torch.equal(latents[(MASK == 0).expand_as(latents)], x0[(MASK == 0).expand_as(x0)])


@pytest.mark.parametrize(
    "options",
    [{"ratio": 0.6}, {"source": ""}, {"settings": replace(QUICK, retries=0)}, {"mask": (MASK == 0).float()}],
    ids=["a low strength is meant to keep much", "no source to compare with", "not asked for", "a ground changes"],
)
def test_an_edit_is_not_looked_at_where_it_means_nothing(tiny, subject, options):
    assert edited(tiny, subject, **options).looks == []


def test_every_step_of_an_edit_that_is_begun_anew_is_told_and_none_goes_back(tiny, subject):
    steps = []
    edited(tiny, subject, [-0.4, 0.9], on_step=steps.append)
    assert [(step.step, step.total) for step in steps] == [(i, 4) for i in range(1, 5)] + [(i, 8) for i in range(5, 9)]


class HalfSeeing(RetriedEdit):
    """An edit that sees `first` by half of its noises and `rest` by the others, and notes what it is asked."""

    def __init__(self, engine, edit, first, rest):
        super().__init__(engine, edit)
        self.__dict__.update(first=first, rest=rest, asked=[])

    def target_lead(self, latents, noises=None):
        self.asked.append((len(latents), list(noises)))
        return torch.tensor(self.first if 0 in noises else self.rest)


def test_a_result_that_half_of_the_noises_tell_clearly_is_looked_at_by_no_more(tiny, subject):
    edit = LatentEdit(subject, "a zebra", MASK, 0.8, 4.0, replace(QUICK, checks=4), source="a horse")
    clear = HalfSeeing(DiffEditEngine(tiny), edit, [0.95, 0.2], [])
    assert clear._told_leads(torch.zeros(2, 4, 4, 4), 0.6).tolist() == pytest.approx([0.95, 0.2])
    assert clear.asked == [(2, [0, 1])]
    unclear = HalfSeeing(DiffEditEngine(tiny), edit, [0.95, 0.7], [0.3])
    assert unclear._told_leads(torch.zeros(2, 4, 4, 4), 0.6).tolist() == pytest.approx([0.95, 0.5])
    assert unclear.asked == [(2, [0, 1]), (1, [2, 3])]


def test_looks_by_two_halves_of_the_noises_are_one_by_all(tiny, subject):
    edit = LatentEdit(subject, "a zebra", MASK, 0.8, 4.0, replace(QUICK, checks=4), source="a horse")
    seen = RetriedEdit(DiffEditEngine(tiny), edit)
    latents = torch.cat([seen.engine.encode(subject)] * 2)
    latents[1] *= 0.5
    halves = (seen.target_lead(latents, range(2)) + seen.target_lead(latents, range(2, 4))) / 2
    assert torch.allclose(seen.target_lead(latents), halves, atol=1e-5)


def test_a_look_costs_two_evaluations_for_each_of_its_noises(tiny, subject):
    engine = DiffEditEngine(tiny)
    edit = LatentEdit(subject, "a zebra", MASK, 0.8, 4.0, QUICK, source="a horse")
    latents, before = engine.encode(subject), engine.evaluations
    assert RetriedEdit(engine, edit).target_lead(latents).shape == (1,)
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
        leads = [RetriedEdit(engine, edit).target_lead(engine.encode(shown)) for shown in (before, after)]
        assert leads[0] < 0 < leads[1], name


def test_how_clearly_the_source_is_seen_is_read_from_the_difference_map(tiny, subject):
    engine = DiffEditEngine(tiny)
    edit = LatentEdit(
        subject, "a zebra", MASK, 0.8, 4.0, replace(QUICK, checks=QUICK.first_look.maps), source="a horse"
    )
    engine.difference(subject, "a horse", "a zebra", QUICK)
    before = engine.evaluations
    lead = RetriedEdit(engine, edit).source_lead()
    assert engine.evaluations == before
    assert lead == pytest.approx(-float(RetriedEdit(engine, edit).target_lead(engine.encode(subject))), abs=1e-5)


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
