"""The faults of the deprecated class, one by one as docs/faults.md numbers them: what it does, and what ours does."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import transformers
from diffusers import DDIMInverseScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler
from PIL import Image

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:diffusers", "ignore::DeprecationWarning:diffusers")

SOURCE, TARGET = "a bowl of fruit", "a bowl of pears"
TEXTS = {"source_prompt": SOURCE, "target_prompt": TARGET}


@pytest.fixture
def half_mask():
    """(16, 16), the left half masked."""
    mask = torch.zeros(16, 16)
    mask[:, :8] = 1
    return mask


def count_rows(module):
    """A list that gets the batch size of every forward pass of `module`, and the hook to remove."""
    rows = []
    return rows, module.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))


def evaluations(pipeline, call):
    rows, hook = count_rows(pipeline.unet)
    try:
        call(pipeline)
    finally:
        hook.remove()
    return sum(rows)


def test_fault_01_swapped_embeddings_the_map_follows_the_guided_predictions(make_pair, latents, seed):
    pair = make_pair()
    negatives = {"source_negative_prompt": "a plate", "target_negative_prompt": "blurred, dark"}
    arguments = {**TEXTS, **negatives, "num_maps_per_mask": 2, "guidance_scale": 4.0}
    old, ours = (p.generate_mask(latents, generator=seed(0), **arguments) for p in (pair.old, pair.ours))

    p = pair.ours
    noise = torch.randn(2, 4, 16, 16, generator=seed(0), dtype=torch.float64)
    p.scheduler.set_timesteps(50)
    t = p.scheduler.timesteps[25]
    noised = p.scheduler.add_noise(latents, noise, t)

    def guided(prompt, negative):
        positive, against = p.encode_prompt(prompt, "cpu", 2, True, negative)
        with torch.no_grad():
            conditional, other = (p.unet(noised, t, encoder_hidden_states=e).sample for e in (positive, against))
        return other + 4.0 * (conditional - other)

    difference = (guided(TARGET, "blurred, dark") - guided(SOURCE, "a plate")).abs().mean(dim=(0, 1))
    expected = (difference > 1.5 * difference.mean()).long()[None].numpy()
    assert np.array_equal(ours, expected)
    assert not np.array_equal(old, expected)


def test_fault_01_equal_negatives_cancel_so_that_half_of_the_evaluations_are_saved(make_pair, latents):
    pair = make_pair(torch.float32)
    rows = [
        evaluations(p, lambda p: p.generate_mask(latents.float(), **TEXTS, source_negative_prompt=""))
        for p in (pair.old, pair.ours)
    ]
    assert rows == [40, 20]


@pytest.mark.parametrize(
    ("scheduler", "arguments"),
    [
        (None, {"guidance_scale": 1.0}),
        (None, {"guidance_scale": 0.0}),
        (None, {"output_type": "pil"}),
        ("dpm", {}),
        (EulerDiscreteScheduler, {}),
        (HeunDiscreteScheduler, {}),
    ],
    ids=["guidance 1", "guidance 0", "pil", "dpm-solver", "euler", "heun"],
)
def test_fault_02_masks_come_with_any_guidance_scheduler_and_output(make_pair, latents, seed, scheduler, arguments):
    pair = make_pair(schedule="dpm" if scheduler == "dpm" else "ddim")
    if isinstance(scheduler, type):
        for p in (pair.old, pair.ours):
            p.scheduler = scheduler.from_config(p.scheduler.config)
    with pytest.raises((TypeError, RuntimeError, AttributeError)):
        pair.old.generate_mask(latents, **TEXTS, num_maps_per_mask=2, **arguments)
    mask = pair.ours.generate_mask(latents, **TEXTS, num_maps_per_mask=2, generator=seed(0), **arguments)
    if arguments.get("output_type") == "pil":
        assert (mask[0].size, mask[0].mode) == ((16, 16), "L")
        mask = np.asarray(mask[0]) // 255
    assert 0 < mask.sum() < mask.size


@pytest.mark.parametrize("schedule", ["ddim", "dpm"])
def test_fault_03_the_background_is_that_of_the_level_just_reached_and_x0_at_the_end(
    make_pair, latents, half_mask, schedule
):
    pair = make_pair(schedule=schedule)
    x0 = latents
    for p, right in ((pair.old, False), (pair.ours, True)):
        trajectory = p.invert(SOURCE, x0, num_inference_steps=5).latents
        backgrounds = [*trajectory[0, 1:, :, :, 8:], x0[0, :, :, 8:]]
        seen = []
        arguments = {"num_inference_steps": 5, "output_type": "latent"}
        result = p(
            TARGET,
            half_mask,
            trajectory,
            callback=lambda i, t, x, seen=seen: seen.append(x[0, :, :, 8:].clone()),
            **arguments,
        )
        assert all(torch.equal(a, b) for a, b in zip(seen, backgrounds, strict=True)) is right
        assert torch.equal(result.images[..., 8:], x0[..., 8:]) is right
        assert not torch.equal(result.images[..., :8], x0[..., :8])


def test_fault_03_pixels_outside_the_mask_come_back_bit_for_bit(make_pair, picture, half_mask):
    pair = make_pair(torch.float32)
    original = np.asarray(picture)
    for p, right in ((pair.old, False), (pair.ours, True)):
        trajectory = p.invert(SOURCE, picture, num_inference_steps=5).latents
        edited = np.asarray(p(TARGET, half_mask, trajectory, 0.8, 5).images[0])
        assert np.array_equal(edited[:, 16:], original[:, 16:]) is right
        assert not np.array_equal(edited[:, :16], original[:, :16])


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_fault_04_equal_prompts_give_an_empty_mask_and_cost_nothing(make_pair, latents):
    pair = make_pair(torch.float32)
    same = {"source_prompt": SOURCE, "target_prompt": SOURCE, "num_maps_per_mask": 2}
    assert pair.old.generate_mask(latents.float(), **same).all()
    assert not pair.ours.generate_mask(latents.float(), **same).any()
    assert evaluations(pair.ours, lambda p: p.generate_mask(latents.float(), **same)) == 0


def test_fault_04_strength_0_gives_the_picture_back(make_pair, picture, half_mask):
    pair = make_pair(torch.float32)
    with pytest.raises((RuntimeError, IndexError)):
        pair.old.invert(SOURCE, picture, inpaint_strength=0.0)
    with pytest.raises((RuntimeError, IndexError)):
        pair.old.generate_mask(picture, **TEXTS, mask_encode_strength=0.0)
    assert pair.ours.generate_mask(picture, **TEXTS, mask_encode_strength=0.0).shape == (1, 16, 16)
    trajectory = pair.ours.invert(SOURCE, picture, inpaint_strength=0.0).latents
    assert trajectory.shape == (1, 0, 4, 16, 16)
    edited = pair.ours(TARGET, half_mask, trajectory).images[0]
    assert np.array_equal(np.asarray(edited), np.asarray(picture))


@pytest.mark.parametrize(("strength", "count"), [(0.58, 29), (0.57, 28), (0.3, 15), (0.8, 40), (1.0, 50)])
def test_fault_04_the_number_of_levels_is_that_of_exact_arithmetic(make_pair, strength, count):
    pair = make_pair(torch.float32)
    counts = []
    for p in (pair.old, pair.ours):
        p.scheduler.set_timesteps(50)
        p.inverse_scheduler.set_timesteps(50)
        counts.append((p.get_timesteps(50, strength, "cpu")[1], p.get_inverse_timesteps(50, strength, "cpu")[1]))
    assert counts[1] == (count, count)
    assert (counts[0] == counts[1]) is (strength != 0.58)


def test_fault_05_the_picture_is_encoded_once_and_every_stage_sees_the_same_latents(make_pair, picture, monkeypatch):
    pair = make_pair(torch.float32)
    encoded = {}
    for name, p in (("old", pair.old), ("ours", pair.ours)):
        rows, hook = count_rows(p.vae.encoder)
        noised, inverted = [], []
        add_noise, step = p.scheduler.add_noise, p.inverse_scheduler.step
        monkeypatch.setattr(
            p.scheduler, "add_noise", lambda x0, *rest, f=add_noise, to=noised: to.append(x0) or f(x0, *rest)
        )
        monkeypatch.setattr(
            p.inverse_scheduler, "step", lambda e, t, x, f=step, to=inverted: to.append(x) or f(e, t, x)
        )
        p.generate_mask(picture, **TEXTS, num_maps_per_mask=4)
        encoded[name] = sum(rows)
        p.invert(SOURCE, picture, num_inference_steps=5)
        hook.remove()
        same = all(torch.equal(x0, inverted[0][0]) for x0 in noised[0])
        assert same is (name == "ours")
    assert encoded == {"old": 4, "ours": 1}


def test_fault_06_the_result_has_the_size_of_the_picture(make_pair, picture):
    pair = make_pair(torch.float32)
    odd = picture.resize((39, 45))
    mask = np.zeros((45, 39), np.float32)
    mask[:, :20] = 1
    for p, right in ((pair.old, False), (pair.ours, True)):
        found = p.generate_mask(odd, **TEXTS, num_maps_per_mask=2)
        assert found.shape == (1, 22, 19)
        trajectory = p.invert(SOURCE, odd, num_inference_steps=5).latents
        edited = p(TARGET, found if p is pair.old else mask, trajectory, 0.8, 5).images[0]
        assert (edited.size == odd.size) is right
    assert np.array_equal(np.asarray(edited)[:, 20:], np.asarray(odd)[:, 20:])


def test_fault_06_a_mask_of_the_pictures_size_does_what_its_cells_do(make_pair, latents, half_mask):
    pair = make_pair()
    fine = half_mask.repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)
    arguments = {"num_inference_steps": 5, "output_type": "latent"}
    trajectory = pair.ours.invert(SOURCE, latents, num_inference_steps=5).latents
    with pytest.raises(ValueError, match="shape"):
        pair.old(TARGET, fine, trajectory, **arguments)
    coarse, from_fine, from_image = (
        pair.ours(TARGET, mask, trajectory, **arguments).images
        for mask in (half_mask, fine, Image.fromarray((fine.numpy() * 255).astype(np.uint8)))
    )
    assert torch.equal(coarse, from_fine)
    assert torch.equal(coarse, from_image)


def test_fault_06_the_callers_mask_stays_as_it_was(make_pair, latents, half_mask):
    pair = make_pair(torch.float32)
    for p, right in ((pair.old, False), (pair.ours, True)):
        trajectory = p.invert(SOURCE, latents.float(), num_inference_steps=5).latents
        mask = half_mask * 0.7
        kept = mask.clone()
        p(TARGET, mask, trajectory, 0.8, 5, output_type="latent")
        assert torch.equal(mask, kept) is right


def test_fault_07_every_picture_of_a_batch_has_its_own_threshold(make_pair, latents, seed):
    pair = make_pair()
    batch = torch.cat([latents, 40 * latents])  # the second one's differences are of another magnitude
    for p, right in ((pair.old, False), (pair.ours, True)):
        alone = p.generate_mask(latents, **TEXTS, num_maps_per_mask=2, generator=seed(0))
        texts = {"source_prompt": [SOURCE] * 2, "target_prompt": [TARGET] * 2}
        together = p.generate_mask(batch, **texts, num_maps_per_mask=2, generator=seed(0))
        assert np.array_equal(together[:1], alone) is right


def test_fault_07_masks_reach_their_own_pictures_with_several_images_per_prompt(make_pair, latents, half_mask):
    pair = make_pair(torch.float32)
    x0 = torch.cat([latents, latents.flip(-1)]).float()
    masks = torch.stack([half_mask, 1 - half_mask])[:, None]
    for p, right in ((pair.old, False), (pair.ours, True)):
        trajectory = p.invert([SOURCE] * 2, x0, num_inference_steps=5).latents
        last = trajectory[:, -1] if p is pair.old else x0  # what each blends in at the end
        arguments = {"num_images_per_prompt": 2, "output_type": "latent"}
        images = p([TARGET] * 2, masks, trajectory, 0.8, 5, **arguments).images
        held = torch.stack([last[i // 2] * (1 - masks[i // 2]) for i in range(4)])
        outside = torch.stack([images[i] * (1 - masks[i // 2]) for i in range(4)])
        assert torch.equal(held, outside) is right


def test_fault_08_clip_skip_works_with_the_installed_transformers(make_pair):
    pair = make_pair(torch.float32)
    if int(transformers.__version__.split(".")[0]) >= 5:
        with pytest.raises(AttributeError):
            pair.old.encode_prompt(SOURCE, "cpu", 1, False, clip_skip=1)
    skipped, _ = pair.ours.encode_prompt(SOURCE, "cpu", 1, False, clip_skip=1)
    ids = pair.ours.tokenizer(SOURCE, padding="max_length", max_length=77, return_tensors="pt").input_ids
    encoder = pair.ours.text_encoder
    states = encoder(ids, output_hidden_states=True).hidden_states
    norm = getattr(encoder, "text_model", encoder).final_layer_norm
    assert torch.equal(skipped, norm(states[-2]))
    assert not torch.equal(skipped, pair.ours.encode_prompt(SOURCE, "cpu", 1, False)[0])


def test_fault_08_a_full_precision_vae_goes_with_a_half_precision_unet(make_pair, picture, half_mask):
    pair = make_pair(torch.float32)
    for p in (pair.old, pair.ours):
        p.register_modules(
            unet=copy.deepcopy(p.unet).to(torch.float16), text_encoder=copy.deepcopy(p.text_encoder).to(torch.float16)
        )
    with pytest.raises(RuntimeError):
        pair.old.invert(SOURCE, picture, num_inference_steps=5)
    assert pair.ours.generate_mask(picture, **TEXTS, num_maps_per_mask=2).shape == (1, 16, 16)
    trajectory = pair.ours.invert(SOURCE, picture, num_inference_steps=5).latents
    edited = pair.ours(TARGET, half_mask, trajectory).images[0]
    assert trajectory.dtype == torch.float16
    assert np.array_equal(np.asarray(edited)[:, 16:], np.asarray(picture)[:, 16:])


def test_fault_08_the_edit_passes_the_time_steps_of_an_inverse_scheduler_made_separately(make_pair, latents, half_mask):
    pair = make_pair(torch.float32)
    for p, right in ((pair.old, False), (pair.ours, True)):
        p.inverse_scheduler = DDIMInverseScheduler.from_config(p.inverse_scheduler.config, steps_offset=0)
        up, down = [], []
        arguments = {"num_inference_steps": 5}
        trajectory = p.invert(
            SOURCE, latents.float(), callback=lambda i, t, x, up=up: up.append(int(t)), **arguments
        ).latents
        p(TARGET, half_mask, trajectory, callback=lambda i, t, x, down=down: down.append(int(t)), **arguments)
        assert (up == down[::-1]) is right


def test_fault_09_unconditional_inversion_needs_no_prompt_costs_half_and_reconstructs_better(make_pair, latents):
    pair = make_pair()
    full = torch.ones(16, 16)

    def guided(p):
        trajectory = p.invert(SOURCE, latents, num_inference_steps=10).latents
        return p(SOURCE, full, trajectory, num_inference_steps=10, output_type="latent").images

    def unconditional(p):
        trajectory = p.invert(image=latents, num_inference_steps=10).latents
        return p("", full, trajectory, guidance_scale=1.0, output_type="latent").images

    with pytest.raises(ValueError, match="prompt"):
        pair.old.invert(image=latents)
    assert evaluations(pair.old, guided) == 2 * evaluations(pair.ours, unconditional)
    error = {"guided": guided(pair.old) - latents, "unconditional": unconditional(pair.ours) - latents}
    assert error["unconditional"].norm() < 0.5 * error["guided"].norm()


def test_fault_10_steps_and_strength_need_to_be_said_once(make_pair, latents, half_mask):
    pair = make_pair(torch.float32)
    once = {"num_inference_steps": 10, "inpaint_strength": 0.5}
    for p in (pair.old, pair.ours):
        trajectory = p.invert(SOURCE, latents.float(), **once).latents
        twice = p(TARGET, half_mask, trajectory, output_type="latent", **once).images
        if p is pair.old:
            with pytest.raises(ValueError, match="5 timesteps"):
                p(TARGET, half_mask, trajectory, output_type="latent")
        else:
            assert torch.equal(p(TARGET, half_mask, trajectory, output_type="latent").images, twice)


def test_fault_10_other_steps_than_those_of_the_inversion_are_refused_even_where_their_number_fits(make_pair, latents):
    pair = make_pair(torch.float32)
    other = {"num_inference_steps": 20, "inpaint_strength": 0.25, "output_type": "latent"}
    for p in (pair.old, pair.ours):
        trajectory = p.invert(SOURCE, latents.float(), num_inference_steps=10, inpaint_strength=0.5).latents
        if p is pair.old:
            p(TARGET, torch.ones(16, 16), trajectory, **other)
        else:
            with pytest.raises(ValueError, match=r"inverted with num_inference_steps=10, inpaint_strength=0\.5"):
                p(TARGET, torch.ones(16, 16), trajectory, **other)


def test_fault_11_levels_are_decoded_one_at_a_time(make_pair, latents):
    pair = make_pair(torch.float32)
    largest = {}
    for name, p in (("old", pair.old), ("ours", pair.ours)):
        rows, hook = count_rows(p.vae.decoder)
        p.invert(SOURCE, latents.float(), num_inference_steps=5, decode_latents=True)
        hook.remove()
        largest[name] = max(rows)
    assert largest == {"old": 4, "ours": 1}


def test_fault_12_the_soft_map_comes_at_the_size_of_the_picture(make_pair, picture, seed):
    pair = make_pair()
    arguments = {**TEXTS, "num_maps_per_mask": 2}
    old = pair.old.generate_mask(picture, generator=seed(0), **arguments)
    soft = pair.ours.generate_mask(picture, generator=seed(0), output_type="soft", **arguments)
    assert set(np.unique(old)) == {0, 1}
    assert (soft.shape, soft.dtype) == ((1, 32, 32), np.float32)
    assert 0 <= soft.min() < soft.max() <= 1
    assert len(np.unique(soft)) > 100
    hard = old.repeat(2, axis=1).repeat(2, axis=2)
    assert ((soft > 0.5) == hard).mean() > 0.8


def test_a_picture_with_alpha_is_a_picture_and_not_latents(make_pair, picture, seed):
    pair = make_pair(torch.float32)
    arguments = {"prompt": SOURCE, "num_inference_steps": 5}
    old, ours, plain = (
        p.invert(image=image, generator=seed(0), **arguments).latents
        for p, image in (
            (pair.old, picture.convert("RGBA")),
            (pair.ours, picture.convert("RGBA")),
            (pair.ours, picture),
        )
    )
    assert old.shape[-2:] == (32, 32)
    assert torch.equal(ours, plain)


def test_regularisation_of_v_predictions_works_for_several_guided_pictures(make_pair, latents):
    pair = make_pair()
    pictures = latents.repeat(2, 1, 1, 1)
    for p in (pair.old, pair.ours):
        for scheduler in (p.scheduler, p.inverse_scheduler):
            scheduler.register_to_config(prediction_type="v_prediction")
    arguments = {"prompt": [SOURCE, TARGET], "image": pictures, "num_inference_steps": 2, "num_reg_steps": 1}
    with pytest.raises(RuntimeError):
        pair.old.invert(**arguments)
    assert pair.ours.invert(**arguments).latents.isfinite().all()
