"""Solver and inversion on exact networks: the best prediction for a mixture of Gaussians, in float64.

For such data the probability-flow ODE is known, so the error of a way through it can be measured, and with it the order
of convergence, for every kind of prediction and in both directions.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffedit_backend.method.denoise import masked_denoise
from diffedit_backend.method.engine import DiffEditEngine, LatentEdit, Subject
from diffedit_backend.method.inversion import invert
from diffedit_backend.method.schedule import FlowSchedule, Level, VariancePreservingSchedule, count_steps
from diffedit_backend.method.settings import FAST, PAPER, REFERENCE
from diffedit_backend.method.solvers import Solver, Stochastic, seeded_noise, stochastic_step
from diffusers import DDIMInverseScheduler, DDIMScheduler
from tiny_models import NATIVE, tiny_model

KINDS = ("epsilon", "v_prediction", "sample", "flow")
CELLS = 64
MEANS = torch.tensor([[-1.0, 0.5], [0.8, 0.9], [0.2, -1.2]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64)
SPREAD = 0.4


def fine_schedule(kind):
    """Stable Diffusion's betas, scaled linear, in 100 times as many times: rounding a time changes no level much."""
    if kind == "flow":
        return FlowSchedule(shift=3.0)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 100_000, dtype=torch.float64) ** 2 / 100
    return VariancePreservingSchedule(tuple(torch.cumprod(1 - betas, 0).tolist()), kind)


def exact_network(schedule):
    """What a perfect network answers at x (..., 2) of a level, in the schedule's kind of prediction."""

    def predict(x, level):
        variance = (level.alpha * SPREAD) ** 2 + level.sigma**2
        away = x[..., None, :] - level.alpha * MEANS
        share = torch.softmax(WEIGHTS.log() - away.square().sum(-1) / (2 * variance), dim=-1)[..., None]
        data = (share * (MEANS + level.alpha * SPREAD**2 / variance * away)).sum(-2)
        noise = (share * (level.sigma / variance * away)).sum(-2)
        return {
            "epsilon": noise,
            "sample": data,
            "v_prediction": level.alpha * noise - level.sigma * data,
            "flow": noise - data,
        }[schedule.prediction_type]

    return predict


def pictures():
    generator = torch.Generator().manual_seed(4)
    return torch.randn(1, 1, 16, 2, generator=generator, dtype=torch.float64) * 0.8


def up(schedule, steps, order, rule="start", ratio=0.8):
    levels = schedule.levels(steps, ratio, CELLS)
    solver = Solver(schedule, levels, order, rule)
    return invert(pictures(), levels[:-1], solver.evaluated(exact_network(schedule)), solver.step)


def down(schedule, x, steps, order, aligned=None, rule="start", ratio=0.8):
    levels = schedule.levels(steps, ratio, CELLS)[::-1]
    solver = Solver(schedule, levels, order, rule, aligned=aligned)
    free = [torch.ones(1, 1, 1, 1, dtype=torch.float64)] * (len(levels) - 1)
    predict = solver.evaluated(exact_network(schedule))
    return masked_denoise(x, levels[:-1], predict, solver.step, [x] * len(free), free)


def error(a, b):
    return (a - b).square().mean().sqrt().item()


def orders(errors):
    """The observed orders of convergence between runs with doubled numbers of steps."""
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


@pytest.fixture(scope="module", params=KINDS)
def schedule(request):
    return fine_schedule(request.param)


def even_levels(schedule, steps):
    """Levels evenly spaced in log-SNR: evenly spaced times leave the first step too coarse to show any order but 1."""
    levels = []
    for log_snr in torch.linspace(3.0, -2.0, steps + 1, dtype=torch.float64).tolist():
        if schedule.prediction_type == "flow":
            sigma = 1 / (1 + math.exp(log_snr))
            levels.append(Level(1000 * sigma, 1 - sigma, sigma))
        else:
            alpha_bar = 1 / (1 + math.exp(-2 * log_snr))
            levels.append(Level(0, math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)))
    return tuple(levels)


def walked(schedule, x, levels, order, rule="start"):
    solver = Solver(schedule, levels, order, rule)
    return invert(x, levels[:-1], solver.evaluated(exact_network(schedule)), solver.step)[-1]


