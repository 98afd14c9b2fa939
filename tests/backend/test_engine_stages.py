"""The engine: what is computed once, what a change costs, and what it tells while it works."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffedit_backend.editing import edit_picture
from diffedit_backend.method.cache import ContentCache
from diffedit_backend.method.encoding import Projection
from diffedit_backend.method.engine import DiffEditEngine, LatentEdit, Subject
from diffedit_backend.method.memory import DeviceMemoryError
from diffedit_backend.method.network import Network
from diffedit_backend.method.schedule import count_steps
from diffedit_backend.method.settings import FAST, REFERENCE, settings_for
from diffedit_backend.method.steps import EditCancelled
from diffedit_backend.method.text import encode_text, words_beyond
from diffedit_backend.models import load_model
from diffedit_bench.quality.cases import bundled_cases
from diffedit_protocol.errors import ModelError
from diffedit_protocol.messages import EditRequest
from tiny_models import NATIVE, tiny_model, with_denoiser

QUICK = replace(FAST, steps=5, maps=2)
INVERTED = 2  # evaluations of an inversion of 4 levels, which asks at every other one
WALKED = 4 + 3  # evaluations of an edit of 4 levels, of which 3 ask what guidance leads away from
MASK = torch.zeros(NATIVE // 2, NATIVE // 2)
MASK[4:12, 4:12] = 1


@pytest.fixture(scope="module", params=["sd1", "sd2", "xl"])
def model(request):
    return tiny_model(request.param)


@pytest.fixture(scope="module")
def sd1():
    return tiny_model("sd1")


@pytest.fixture(scope="module")
def subject():
    return Subject.of(np.random.default_rng(0).integers(0, 256, (NATIVE, NATIVE, 3), dtype=np.uint8))


def edited(engine, subject, target="a zebra", seeds=(0,), settings=QUICK, **options):
    trajectory = engine.trajectory(subject, "a horse", 0.8, settings)
    return engine.edit(LatentEdit(subject, target, MASK, 0.8, 4.0, settings, seeds=seeds, **options), trajectory)


def test_an_edit_runs_on_every_kind_of_stable_diffusion_and_keeps_the_background(model, subject):
    engine = DiffEditEngine(model)
    latents = edited(engine, subject)
    x0 = engine.encode(subject)
    outside = (MASK == 0).expand_as(x0)
    assert torch.equal(latents[outside], x0[outside])
    assert not torch.allclose(latents[~outside], x0[~outside], atol=1e-2)
    picture = engine.decode(latents)[0]
    assert picture.shape == (NATIVE, NATIVE, 3)
    assert picture.dtype == np.uint8


def test_a_lower_strength_takes_its_inversion_from_a_higher_one_that_is_kept(sd1, subject):
    engine, alone = DiffEditEngine(sd1), DiffEditEngine(sd1)
    higher = engine.trajectory(subject, "a horse", 0.8, QUICK)
    before = engine.evaluations
    lower = engine.trajectory(subject, "a horse", 0.6, QUICK)
    assert engine.evaluations == before == INVERTED
    assert torch.equal(lower, higher[:4])
    assert torch.equal(lower, alone.trajectory(subject, "a horse", 0.6, QUICK))
    engine.trajectory(subject, "a horse", 0.7, QUICK)  # its levels lie elsewhere
    assert engine.evaluations == before + INVERTED


def test_a_first_edit_costs_what_its_settings_say(sd1, subject):
    engine = DiffEditEngine(sd1)
    engine.difference(subject, "a horse", "a zebra", QUICK)
    assert engine.evaluations == 2 * 2
    edited(engine, subject)
    assert engine.evaluations == 2 * 2 + INVERTED + WALKED


class Looking(DiffEditEngine):
    """An engine that notes at which ratios it looks for the difference."""

    ratios: tuple[float, ...] = ()

    def predictions(self, subject, text, settings, look, *batch_done):
        self.ratios = (*self.ratios, look.ratio)
        return super().predictions(subject, text, settings, look, *batch_done)


def test_the_second_look_has_less_noise_for_a_thing_and_more_for_a_ground():
    model = load_model("bundled", "cpu")
    cases = bundled_cases(8, 77, model.native_size)
    for case in map(cases.load, cases.names):
        engine = Looking(model)
        engine.difference(Subject.of(case.source), case.source_text, case.target_text, FAST)
        thing, ground = FAST.second_ratios
        assert set(engine.ratios) == {FAST.map_ratio, ground if case.kind == "background" else thing}, case.kind


def test_a_search_tells_from_the_first_step_how_many_there_are_also_of_a_second_target(sd1, subject):
    engine = DiffEditEngine(sd1)
    for target, count in (("a zebra", 4), ("a donkey", 2)):
        steps = []
        engine.difference(subject, "a horse", target, QUICK, steps.append)
        finding = [(step.step, step.total) for step in steps if step.stage == "finding"]
        assert finding == [(i, count) for i in range(1, count + 1)], target


def test_a_draft_of_one_noise_looks_once(sd1, subject):
    engine, settings = Looking(sd1), replace(QUICK, maps=1)
    engine.difference(subject, "a horse", "a zebra", settings)
    assert engine.ratios == (settings.map_ratio,) * 2
    assert engine.evaluations == 2


def test_a_second_target_costs_only_what_depends_on_it(sd1, subject):
    engine = DiffEditEngine(sd1)
    engine.difference(subject, "a horse", "a zebra", QUICK)
    edited(engine, subject)
    before = engine.evaluations
    engine.difference(subject, "a horse", "a donkey", QUICK)
    assert engine.evaluations == before + 2
    edited(engine, subject, "a donkey")
    assert engine.evaluations == before + 2 + WALKED


def test_swapping_the_texts_costs_no_evaluation_of_the_mask(sd1, subject):
    engine = DiffEditEngine(sd1)
    there = engine.difference(subject, "a horse", "a zebra", QUICK)
    before = engine.evaluations
    back = engine.difference(subject, "a zebra", "a horse", QUICK)
    assert engine.evaluations == before
    assert torch.equal(there, back)


def test_several_seeds_share_inversion_and_give_what_each_gives_alone(sd1, subject):
    engine = DiffEditEngine(sd1)
    together = edited(engine, subject, seeds=(3, 4))
    assert engine.evaluations == INVERTED + 2 * WALKED
    alone = edited(engine, subject, seeds=(4,))
    assert torch.allclose(together[1:], alone, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


def test_a_guidance_of_one_needs_no_unconditional_rows(sd1, subject):
    engine = DiffEditEngine(sd1)
    trajectory = engine.trajectory(subject, "", 0.8, QUICK)
    before = engine.evaluations
    engine.edit(LatentEdit(subject, "a zebra", MASK, 0.8, 1.0, QUICK), trajectory)
    assert engine.evaluations == before + 4


def test_guidance_leads_away_from_the_source_at_no_further_cost(model, subject):
    engine = DiffEditEngine(model)
    whole, half = replace(QUICK, away=1.0), replace(QUICK, away=0.5)
    plain = edited(engine, subject, settings=replace(QUICK, away=0.0))
    before = engine.evaluations
    away = edited(engine, subject, settings=whole, source="a horse")
    assert engine.evaluations == before + WALKED
    assert torch.equal(away, edited(engine, subject, settings=replace(QUICK, away=0.0), negative="a horse"))
    between = edited(engine, subject, settings=half, source="a horse")
    assert not torch.allclose(between, plain, atol=1e-3)
    assert not torch.allclose(between, away, atol=1e-3)
    assert torch.equal(edited(engine, subject, settings=whole, source=" "), plain)


def test_the_reference_inverts_under_the_source_with_guidance(sd1, subject):
    settings = replace(REFERENCE, steps=5)
    engine = DiffEditEngine(sd1)
    engine.trajectory(subject, "a horse", 0.8, settings)
    assert engine.evaluations == 2 * 4


def test_first_order_editing_is_ddim_written_out(sd1, subject):
    settings = replace(QUICK, order=1, eta=0.0, guidance_every=1, steps=10)
    engine = DiffEditEngine(sd1)
    trajectory = engine.trajectory(subject, "", 1.0, settings)
    everywhere = torch.ones_like(MASK)
    ours = engine.edit(LatentEdit(subject, "a zebra", everywhere, 1.0, 4.0, settings), trajectory)
    x, predict = trajectory[-1], engine._predictor("a zebra", "", 4.0)
    levels = sd1.schedule.levels(10, 1.0, NATIVE**2 // 4)[::-1]
    for start, end in pairwise(levels):
        noise = predict(x, start)
        x = end.alpha * (x - start.sigma * noise) / start.alpha + end.sigma * noise
    assert torch.allclose(ours, x, atol=1e-3)


def test_steps_are_told_in_order_with_a_preview_while_editing(sd1, subject):
    steps = []
    engine = DiffEditEngine(sd1)
    engine.difference(subject, "a horse", "a zebra", QUICK, steps.append)
    trajectory = engine.trajectory(subject, "a horse", 0.8, QUICK, steps.append)
    latents = engine.edit(LatentEdit(subject, "a zebra", MASK, 0.8, 4.0, QUICK, preview=True), trajectory, steps.append)
    engine.decode(latents, steps.append)
    assert [s.stage for s in steps] == (
        ["encoding"] + 4 * ["finding"] + INVERTED * ["inverting"] + 4 * ["editing"] + ["decoding"]
    )
    for stage in {s.stage for s in steps}:
        reported = [s for s in steps if s.stage == stage]
        assert [s.step for s in reported] == list(range(1, reported[-1].total + 1))
    previews = [s.preview for s in steps if s.stage == "editing"]
    assert all(p.shape == (NATIVE, NATIVE, 3) and p.dtype == np.uint8 for p in previews)
    outside = torch.nn.functional.interpolate(MASK[None, None], scale_factor=2, mode="bilinear")[0, 0] == 0
    assert np.array_equal(previews[-1][outside], subject.pixels[outside])


@pytest.mark.parametrize("stage", ["finding", "inverting", "editing"])
def test_cancelling_stops_within_one_step_of_every_stage(sd1, subject, stage):
    engine = DiffEditEngine(sd1)
    after_cancel = []

    def on_step(step):
        after_cancel.append(step)
        if step.stage == stage:
            raise EditCancelled

    def run():
        engine.difference(subject, "a horse", "a zebra", QUICK, on_step)
        trajectory = engine.trajectory(subject, "a horse", 0.8, QUICK, on_step)
        engine.edit(LatentEdit(subject, "a zebra", MASK, 0.8, 4.0, QUICK), trajectory, on_step)

    with pytest.raises(EditCancelled):
        run()
    assert [s.stage for s in after_cancel].count(stage) == 1
    assert after_cancel[-1].stage == stage


def test_after_a_cancel_the_next_edit_is_right(sd1, subject):
    engine = DiffEditEngine(sd1)

    def cancel_at_second(step):
        if step.step == 2:
            raise EditCancelled

    with pytest.raises(EditCancelled):
        engine.trajectory(subject, "a horse", 0.8, QUICK, cancel_at_second)
    assert torch.equal(edited(engine, subject), edited(DiffEditEngine(sd1), subject))


class SmallDevice(torch.nn.Module):
    """A UNet on a device whose memory holds `capacity` samples."""

    def __init__(self, denoiser, capacity):
        super().__init__()
        self.denoiser, self.capacity, self.config = denoiser, capacity, denoiser.config
        self.batches = []

    def forward(self, x, *args, **kwargs):
        self.batches.append(len(x))
        if len(x) > self.capacity:
            raise torch.OutOfMemoryError("scripted")
        return self.denoiser(x, *args, **kwargs)


def test_out_of_memory_is_answered_once_with_smaller_batches(sd1, subject):
    small = SmallDevice(sd1.denoiser, capacity=1)
    settings = replace(QUICK, maps=2, second_ratios=None)
    difference = DiffEditEngine(with_denoiser(sd1, small)).difference(subject, "a horse", "a zebra", settings)
    assert small.batches == [2, 1, 1, 2, 1, 1]
    assert torch.allclose(
        difference, DiffEditEngine(sd1).difference(subject, "a horse", "a zebra", settings), atol=1e-5
    )


def test_what_does_not_fit_in_half_either_is_reported(sd1, subject):
    engine = DiffEditEngine(with_denoiser(sd1, SmallDevice(sd1.denoiser, capacity=0)))
    with pytest.raises(DeviceMemoryError, match="scripted"):
        engine.difference(subject, "a horse", "a zebra", QUICK)


def test_many_noises_go_through_the_network_in_bounded_batches(sd1):
    network = Network(sd1)
    assert network.batch_size(torch.empty(1, 4, 16, 16)) * 16 * 16 <= 4096
    assert network.batch_size(torch.empty(1, 4, 128, 128)) == 1
    pieces = list(network.batches(torch.empty(1, 4, 16, 16), 20))
    assert pieces[0].start == 0
    assert pieces[-1].stop == 20
    assert all(a.stop == b.start for a, b in pairwise(pieces))


def test_sdxl_is_told_the_picture_s_size_and_the_pooled_text(subject):
    model = tiny_model("xl")
    seen = {}

    class Spy(torch.nn.Module):
        config = model.denoiser.config

        def forward(self, x, *args, **kwargs):
            seen.update(kwargs["added_cond_kwargs"])
            return model.denoiser(x, *args, **kwargs)

    DiffEditEngine(with_denoiser(model, Spy())).trajectory(subject, "", 0.8, replace(QUICK, inversion_text="source"))
    assert seen["time_ids"].tolist() == [[NATIVE, NATIVE, 0, 0, NATIVE, NATIVE]]
    assert seen["text_embeds"].shape == (1, 24)


def test_sdxl_joins_both_encoders_and_takes_zeros_for_no_text():
    model = tiny_model("xl")
    condition = encode_text(model, "a horse")
    assert condition.tokens.shape == (16, 16 + 24)
    assert condition.pooled.shape == (24,)
    empty = encode_text(model, "")
    assert not empty.tokens.any()
    assert not empty.pooled.any()


def test_the_words_beyond_the_text_encoder_s_reach_are_known(sd1):
    assert words_beyond(sd1, "abc") == ""
    assert words_beyond(sd1, "abcdefghijklmnopqrst") == "opqrst"


def test_the_cache_lets_go_of_what_was_not_used_for_longest():
    cache = ContentCache(100)
    made = []

    def use(name, size=40):
        def make():
            made.append(name)
            return np.zeros(size, np.uint8)

        return cache.get((name,), make)

    for name in ("a", "b", "a", "c", "a", "b"):
        use(name)
    assert made == ["a", "b", "c", "b"]
    assert cache.used_bytes == 80
    use("too large", 101)
    assert ("too large",) not in cache
    assert cache.used_bytes == 80


def test_two_pictures_never_share_what_was_computed(sd1, subject):
    engine = DiffEditEngine(sd1)
    other = Subject.of(255 - subject.pixels)
    assert not torch.equal(
        engine.difference(subject, "a horse", "a zebra", QUICK), engine.difference(other, "a horse", "a zebra", QUICK)
    )


def test_the_preview_s_colours_are_those_of_the_picture(sd1):
    y, x = np.mgrid[:NATIVE, :NATIVE] * 255 // (NATIVE - 1)
    pixels = np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)
    latents = torch.from_numpy(pixels[::2, ::2].astype(np.float32)).permute(2, 0, 1)[None] / 50 - 2
    colours = Projection(torch.cat((latents, torch.randn(1, 1, 16, 16)), dim=1), pixels)(
        torch.cat((latents, torch.zeros(1, 1, 16, 16)), dim=1)
    )
    assert (colours.permute(1, 2, 0).numpy() - pixels[::2, ::2]).__abs__().mean() < 12


@pytest.mark.parametrize("method", ["fast", "paper", "reference"])
def test_a_finer_quality_takes_more_steps_and_maps(method):
    draft, normal, fine = (settings_for(method, quality) for quality in ("draft", "normal", "fine"))
    assert draft.steps < normal.steps < fine.steps
    assert draft.maps < normal.maps < fine.maps


@pytest.mark.parametrize(
    ("steps", "draft", "normal", "fine"), [(None, 10, 16, 32), (12, 10, 12, 24), (8, 8, 8, 16), (30, 18, 30, 60)]
)
def test_a_model_says_how_many_steps_suffice_and_a_draft_keeps_ten(steps, draft, normal, fine):
    found = [settings_for("fast", quality, steps=steps).steps for quality in ("draft", "normal", "fine")]
    assert found == [draft, normal, fine]
    assert settings_for("paper", "normal", steps=steps).steps == 50
    assert settings_for("align", "normal", steps=steps).steps == 20


def test_an_edit_takes_the_steps_that_suffice_for_its_model(sd1, subject):
    request = EditRequest("a horse", "a zebra", threshold=0.5, preview=False)
    taken = []
    for steps in (None, 8):
        told = []
        edit_picture(DiffEditEngine(replace(sd1, steps=steps)), request, subject.pixels, on_step=told.append)
        taken.append(next(step.total for step in told if step.stage == "editing"))
    assert taken == [count_steps(FAST.steps, request.strength), count_steps(8, request.strength)]


def damaged(network):
    """A copy of a network, all of whose weights are no numbers."""
    network = copy.deepcopy(network)
    for parameter in network.parameters():
        parameter.data.fill_(float("nan"))
    return network


@pytest.mark.parametrize(("part", "stage"), [("vae", "the encoded picture"), ("denoiser", "the difference map")])
def test_weights_that_are_no_numbers_are_told_and_not_painted_black(sd1, subject, part, stage):
    engine = DiffEditEngine(replace(sd1, **{part: damaged(getattr(sd1, part))}))
    with pytest.raises(ModelError, match=f"values that are no numbers for {stage} in float32"):
        engine.difference(subject, "a horse", "a zebra", QUICK)


@pytest.mark.parametrize("stage", ["the inversion", "the edit", "the decoded picture"])
def test_every_stage_after_the_map_tells_of_values_that_are_no_numbers(sd1, subject, stage):
    sound = DiffEditEngine(sd1)
    trajectory = sound.trajectory(subject, "a horse", 0.8, QUICK)
    engine = DiffEditEngine(replace(sd1, denoiser=damaged(sd1.denoiser), vae=damaged(sd1.vae)))
    engine.cache = sound.cache  # the latents are known
    run = {
        "the inversion": lambda: engine.trajectory(subject, "", 0.5, QUICK),
        "the edit": lambda: engine.edit(LatentEdit(subject, "a zebra", MASK, 0.8, 4.0, QUICK), trajectory),
        "the decoded picture": lambda: engine.decode(trajectory[0]),
    }[stage]
    with pytest.raises(ModelError, match=f"values that are no numbers for {stage}"):
        run()


def test_paper_is_the_paper():
    paper = settings_for("paper", "normal")
    assert (paper.steps, paper.order, paper.maps, paper.map_ratio) == (50, 1, 10, 0.5)
    assert (paper.map_rule, paper.smoothing, paper.refine, paper.fixed_threshold) == ("peak", 0.0, False, 0.5)
    assert (paper.inversion_text, paper.away, paper.eta, paper.soft_strength) == ("empty", 0.0, 0.0, False)
