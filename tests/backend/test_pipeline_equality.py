"""Where the deprecated class of diffusers is right, ours gives the same."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from diffedit_backend import DiffEditPipeline
from diffusers import StableDiffusionDiffEditPipeline

# What the library says about its own deprecated parts is no fault of ours.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:diffusers", "ignore::DeprecationWarning:diffusers")

SOURCE, TARGET = "a bowl of fruit", "a bowl of pears"


def largest(a, b):
    return (a - b).abs().max().item()


@pytest.mark.parametrize("seed_number", range(3))
def test_masks_of_a_picture_are_equal_for_the_same_seed(make_pair, picture, seed, seed_number):
    pair = make_pair()
    old, ours = (
        p.generate_mask(picture, target_prompt=TARGET, source_prompt=SOURCE, generator=seed(seed_number))
        for p in (pair.old, pair.ours)
    )
    assert 0 < old.sum() < old.size
    assert ours.dtype == np.float32  # the old class gives int64, which no inpainting pipeline of the library takes
    assert np.array_equal(ours, old)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_maps_per_mask": 3},
        {"mask_encode_strength": 0.75},
        {"mask_thresholding_ratio": 2.0},
        {"num_inference_steps": 20},
        {"guidance_scale": 3.0},
        {"source_negative_prompt": "blurred", "target_negative_prompt": "blurred"},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_masks_of_latents_are_equal_whatever_the_arguments(make_pair, latents, seed, arguments):
    pair = make_pair()
    arguments = {"target_prompt": TARGET, "source_prompt": SOURCE, "num_maps_per_mask": 4, **arguments}
    old, ours = (p.generate_mask(latents, generator=seed(1), **arguments) for p in (pair.old, pair.ours))
    assert 0 < old.sum() < old.size
    assert np.array_equal(ours, old)


def test_masks_from_embeddings_equal_those_of_the_old_class(make_pair, latents, seed):
    pair = make_pair()
    source, _ = pair.ours.encode_prompt(SOURCE, "cpu", 1, False)
    target, _ = pair.ours.encode_prompt(TARGET, "cpu", 1, False)
    arguments = {"source_prompt_embeds": source, "target_prompt_embeds": target}
    old, ours = (p.generate_mask(latents, generator=seed(2), **arguments) for p in (pair.old, pair.ours))
    assert np.array_equal(ours, old)


@pytest.mark.parametrize("schedule", ["ddim", "dpm"])
def test_every_step_of_an_inversion_from_the_same_latents_is_exactly_equal(make_pair, latents, schedule):
    pair = make_pair(torch.float32, schedule)
    arguments = {"prompt": SOURCE, "image": latents.float(), "num_inference_steps": 10}
    levels, steps = [], []
    pair.old.invert(**arguments, callback=lambda index, t, x: levels.append(x.clone()))

    def continue_from_the_old_level(index, t, x):
        steps.append(x.clone())
        x.copy_(levels[index])

    pair.ours.invert(**arguments, callback=continue_from_the_old_level)
    assert len(steps) == len(levels) == 8
    assert all(torch.equal(step, level) for step, level in zip(steps, levels, strict=True))


@pytest.mark.parametrize("schedule", ["ddim", "dpm"])
def test_every_step_of_an_edit_from_the_same_latents_is_exactly_equal(make_pair, latents, seed, schedule):
    pair = make_pair(torch.float32, schedule)
    trajectory = torch.randn(1, 8, 4, 16, 16, generator=seed(3))
    arguments = {
        "prompt": TARGET,
        "mask_image": torch.ones(16, 16),
        "image_latents": trajectory,
        "num_inference_steps": 10,
        "output_type": "latent",
    }
    levels, steps = [], []
    pair.old(**arguments, callback=lambda index, t, x: levels.append(x.clone()))

    def continue_from_the_old_level(index, t, x):
        steps.append(x.clone())
        x.copy_(levels[index])

    pair.ours(**arguments, callback=continue_from_the_old_level)
    assert len(steps) == 8
    assert all(torch.equal(step, level) for step, level in zip(steps, levels, strict=True))


@pytest.mark.parametrize("schedule", ["ddim", "dpm"])
@pytest.mark.parametrize("guidance_scale", [1.0, 7.5])
def test_whole_trajectories_are_equal_in_double_precision(make_pair, latents, schedule, guidance_scale):
    pair = make_pair(schedule=schedule)
    arguments = {"prompt": SOURCE, "image": latents, "num_inference_steps": 20, "guidance_scale": guidance_scale}
    old, ours = (p.invert(**arguments).latents for p in (pair.old, pair.ours))
    assert ours.shape == old.shape == (1, 16, 4, 16, 16)
    assert largest(old, ours) < 1e-9


@pytest.mark.parametrize("schedule", ["ddim", "dpm"])
def test_whole_edits_under_a_full_mask_are_equal_in_double_precision(make_pair, latents, schedule):
    pair = make_pair(schedule=schedule)
    trajectory = pair.old.invert(SOURCE, latents, num_inference_steps=20).latents
    arguments = {"mask_image": torch.ones(16, 16), "image_latents": trajectory, "num_inference_steps": 20}
    arguments |= {"prompt": TARGET, "negative_prompt": SOURCE, "output_type": "pt"}
    old, ours = (p(**arguments).images for p in (pair.old, pair.ours))
    assert largest(old, ours) < 1e-9


def test_two_pictures_and_two_prompts_give_what_they_give_alone_in_the_old_class(make_pair, latents):
    pair = make_pair()
    pictures = torch.cat([latents, latents.flip(-1)])
    prompts = [SOURCE, TARGET]
    together = pair.ours.invert(prompts, pictures, num_inference_steps=5).latents
    for index, prompt in enumerate(prompts):
        alone = pair.old.invert(prompt, pictures[index : index + 1], num_inference_steps=5).latents
        assert largest(together[index], alone[0]) < 1e-9


@pytest.mark.parametrize("schedule", ["ddim", "dpm"])
def test_reference_mode_repeats_a_whole_run_of_the_old_class_from_a_picture(make_pair, picture, seed, schedule):
    pair = make_pair(schedule=schedule, reference=True)
    results = []
    for p in (pair.old, pair.ours):
        generator = seed(5)
        t = torch.linspace(0, 1, 16)
        mask = ((t[:, None] - 0.5) ** 2 + (t - 0.5) ** 2 < 0.1).float()
        trajectory = p.invert(SOURCE, picture, num_inference_steps=10, generator=generator).latents
        results.append(p(TARGET, mask, trajectory, 0.8, 10, generator=generator, output_type="pt").images)
    assert largest(*results) < 1e-9


def test_eta_draws_the_same_noise(make_pair, latents, seed):
    pair = make_pair()
    trajectory = pair.old.invert(SOURCE, latents, num_inference_steps=5).latents
    arguments = {"mask_image": torch.ones(16, 16), "image_latents": trajectory, "num_inference_steps": 5, "eta": 1.0}
    old, ours = (p(TARGET, generator=seed(6), output_type="latent", **arguments).images for p in (pair.old, pair.ours))
    assert largest(old, ours) < 1e-9


def test_regularised_inversions_are_equal(make_pair, latents, seed):
    pair = make_pair()
    arguments = {"prompt": SOURCE, "image": latents, "num_inference_steps": 4, "num_reg_steps": 2}
    old, ours, plain = (
        p.invert(generator=seed(8), **{**arguments, **more}).latents
        for p, more in ((pair.old, {}), (pair.ours, {}), (pair.ours, {"num_reg_steps": 0}))
    )
    assert largest(old, ours) < 1e-9
    assert largest(plain, ours) > 1e-3


@pytest.mark.parametrize("output_type", ["np", "pil"])
def test_decoded_levels_are_equal(make_pair, latents, output_type):
    pair = make_pair(torch.float32)
    arguments = {"prompt": SOURCE, "image": latents.float(), "num_inference_steps": 4, "decode_latents": True}
    old, ours = (p.invert(output_type=output_type, **arguments).images for p in (pair.old, pair.ours))
    assert len(ours) == len(old) == 3
    assert np.abs(np.asarray(ours[0], dtype=float) - np.asarray(old[0], dtype=float)).max() <= (
        1 if output_type == "pil" else 1e-4
    )


def test_prompts_are_encoded_alike(make_pair):
    pair = make_pair()
    for arguments in (
        (SOURCE, "cpu", 1, True),
        ([SOURCE, TARGET], "cpu", 3, True, ["x", "y"]),
        (SOURCE * 20, "cpu", 2, False),
    ):
        for old, ours in zip(pair.old.encode_prompt(*arguments), pair.ours.encode_prompt(*arguments), strict=True):
            assert (old is None and ours is None) or torch.equal(old, ours)


@pytest.mark.parametrize("method", ["__init__", "__call__", "generate_mask", "invert", "encode_prompt"])
def test_arguments_have_the_names_the_order_and_the_defaults_of_the_old_class(method):
    old, ours = (
        [(name, parameter.default) for name, parameter in inspect.signature(getattr(kind, method)).parameters.items()]
        for kind in (StableDiffusionDiffEditPipeline, DiffEditPipeline)
    )
    if method == "__init__":  # the old one hides it behind a decorator's signature
        old = [(name, default) for name, default in old if name not in ("args", "kwargs")]
    assert ours[: len(old)] == old
    assert all(default is not inspect.Parameter.empty for _, default in ours[len(old) :])


def test_every_public_method_of_the_old_class_is_there():
    public = {name for name in dir(StableDiffusionDiffEditPipeline) if not name.startswith("_")}
    assert public - set(dir(DiffEditPipeline)) == set()