@pytest.mark.parametrize("falling", [False, True], ids=["rising", "falling"])
@pytest.mark.parametrize(("order", "rule"), [(1, "start"), (1, "arrival"), (1, "uni"), (2, "start")])
def test_the_solver_converges_with_its_order_for_every_prediction_both_ways(schedule, order, rule, falling):
    def ends(steps, order, rule):
        levels = even_levels(schedule, steps)
        return walked(schedule, pictures(), levels[::-1] if falling else levels, order, rule)

    exact = ends(2000, 2, "start")
    errors = [error(ends(steps, order, rule), exact) for steps in (40, 80, 160)]
    assert all(order - 0.2 < observed < order + 0.4 for observed in orders(errors)), errors


@pytest.mark.parametrize("kind", KINDS)
def test_an_inversion_moved_to_its_arrival_comes_back_nearer_than_one_that_is_not(kind):
    schedule = fine_schedule(kind)

    def returned(rule):
        return error(down(schedule, up(schedule, 40, 1, rule)[-1], 40, 1), pictures())

    assert returned("uni") < returned("start") / 3
    assert returned("uni") < returned("arrival") / 3


@pytest.mark.parametrize("rule", ["start", "arrival", "library"])
def test_an_aligned_edit_under_the_inversion_s_text_takes_back_the_inversion_exactly(schedule, rule):
    trajectory = up(schedule, 10, 1, rule)
    back = down(schedule, trajectory[-1], 10, 1, aligned=trajectory.flip(0), rule=rule)
    assert error(back, pictures()) < 1e-12
    assert error(down(schedule, trajectory[-1], 10, 1), pictures()) > 1e-3


def test_the_library_s_rule_is_its_inverse_scheduler_s():
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    for kind in ("epsilon", "v_prediction", "sample"):
        inverse = DDIMInverseScheduler.from_config(scheduler.config, prediction_type=kind)
        inverse.set_timesteps(50)
        schedule = VariancePreservingSchedule.from_scheduler(inverse)
        start, end = schedule.level(480), schedule.level(500)
        asked = []
        solver = Solver(schedule, (start, end), rule="library")
        x = pictures()

        def network(at, level, kind=kind, asked=asked):
            asked.append(level.t)
            return torch.sin(3 * at + level.t)

        ours = invert(x, (start,), solver.evaluated(network), solver.step)[-1]
        assert asked == [500]
        assert torch.allclose(ours, inverse.step(torch.sin(3 * x + 500), 500, x).prev_sample, atol=1e-6)


def test_a_flow_s_first_order_step_is_euler_s_in_both_directions():
    schedule = FlowSchedule(shift=3.0)
    predict = exact_network(schedule)
    for start, end in ((0.0, 0.2), (0.5, 0.6), (1.0, 0.8), (0.3, 0.0)):
        levels = (Level(1000 * start, 1 - start, start), Level(1000 * end, 1 - end, end))
        velocity = predict(pictures(), levels[0])
        stepped = Solver(schedule, levels).step(velocity, None, pictures())
        assert torch.allclose(stepped, pictures() + (end - start) * velocity, atol=1e-12)


def test_a_flow_s_levels_are_shifted_towards_the_noise_and_end_where_data_and_noise_are_pure():
    levels = FlowSchedule(shift=3.0).levels(4, 1.0, CELLS)
    assert [level.sigma for level in levels] == pytest.approx([0, 0.5, 0.75, 0.9, 1])
    assert [level.t for level in levels] == pytest.approx([0, 500, 750, 900, 1000])
    assert (levels[0].log_snr, levels[-1].log_snr) == (math.inf, -math.inf)


def test_fresh_noise_keeps_the_variance_of_a_flow_s_level():
    start, end = Level(800, 0.2, 0.8), Level(600, 0.4, 0.6)
    data = torch.zeros(1, 1, 200, 200)
    x = start.sigma * seeded_noise(data.shape, 1, data)
    stepped = stochastic_step(x, data, start, end, 1.0, seeded_noise(data.shape, 2, data))
    assert stepped.std().item() == pytest.approx(end.sigma, rel=0.02)


