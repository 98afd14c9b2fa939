"""The method's pure functions, against the library's schedulers and against what can be worked out by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from diffedit_backend.method.denoise import Guided, blend, guide, masked_denoise, strength_masks
from diffedit_backend.method.difference import (
    average_maps,
    border_share,
    clamp_to_mean,
    mean_difference,
    prediction_difference,
    smooth,
)
from diffedit_backend.method.inversion import invert
from diffedit_backend.method.schedule import VariancePreservingSchedule
from diffedit_backend.method.solvers import Solver, ode_step, seeded_noise, stochastic_step
from diffusers import DDIMInverseScheduler, DDIMScheduler

CELLS = 64
SPREAD = 0.5  # of the data for which the best prediction is known


@pytest.fixture(scope="module")
def scheduler():
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=0,
    )


@pytest.fixture(scope="module")
def schedule(scheduler):
    return VariancePreservingSchedule.from_scheduler(scheduler)


def noise_of_gaussian_data(x, level):
    """What a perfect network says about data that are normal with deviation SPREAD."""
    return level.sigma * x / (level.alpha**2 * SPREAD**2 + level.sigma**2)


def there_and_back(schedule, steps, order, x0):
    levels = schedule.levels(steps, 0.8, CELLS)
    up = Solver(schedule, levels, order)
    trajectory = invert(x0, levels[:-1], up.evaluated(noise_of_gaussian_data), up.step)
    down = Solver(schedule, levels[::-1], order)
    everywhere = [torch.ones(1, 1, 1, 1, dtype=x0.dtype)] * (len(levels) - 1)
    return masked_denoise(
        trajectory[-1], levels[:0:-1], noise_of_gaussian_data, down.step, trajectory.flip(0)[1:], everywhere
    )


def up_and_back(schedule, every, x0):
    """The trajectory that asks at every so many-th level, and how far from `x0` it leads back."""
    levels = schedule.levels(16, 0.8, CELLS)
    asked = (*levels[:-1:every], levels[-1])
    up, trajectory = Solver(schedule, asked, 2), [x0]
    for index, level in enumerate(asked[:-1]):
        between = levels[index * every + 1 : min((index + 1) * every, len(levels) - 1)]
        trajectory += up.steps_up(noise_of_gaussian_data(trajectory[-1], level), trajectory[-1], between)
    down = Solver(schedule, levels[::-1], 2)
    everywhere = [torch.ones(1, 1, 1, 1, dtype=x0.dtype)] * (len(levels) - 1)
    backgrounds = torch.stack(trajectory).flip(0)[1:]
    back = masked_denoise(trajectory[-1], levels[:0:-1], noise_of_gaussian_data, down.step, backgrounds, everywhere)
    return torch.stack(trajectory), (back - x0).abs().max()


def test_an_inversion_that_asks_at_every_other_level_leads_back_as_well(schedule):
    x0 = SPREAD * torch.randn(1, 4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    each, there = up_and_back(schedule, 1, x0)
    other, back = up_and_back(schedule, 2, x0)
    assert other.shape == each.shape
    # The first step up, where the noise of clean latents is hardly told, is what either is off by.
    assert (other - each).abs().max() < 0.15 * each.abs().max()
    assert back < 1.1 * there < 0.2 * x0.abs().max()


def test_asking_at_every_level_is_the_inversion_itself(schedule):
    x0 = SPREAD * torch.randn(1, 4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    levels = schedule.levels(16, 0.8, CELLS)
    up = Solver(schedule, levels, 2)
    assert torch.equal(
        up_and_back(schedule, 1, x0)[0], invert(x0, levels[:-1], up.evaluated(noise_of_gaussian_data), up.step)
    )


def test_the_difference_is_the_mean_over_noises_and_channels():
    source, target = torch.zeros(2, 3, 1, 2), torch.zeros(2, 3, 1, 2)
    target[0, 0, 0, 1], target[1, 2, 0, 1] = 3.0, -3.0
    assert prediction_difference(source, target).tolist() == [[0.0, 1.0]]


def test_what_differs_by_chance_cancels_in_the_mean_of_differences():
    source, target = torch.zeros(2, 2, 1, 3), torch.zeros(2, 2, 1, 3)
    target[:, :, 0, 1] = torch.tensor([[3.0, 4.0], [3.0, 4.0]])  # with either noise
    target[:, :, 0, 2] = torch.tensor([[3.0, 4.0], [-3.0, -4.0]])  # as one noise or the other says
    assert mean_difference(source, target)[0].tolist() == pytest.approx([0.0, 12.5**0.5, 0.0])
    assert prediction_difference(source, target).tolist() == [[0.0, 3.5, 3.5]]


def test_a_ground_differs_along_the_border_and_a_thing_does_not_however_large():
    thing = torch.zeros(12, 12)
    thing[1:-1, 1:-1] = 1.0
    assert border_share(thing) == 0.0
    assert border_share(1 - thing) == 1.0
    touching = torch.zeros(12, 12)
    touching[:6, 3:9] = 1.0
    assert border_share(touching) == pytest.approx(6 / 44)


def test_maps_of_two_levels_count_alike_in_the_unit_of_the_first():
    first, second = torch.tensor([[0.1, 0.3]]), torch.tensor([[6.0, 2.0]])
    assert torch.allclose(average_maps(first, second), torch.tensor([[0.2, 0.2]]))
    assert torch.equal(average_maps(first, torch.zeros(1, 2)), first / 2)


def test_a_map_without_any_difference_stays_empty_instead_of_becoming_nan():
    assert clamp_to_mean(torch.zeros(4, 4)).eq(0).all()


def test_every_map_of_a_batch_is_clamped_at_its_own_mean():
    maps = torch.rand(2, 8, 8)
    maps[1] *= 100
    assert torch.equal(clamp_to_mean(maps)[0], clamp_to_mean(maps[0]))


def test_smoothing_keeps_a_flat_map_and_the_sum_of_a_peak():
    peak = torch.zeros(9, 9)
    peak[4, 4] = 1.0
    assert torch.allclose(smooth(torch.full((5, 7), 0.3), 0.7), torch.full((5, 7), 0.3))
    assert smooth(peak, 0.7).sum().item() == pytest.approx(1.0, abs=1e-5)


def test_first_order_steps_are_those_of_the_library_in_both_directions(scheduler, schedule):
    inverse = DDIMInverseScheduler.from_config(scheduler.config)
    scheduler.set_timesteps(50)
    inverse.set_timesteps(50)
    x, output = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64)
    start, end = schedule.level(480), schedule.level(500)
    up = Solver(schedule, (start, end)).step(output, end, x)
    down = Solver(schedule, (end, start)).step(output, end, x)
    assert torch.allclose(up, inverse.step(output, 500, x).prev_sample, atol=1e-6)
    assert torch.allclose(down, scheduler.step(output, 500, x).prev_sample, atol=1e-6)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_what_a_network_predicts_is_read_as_it_was_trained(schedule, kind):
    data, noise = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64)
    level = schedule.level(600)
    x = level.alpha * data + level.sigma * noise
    output = {"epsilon": noise, "sample": data, "v_prediction": level.alpha * noise - level.sigma * data}[kind]
    read = VariancePreservingSchedule(schedule.alphas_cumprod, kind).data_and_noise(output, x, level)
    assert torch.allclose(read[0], data)
    assert torch.allclose(read[1], noise)


def test_an_unknown_kind_of_prediction_is_refused_by_its_name(schedule):
    with pytest.raises(ValueError, match="flow_prediction"):
        VariancePreservingSchedule(schedule.alphas_cumprod, "flow_prediction")


def test_a_picture_comes_back_from_its_inversion_the_nearer_the_more_steps_are_taken(schedule):
    x0 = SPREAD * seeded_noise((1, 4, 8, 8), 1, torch.zeros(1, dtype=torch.float64))
    few, many = ((there_and_back(schedule, steps, 1, x0) - x0).abs().max() for steps in (10, 100))
    assert many < few / 5


def test_the_second_order_solver_comes_nearer_than_the_first_with_as_many_steps(schedule):
    x0 = SPREAD * seeded_noise((1, 4, 8, 8), 1, torch.zeros(1, dtype=torch.float64))
    first, second = ((there_and_back(schedule, 20, order, x0) - x0).abs().max() for order in (1, 2))
    assert second < first / 2


def test_outside_of_the_mask_the_clean_latents_come_back_bit_for_bit(schedule):
    levels = schedule.levels(10, 0.8, CELLS)
    x0 = torch.randn(1, 4, 8, 8)
    trajectory = invert(x0, levels[1:], noise_of_gaussian_data, Solver(schedule, levels).step)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:5, 2:5] = 1
    result = masked_denoise(
        trajectory[-1],
        levels[:0:-1],
        lambda x, level: noise_of_gaussian_data(x, level) + 0.1,
        Solver(schedule, levels[::-1]).step,
        trajectory.flip(0)[1:],
        [mask] * (len(levels) - 1),
    )
    outside = (mask == 0).expand_as(x0)
    assert torch.equal(result[outside], x0[outside])
    assert not torch.allclose(result[~outside], x0[~outside], atol=1e-2)


def test_after_every_step_the_background_is_that_of_the_level_just_reached(schedule):
    levels = schedule.levels(5, 1.0, CELLS)
    x0 = torch.randn(1, 4, 2, 2)
    trajectory = invert(x0, levels[1:], noise_of_gaussian_data, Solver(schedule, levels).step)
    reached = []
    masked_denoise(
        trajectory[-1],
        levels[:0:-1],
        noise_of_gaussian_data,
        Solver(schedule, levels[::-1]).step,
        trajectory.flip(0)[1:],
        [torch.zeros(1, 1, 1, 1)] * 5,
        lambda _, x: reached.append(x),
    )
    assert torch.equal(torch.stack(reached), trajectory.flip(0)[1:])


def test_a_soft_mask_frees_a_cell_for_its_share_of_the_last_steps():
    masks = strength_masks(torch.tensor([0.0, 0.25, 0.5, 1.0]).view(1, 1, 1, 4), 4)
    assert masks.sum(0).flatten().tolist() == [0, 1, 2, 4]
    assert masks[-1].flatten().tolist() == [0, 1, 1, 1]


def test_guidance_of_one_is_the_conditional_prediction():
    unconditional, conditional = torch.randn(2, 1, 4, 2, 2)
    assert torch.allclose(guide(unconditional, conditional, 1.0), conditional, atol=1e-6)
    assert torch.allclose(guide(unconditional, conditional, 3.0), 3 * conditional - 2 * unconditional, atol=1e-6)


@pytest.mark.parametrize(("every", "asked"), [(1, [0, 1, 2, 3, 4, 5]), (2, [0, 1, 3, 5]), (3, [0, 1, 4])])
def test_guidance_leads_between_the_steps_at_which_it_asks_as_far_as_at_the_last_of_them(every, asked):
    without, under = torch.randn(2, 6, 1, 4, 2, 2)
    both, alone = [], []

    def without_and_under(_x, step):
        both.append(step)
        return without[step], under[step]

    def only_under(_x, step):
        alone.append(step)
        return under[step]

    guided = Guided(without_and_under, only_under, lambda *two: guide(*two, 3.0), every)
    for step in range(6):
        last = max(earlier for earlier in asked if earlier <= step)
        expected = under[step] + 2.0 * (under[last] - without[last])
        assert torch.allclose(guided(torch.zeros(1), step), expected, atol=1e-5)
    assert both == asked
    assert sorted(both + alone) == list(range(6))


def test_blending_with_a_mask_of_zero_returns_the_background_itself():
    edited, background = torch.full((4,), float("1e30")), torch.randn(4)
    assert torch.equal(blend(edited, background, torch.zeros(4)), background)


def test_fresh_noise_keeps_the_variance_of_a_level(schedule):
    start, end = schedule.level(800), schedule.level(700)
    data = torch.zeros(1, 1, 200, 200)
    x = start.sigma * seeded_noise(data.shape, 1, data)
    stepped = stochastic_step(x, data, start, end, 1.0, seeded_noise(data.shape, 2, data))
    assert stepped.std().item() == pytest.approx(end.sigma, rel=0.02)


def test_without_eta_a_stochastic_step_is_the_plain_one(schedule):
    x, data, fresh = torch.randn(3, 1, 4, 4, 4, dtype=torch.float64)
    start, end = schedule.level(800), schedule.level(700)
    stepped = stochastic_step(x, data, start, end, 0.0, fresh)
    assert torch.allclose(stepped, ode_step(x, data, start, end), atol=1e-12)


def test_the_noise_of_a_seed_is_the_same_in_every_precision():
    like32, like16 = torch.zeros(1), torch.zeros(1, dtype=torch.float16)
    assert torch.equal(seeded_noise((3, 2), 5, like32).half(), seeded_noise((3, 2), 5, like16))


@pytest.mark.parametrize(("steps", "ratio", "count"), [(50, 0.58, 29), (50, 0.8, 40), (20, 1.0, 20), (10, 0.01, 1)])
def test_the_encoding_ratio_takes_its_rounded_share_of_the_steps(schedule, steps, ratio, count):
    levels = schedule.levels(steps, ratio, CELLS)
    assert len(levels) == count + 1
    assert levels[-1].t == round(ratio * 999)
    assert all(low.t < high.t for low, high in pairwise(levels))
