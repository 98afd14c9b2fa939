"""What code written for the deprecated class relies on beside the numbers: files, adapters, inputs, outputs, errors."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from diffedit_backend import DiffEditPipeline
from diffusers import (
    DDIMInverseScheduler,
    DDIMParallelScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepInverseScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    SASolverScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from PIL import Image
from safetensors.torch import save_file

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:diffusers", "ignore::DeprecationWarning:diffusers")

SOURCE, TARGET = "a bowl of fruit", "a bowl of pears"
TEXTS = {"source_prompt": SOURCE, "target_prompt": TARGET}
FULL = torch.ones(16, 16)


@pytest.fixture
def trajectory(seed):
    """(1, 4, 4, 16, 16): five steps at strength 0.8, of no known picture."""
    return torch.randn(1, 4, 4, 16, 16, generator=seed(9))


def edit(pipeline, trajectory, **arguments):
    return pipeline(TARGET, FULL, trajectory, 0.8, 5, **{"output_type": "latent", **arguments})


def test_importing_the_backend_needs_no_torch():
    code = "import diffedit_backend, sys; assert not {'torch', 'diffusers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    with pytest.raises(AttributeError, match="no attribute 'Pipeline'"):
        sys.modules["diffedit_backend"].Pipeline  # noqa: B018


def test_a_saved_pipeline_loads_again_with_its_options(make_ours, trajectory, tmp_path):
    saved = make_ours(reference=True)
    saved.save_pretrained(tmp_path)
    loaded = DiffEditPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.config.reference
    assert loaded.safety_checker is None
    assert torch.equal(edit(saved, trajectory).images, edit(loaded, trajectory).images)


def test_a_stable_diffusion_pipeline_becomes_ours_and_itself_again(make_ours):
    ours = make_ours()
    parts = {name: part for name, part in ours.components.items() if name != "inverse_scheduler"}
    plain = StableDiffusionPipeline(**parts, image_encoder=None, requires_safety_checker=False)
    ours = DiffEditPipeline.from_pipe(plain, inverse_scheduler=None)
    again = StableDiffusionPipeline.from_pipe(ours, image_encoder=None)
    public = [{k: v for k, v in p.config.items() if not k.startswith("_")} for p in (plain, again)]
    assert ours.unet is plain.unet
    assert public[0] == public[1]


@pytest.mark.parametrize("schedule", ["ddim", "dpm"])
def test_without_an_inverse_scheduler_the_one_that_fits_is_made(make_ours, latents, schedule):
    given, made = (make_ours(torch.float64, schedule, **more) for more in ({}, {"inverse_scheduler": None}))
    levels = [p.invert(SOURCE, latents, num_inference_steps=5).latents for p in (given, made)]
    assert type(made.inverse_scheduler) is type(given.inverse_scheduler)
    assert torch.equal(*levels)


def test_schedulers_that_pass_other_levels_are_told_in_the_log(make_ours, latents, caplog):
    mixed = make_ours(torch.float64, "dpm", inverse_scheduler=make_ours().inverse_scheduler)
    mixed.scheduler.register_to_config(timestep_spacing="linspace")
    mixed.invert(SOURCE, latents, num_inference_steps=5)
    assert "timestep_spacing: 'linspace' and 'leading'" in caplog.text


def test_a_lora_is_loaded_scaled_in_every_stage_and_unloaded(make_ours, latents, trajectory, tmp_path, seed):
    pipeline = make_ours()
    pipeline.unet, pipeline.text_encoder = (
        DiffEditPipeline.from_pretrained(_saved(pipeline, tmp_path / "base")).components[name]
        for name in ("unet", "text_encoder")
    )
    weights = {}
    for module, prefix, targets in (
        (pipeline.unet, "unet", ["to_k", "to_v"]),
        (pipeline.text_encoder, "text_encoder", ["q_proj"]),
    ):
        for name, layer in module.named_modules():
            if isinstance(layer, torch.nn.Linear) and name.split(".")[-1] in targets:
                weights[f"{prefix}.{name}.lora_A.weight"] = torch.randn(4, layer.in_features, generator=seed(1))
                weights[f"{prefix}.{name}.lora_B.weight"] = torch.randn(layer.out_features, 4, generator=seed(2))
    save_file(weights, tmp_path / "pytorch_lora_weights.safetensors")

    def run(**arguments):
        mask = pipeline.generate_mask(
            latents.float(), **TEXTS, num_maps_per_mask=1, output_type="soft", generator=seed(0), **arguments
        )
        inverted = pipeline.invert(SOURCE, latents.float(), num_inference_steps=5, **arguments).latents
        return mask, inverted.numpy(), edit(pipeline, trajectory, **arguments).images.numpy()

    plain = run()
    pipeline.load_lora_weights(tmp_path)
    with_lora, off = run(), run(cross_attention_kwargs={"scale": 0.0})
    pipeline.unload_lora_weights()
    unloaded = run()
    for before, changed, without, after in zip(plain, with_lora, off, unloaded, strict=True):
        assert np.abs(changed - before).max() > 1e-3
        assert np.allclose(without, before, atol=1e-4)
        assert np.array_equal(after, before)


def _saved(pipeline, folder):
    pipeline.save_pretrained(folder)
    return folder


def test_a_textual_inversion_is_a_new_word(make_ours, tmp_path, seed):
    pipeline = DiffEditPipeline.from_pretrained(_saved(make_ours(), tmp_path / "base"))
    known, _ = pipeline.encode_prompt("a <pear>", "cpu", 1, False)
    save_file({"<pear>": torch.randn(32, generator=seed(3))}, tmp_path / "pear.safetensors")
    pipeline.load_textual_inversion(tmp_path, weight_name="pear.safetensors")
    learnt, _ = pipeline.encode_prompt("a <pear>", "cpu", 1, False)
    assert not torch.allclose(known, learnt)


def test_words_beyond_what_clip_reads_are_told_in_the_log(make_ours, caplog):
    make_ours().encode_prompt("x " * 100, "cpu", 1, False)
    assert "77 tokens" in caplog.text


def test_slicing_and_tiling_give_the_same_picture(make_ours, trajectory):
    pipeline = make_ours()
    plain = edit(pipeline, trajectory, output_type="pt").images
    pipeline.enable_vae_slicing()
    pipeline.enable_vae_tiling()
    sliced = edit(pipeline, trajectory, output_type="pt").images
    pipeline.disable_vae_slicing()
    pipeline.disable_vae_tiling()
    assert torch.allclose(plain, sliced, atol=0.5)
    assert torch.equal(edit(pipeline, trajectory, output_type="pt").images, plain)


def test_the_output_types_show_one_picture(make_ours, trajectory):
    pipeline = make_ours()
    outputs = {kind: edit(pipeline, trajectory, output_type=kind).images for kind in ("pt", "np", "pil")}
    array = outputs["pt"].permute(0, 2, 3, 1).numpy()
    assert np.array_equal(array, outputs["np"])
    assert np.array_equal(np.asarray(outputs["pil"][0]), (array[0] * 255).round().astype(np.uint8))


def test_the_tuple_holds_what_the_output_object_holds(make_ours, latents, trajectory):
    pipeline = make_ours()
    output = edit(pipeline, trajectory)
    images, flagged = edit(pipeline, trajectory, return_dict=False)
    assert isinstance(output, StableDiffusionPipelineOutput)
    assert torch.equal(output.images, images)
    assert (output.nsfw_content_detected, flagged) == (None, None)
    levels, decoded = pipeline.invert(SOURCE, latents.float(), num_inference_steps=5, return_dict=False)
    assert (levels.shape, decoded) == ((1, 4, 4, 16, 16), None)


@pytest.mark.parametrize(("every", "calls"), [(1, [0, 1, 2, 3]), (2, [0, 2]), (3, [0, 3])])
def test_callbacks_come_every_so_many_steps(make_ours, latents, trajectory, every, calls):
    pipeline = make_ours()
    inverted, edited = [], []
    arguments = {"num_inference_steps": 5, "callback_steps": every}
    pipeline.invert(SOURCE, latents.float(), callback=lambda i, t, x: inverted.append((i, int(t))), **arguments)
    edit(pipeline, trajectory, callback=lambda i, t, x: edited.append((i, int(t))), callback_steps=every)
    assert inverted == [(i, 200 * i + 1) for i in calls]
    assert edited == [(i, 601 - 200 * i) for i in calls]


def test_variations_differ_where_noise_is_drawn_and_only_there(make_ours, trajectory, seed):
    pipeline = make_ours()
    still = edit(pipeline, trajectory, num_images_per_prompt=2).images
    moved = edit(pipeline, trajectory, num_images_per_prompt=2, eta=1.0, generator=seed(0)).images
    assert torch.allclose(still[0], still[1], atol=1e-5)
    assert not torch.allclose(moved[0], moved[1], atol=1e-2)


def test_latents_replace_the_start_inside_the_mask_only(make_ours, trajectory, seed):
    pipeline = make_ours()
    mask = FULL.clone()
    mask[:, 8:] = 0
    starts = []
    hook = pipeline.unet.register_forward_pre_hook(lambda _, args: starts.append(args[0][:1].clone()))
    start = torch.randn(1, 4, 16, 16, generator=seed(4))
    pipeline(TARGET, mask, trajectory, 0.8, 5, latents=start, output_type="latent")
    hook.remove()
    assert torch.equal(starts[0][..., :8], start[..., :8])
    assert torch.equal(starts[0][..., 8:], trajectory[:, 0, :, :, 8:])


def test_a_trajectory_from_elsewhere_gets_its_background_from_the_image_argument(make_ours, picture):
    pipeline = make_ours()
    mask = FULL.clone()
    mask[:, 8:] = 0
    known = pipeline.invert(SOURCE, picture, num_inference_steps=5).latents
    arguments = {"prompt": TARGET, "mask_image": mask, "inpaint_strength": 0.8, "num_inference_steps": 5}
    expected = np.asarray(pipeline(image_latents=known, **arguments).images[0])
    foreign = known.clone()
    given = np.asarray(pipeline(image_latents=foreign, image=picture, **arguments).images[0])
    missing = np.asarray(pipeline(image_latents=foreign, **arguments).images[0])
    assert np.array_equal(given, expected)
    assert not np.array_equal(missing[:, 16:], expected[:, 16:])


@pytest.mark.parametrize("kind", ["L", "P", "LA", "uint8 array", "float array", "tensor", "tensor in [-1, 1]", "list"])
def test_pictures_come_in_any_form(make_ours, picture, kind):
    pipeline = make_ours()
    rgb = np.asarray(picture)
    forms = {
        "uint8 array": lambda: rgb,
        "float array": lambda: rgb / np.float32(255),
        "tensor": lambda: torch.tensor(rgb / np.float32(255)).permute(2, 0, 1),
        "tensor in [-1, 1]": lambda: torch.tensor(rgb / np.float32(255)).permute(2, 0, 1)[None] * 2 - 1,
        "list": lambda: [picture, picture.resize((20, 20))],
    }
    image = forms[kind]() if kind in forms else picture.convert(kind)
    same = Image.fromarray(rgb) if kind in forms else image.convert("RGB")
    prompts = [SOURCE] * 2 if kind == "list" else SOURCE
    expected, levels = (
        pipeline.invert(p, each, num_inference_steps=5).latents for p, each in ((SOURCE, same), (prompts, image))
    )
    assert levels.shape[-2:] == (16, 16)
    assert torch.allclose(levels[:1], expected, atol=1e-3)


@pytest.mark.parametrize("image", ["uint8 tensor", "int64 array"])
def test_integers_are_read_as_0_to_255(make_ours, picture, image):
    pipeline = make_ours()
    rgb = np.asarray(picture)
    form = torch.tensor(rgb).permute(2, 0, 1) if image == "uint8 tensor" else rgb.astype(np.int64)
    expected, levels = (pipeline.invert(SOURCE, each, num_inference_steps=5).latents for each in (picture, form))
    assert torch.allclose(levels, expected, atol=1e-4)


@pytest.mark.parametrize(
    "form",
    [
        lambda half: (half * 255).to(torch.uint8),
        lambda half: half.to(torch.uint8),
        lambda half: half.to(torch.int64),
        lambda half: half.bool(),
        lambda half: (half.numpy() * 255).astype(np.uint8),
        lambda half: half.numpy().astype(bool),
        lambda half: half.numpy()[None, ..., None],
        lambda half: half.half(),
        lambda half: Image.fromarray((half.numpy() * 255).astype(np.uint8)),
    ],
    ids=["uint8 of 255", "uint8 of 1", "int64", "bool", "8-bit array", "bool array", "B H W 1", "half", "PIL"],
)
def test_a_mask_says_the_same_in_any_form(make_ours, trajectory, form):
    half = torch.zeros(16, 16)
    half[:, :8] = 1
    pipeline = make_ours()
    arguments = {"num_inference_steps": 5, "output_type": "np"}
    expected, edited = (pipeline(TARGET, mask, trajectory, **arguments).images for mask in (half, form(half)))
    assert np.array_equal(edited, expected)


@pytest.mark.parametrize("form", ["PIL", "list", "array", "tensor"])
def test_a_picture_where_trajectories_are_expected_is_inverted_first(make_ours, picture, form):
    pipeline = make_ours()
    rgb = np.asarray(picture)
    given = {
        "PIL": picture,
        "list": [picture],
        "array": rgb,
        "tensor": torch.tensor(rgb / np.float32(255)).permute(2, 0, 1),
    }[form]
    arguments = {"num_inference_steps": 5, "output_type": "np"}
    trajectory = pipeline.invert(image=picture, num_inference_steps=5).latents
    expected = pipeline(TARGET, FULL, trajectory, **arguments).images
    assert np.allclose(pipeline(TARGET, FULL, given, **arguments).images, expected, atol=1e-4)
    assert len(pipeline([TARGET, SOURCE], FULL, given, **arguments).images) == 2


def test_a_mask_in_its_default_form_goes_into_the_library_s_inpainting_pipeline(make_ours, picture, seed):
    pipeline = make_ours()
    mask = pipeline.generate_mask(picture, **TEXTS, num_maps_per_mask=2, generator=seed(0))
    parts = {name: part for name, part in pipeline.components.items() if name != "inverse_scheduler"}
    inpainting = StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    inpainting.set_progress_bar_config(disable=True)
    result = inpainting(
        TARGET, picture, mask, height=32, width=32, num_inference_steps=2, output_type="np", generator=seed(0)
    )
    assert result.images.shape == (1, 32, 32, 3)
    assert np.isfinite(result.images).all()


def test_the_page_s_spelling_of_clip_skip_is_understood(make_ours, trajectory):
    pipeline = make_ours()
    arguments = {"num_inference_steps": 5, "output_type": "np"}
    plain = pipeline(TARGET, FULL, trajectory, **arguments).images
    skipped = pipeline(TARGET, FULL, trajectory, clip_skip=1, **arguments).images
    expanded = pipeline(TARGET, FULL, trajectory, clip_ckip=1, **arguments).images
    assert np.array_equal(skipped, expanded)
    assert not np.array_equal(skipped, plain)
    with pytest.raises(ValueError, match="`clip_skip` is 1 and `clip_ckip` 2"):
        pipeline(TARGET, FULL, trajectory, clip_skip=1, clip_ckip=2)


def test_one_picture_serves_several_prompts_and_one_source_several_targets(make_ours, picture, seed):
    pipeline = make_ours()
    masks = pipeline.generate_mask(
        picture, target_prompt=[TARGET, SOURCE], source_prompt=SOURCE, num_maps_per_mask=2, generator=seed(0)
    )
    assert masks[0].any()
    assert not masks[1].any()
    trajectory = pipeline.invert([SOURCE, TARGET], picture, num_inference_steps=5).latents
    assert len(pipeline([TARGET, SOURCE], masks, trajectory).images) == 2


class Censor(torch.nn.Module):
    """A safety checker that objects to the first picture of every batch."""

    device, dtype = torch.device("cpu"), torch.float32

    def forward(self, images, clip_input):
        return images, [index == 0 for index in range(len(images))]


class Features(dict):
    def to(self, device):
        return self

    pixel_values = torch.zeros(1, 3, 8, 8)


def test_pictures_that_the_safety_checker_objects_to_are_black(make_ours, picture):
    pipeline = make_ours()
    pipeline.safety_checker, pipeline.feature_extractor = Censor(), lambda images, return_tensors: Features()
    trajectory = pipeline.invert(SOURCE, picture, num_inference_steps=5).latents
    output = pipeline(TARGET, FULL, trajectory, num_images_per_prompt=2, output_type="np")
    assert output.nsfw_content_detected == [True, False]
    assert not output.images[0].any()
    assert output.images[1].any()


def test_a_safety_checker_without_feature_extractor_is_refused(make_ours):
    with pytest.raises(ValueError, match="feature_extractor"):
        make_ours(safety_checker=Censor())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prompt": None}, "both are undefined"),
        ({"prompt_embeds": torch.zeros(1, 77, 32)}, "not both"),
        ({"prompt": 3}, "str or a list"),
        ({"negative_prompt": "x", "negative_prompt_embeds": torch.zeros(1, 77, 32)}, "negative_prompt"),
        ({"mask_image": None}, "generate_mask"),
        ({"image_latents": None}, "invert"),
        ({"inpaint_strength": 1.2}, "1.2"),
        ({"inpaint_strength": None}, "None"),
        ({"callback_steps": 0}, "callback_steps"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt"),
        ({"output_type": "jpeg"}, "jpeg"),
        ({"mask_image": torch.ones(16, 16) * 2}, r"\[0, 1\]"),
        ({"mask_image": torch.ones(1, 3, 16, 16)}, "1 channel"),
        ({"mask_image": torch.ones(3, 1, 16, 16)}, "3 masks for 1"),
        ({"num_inference_steps": 10}, "8 levels"),
        ({"inpaint_strength": 0.0}, "4, 4, 16, 16"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_edited_is_refused_with_its_value(make_ours, trajectory, arguments, words):
    arguments = {
        "prompt": TARGET,
        "mask_image": FULL,
        "image_latents": trajectory,
        "num_inference_steps": 5,
        "inpaint_strength": 0.8,
        **arguments,
    }
    with pytest.raises(ValueError, match=words):
        make_ours()(**arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"source_prompt": None}, "source_prompt"),
        ({"target_prompt": None}, "target_prompt"),
        ({"num_maps_per_mask": 0}, "num_maps_per_mask"),
        ({"num_maps_per_mask": 2.5}, "float"),
        ({"mask_thresholding_ratio": 0}, "mask_thresholding_ratio"),
        ({"mask_encode_strength": -0.1}, "-0.1"),
        ({"output_type": "latent"}, "latent"),
        ({"image": None}, "NoneType"),
        ({"image": torch.zeros(1, 5, 32, 32)}, "has 5"),
        ({"target_prompt": [TARGET] * 3, "image": torch.zeros(2, 4, 16, 16)}, "2 pictures .* 3 prompts"),
        ({"source_prompt": [SOURCE] * 2}, "2 texts for 1"),
    ],
)
def test_what_no_mask_can_be_found_for_is_refused_with_its_value(make_ours, picture, arguments, words):
    with pytest.raises(ValueError, match=words):
        make_ours().generate_mask(**{"image": picture, **TEXTS, **arguments})


def test_a_list_of_prompts_wants_a_list_of_negatives(make_ours):
    with pytest.raises(TypeError, match="str and list"):
        make_ours().encode_prompt([SOURCE], "cpu", 1, True, "x")
    with pytest.raises(ValueError, match="1 texts for 2"):
        make_ours().encode_prompt([SOURCE] * 2, "cpu", 1, True, ["x"])


@pytest.mark.parametrize(
    "kind",
    [
        EulerDiscreteScheduler,
        PNDMScheduler,
        DDPMScheduler,
        LCMScheduler,
        SASolverScheduler,
        TCDScheduler,
        HeunDiscreteScheduler,
    ],
)
def test_a_scheduler_that_cannot_retrace_an_inversion_is_refused_before_any_work(make_ours, trajectory, picture, kind):
    pipeline = make_ours()
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
    evaluations = []
    pipeline.unet.register_forward_pre_hook(lambda *_: evaluations.append(1))
    with pytest.raises(ValueError, match=rf"{kind.__name__} cannot retrace .* DDIMScheduler.from_config"):
        edit(pipeline, trajectory)
    with pytest.raises(ValueError, match=f"{kind.__name__} cannot retrace"):
        pipeline.invert(SOURCE, picture, num_inference_steps=5)
    assert evaluations == []


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (UniPCMultistepScheduler, {}),
        (DEISMultistepScheduler, {}),
        (DPMSolverSinglestepScheduler, {}),
        (DPMSolverMultistepScheduler, {}),
        (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
        (DDIMParallelScheduler, {}),
    ],
    ids=["UniPC", "DEIS", "DPM single-step", "DPM", "DPM SDE", "DDIM parallel"],
)
def test_the_inverse_that_is_made_climbs_the_levels_that_the_scheduler_descends(make_ours, latents, kind, options):
    pipeline = make_ours(torch.float64, inverse_scheduler=None)
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **options)
    trajectory = pipeline.invert("", latents, 40, guidance_scale=1.0).latents
    inverse = pipeline.inverse_scheduler
    assert torch.isfinite(trajectory).all()
    assert not inverse.config.get("clip_sample")
    pipeline.scheduler.set_timesteps(40)
    down = pipeline.scheduler.timesteps[-trajectory.shape[1] :].tolist()
    climbed = inverse.timesteps.tolist()
    arrived = climbed[: len(down)] if isinstance(inverse, DDIMInverseScheduler) else climbed[1 : len(down) + 1]
    assert arrived == down[::-1]
    if options:
        return  # it draws noise on the way down
    back = pipeline("", FULL, trajectory, guidance_scale=1.0, output_type="latent").images
    assert (back - latents).square().mean().sqrt() < 0.2


def test_an_inverse_scheduler_that_draws_noise_is_refused(make_ours, latents):
    pipeline = make_ours(torch.float64, "dpm")
    pipeline.inverse_scheduler.register_to_config(algorithm_type="sde-dpmsolver++")
    with pytest.raises(ValueError, match="'sde-dpmsolver\\+\\+' draws noise"):
        pipeline.invert(SOURCE, latents, num_inference_steps=5)


def test_another_scheduler_gets_another_inverse_where_none_was_given(make_ours, latents):
    pipeline = make_ours(torch.float64, inverse_scheduler=None)
    pipeline.invert(SOURCE, latents, num_inference_steps=5)
    assert isinstance(pipeline.inverse_scheduler, DDIMInverseScheduler)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.invert(SOURCE, latents, num_inference_steps=5)
    assert isinstance(pipeline.inverse_scheduler, DPMSolverMultistepInverseScheduler)


def test_a_model_of_flow_prediction_is_refused_by_its_name(make_ours, latents):
    pipeline = make_ours()
    pipeline.scheduler = UniPCMultistepScheduler.from_config(
        pipeline.scheduler.config, prediction_type="flow_prediction", use_flow_sigmas=True
    )
    with pytest.raises(ValueError, match="flow_prediction"):
        pipeline.invert(SOURCE, latents.float(), num_inference_steps=5)


def test_a_result_that_is_no_number_is_an_error_and_no_black_picture(make_ours, trajectory):
    pipeline = make_ours()
    with pytest.raises(ValueError, match="values that are no numbers"):
        edit(pipeline, torch.full_like(trajectory, float("nan")))