def no_signal_at_the_end(kind):
    """A schedule with zero terminal SNR (arXiv 2305.08891): at its last time nothing but noise is left."""
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=True,
        prediction_type=kind,
    )
    return VariancePreservingSchedule.from_scheduler(scheduler)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("order", [1, 2])
def test_the_exact_network_returns_a_picture_from_pure_noise_at_strength_one(kind, order):
    schedule = no_signal_at_the_end(kind)
    trajectory = up(schedule, 100, order, ratio=1.0)
    assert torch.isfinite(trajectory).all()
    assert trajectory[-1].std().item() == pytest.approx(1.0, rel=0.35)
    back = down(schedule, trajectory[-1], 100, order, ratio=1.0)
    assert torch.isfinite(back).all()


@pytest.mark.parametrize(
    "settings",
    [
        replace(FAST, steps=5),
        replace(PAPER, steps=5),
        replace(REFERENCE, steps=5),
        replace(PAPER, steps=5, inversion_rule="uni"),
        replace(PAPER, steps=5, aligned=True),
    ],
    ids=["fast", "paper", "reference", "uni", "aligned"],
)
def test_a_model_whose_last_level_is_pure_noise_edits_at_strength_one(settings):
    model = replace(tiny_model("sd2"), schedule=no_signal_at_the_end("v_prediction"))
    assert model.schedule.level_at(1.0, 1).alpha == 0
    engine = DiffEditEngine(model)
    pixels = np.random.default_rng(0).integers(0, 256, (NATIVE, NATIVE, 3), dtype=np.uint8)
    subject = Subject.of(pixels)
    trajectory = engine.trajectory(subject, "a horse", 1.0, settings)
    mask = torch.ones(NATIVE // 2, NATIVE // 2)
    latents = engine.edit(LatentEdit(subject, "a zebra", mask, 1.0, 4.0, settings), trajectory)
    assert torch.isfinite(latents).all()


def test_an_aligned_edit_of_the_engine_gives_the_picture_back_under_no_words():
    settings = replace(PAPER, steps=10, aligned=True, soft_strength=False)
    engine = DiffEditEngine(tiny_model("sd1"))
    subject = Subject.of(np.random.default_rng(0).integers(0, 256, (NATIVE, NATIVE, 3), dtype=np.uint8))
    everywhere = torch.ones(NATIVE // 2, NATIVE // 2)

    def back(settings):
        trajectory = engine.trajectory(subject, "", 0.8, settings)
        latents = engine.edit(LatentEdit(subject, "", everywhere, 0.8, 1.0, settings), trajectory)
        return (latents - trajectory[0]).abs().max().item()

    assert back(settings) < 1e-3
    assert back(replace(settings, aligned=False)) > 10 * back(settings)


def test_what_does_not_go_together_is_refused():
    schedule = FlowSchedule()
    levels = schedule.levels(4, 0.8, CELLS)
    with pytest.raises(ValueError, match="Order 2 goes with the rule 'start'"):
        Solver(schedule, levels, 2, "arrival")
    with pytest.raises(ValueError, match="no edit can be aligned"):
        Solver(schedule, levels[::-1], 1, "uni", aligned=torch.zeros(5, 1, 1, 1, 1))


@pytest.mark.parametrize(("settings", "inversion", "edit"), [(FAST, 2, 2), (PAPER, 1, 1), (REFERENCE, 1, 1)])
def test_rules_that_need_the_first_order_get_it(settings, inversion, edit):
    assert (settings.inversion_order, settings.edit_order) == (inversion, edit)
    assert replace(settings, inversion_rule="uni").inversion_order == 1
    aligned = replace(settings, aligned=True)
    assert (aligned.inversion_order, aligned.edit_order) == (1, 1)


def test_the_fresh_noise_of_a_step_is_asked_for_by_its_number():
    schedule = FlowSchedule()
    levels = schedule.levels(4, 0.8, CELLS)[::-1]
    asked = []

    def fresh(i):
        asked.append(i)
        return torch.zeros_like(pictures())

    solver = Solver(schedule, levels, 2, stochastic=Stochastic(0.5, fresh))
    x = pictures()
    for _ in range(count_steps(4, 0.8)):
        x = solver.step(torch.zeros_like(x), None, x)
    assert asked == [0, 1, 2]
