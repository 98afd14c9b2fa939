"""Each family's adapter, schedule and our solver draw what diffusers' own pipeline draws from the same noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffedit_backend.method.denoise import masked_denoise
from diffedit_backend.method.inversion import invert
from diffedit_backend.method.network import Network
from diffedit_backend.method.solvers import Solver
from diffedit_backend.method.text import encode_text
from diffedit_backend.models import LoadedModel
from diffusers.schedulers import scheduling_flow_match_euler_discrete as their_scheduler
from tiny_flow_models import TINY, tiny_flow_model, tiny_pipeline
from torch import Tensor

TEXT, NEGATIVE = "a red apple on a table, painted in oil", "blurred"
SIZES = ((32, 32), (48, 32))
STEPS = 8  # at fewer, rounding of the library's levels to float32 reaches 1.3e-5: see the test in double precision
FEW_STEPS = 4
WITHOUT, WITH = 1.0, 3.5


def noise_for(model: LoadedModel, height: int, width: int) -> Tensor:
    shape = (1, model.latent_channels, height // model.factor, width // model.factor)
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@torch.inference_mode()
def drawn_by_us(model: LoadedModel, noise: Tensor, guidance: float, negative: str) -> Tensor:
    """In the precision of `noise`: the engine's network gives float32, so in double precision the family is asked."""
    network, double = Network(model), noise.dtype == torch.float64
    steps = FEW_STEPS if double else STEPS
    levels = model.schedule.levels(steps, 1.0, noise.shape[-2] * noise.shape[-1])[::-1]
    text, against = (encode_text(model, t) for t in (TEXT, negative))

    def output(x: Tensor, level: Any, texts: list[Any]) -> Tensor:
        if double:
            return model.family.forward(model, model.denoiser, x, level, texts)
        return network.predict(x, level, texts)

    def predict(x: Tensor, level: Any) -> Tensor:
        if guidance == WITHOUT:
            return output(x, level, [text])
        unconditional, conditional = output(torch.cat((x, x)), level, [against, text]).chunk(2)
        return model.family.guide(unconditional, conditional, guidance)

    solver = Solver(model.schedule, levels)
    nothing, everything = noise.new_zeros(steps, *noise.shape), noise.new_ones(steps, 1, 1, *noise.shape[-2:])
    return masked_denoise(noise, levels[:-1], predict, solver.step, nothing, everything)


def packed(noise: Tensor) -> Tensor:
    """2 x 2 cells as one token, as Qwen-Image's pipeline takes its latents."""
    rows, channels, height, width = noise.shape
    cells = noise.reshape(rows, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(rows, height * width // 4, 4 * channels)


def drawn_by_the_library(pipeline: Any, kind: str, noise: Tensor, size: tuple[int, int], guidance: float) -> Tensor:
    """The latents as the library hands them to its VAE, or its picture in [0, 1] (B, 3, H, W)."""
    steps = FEW_STEPS if noise.dtype == torch.float64 else STEPS
    given: dict[str, Any] = {"prompt": TEXT, "height": size[0], "width": size[1], "num_inference_steps": steps}
    if kind.startswith("z-image"):
        given |= {"guidance_scale": guidance - 1, "negative_prompt": NEGATIVE}  # its own way to count
    elif kind == "qwen-image":
        given |= {"true_cfg_scale": guidance, "negative_prompt": NEGATIVE if guidance > 1 else None}
        noise = packed(noise)
    elif kind == "flux2-klein":
        given |= {"guidance_scale": guidance}  # its negative text is always empty
        noise = noise.flatten(2).transpose(1, 2) if noise.ndim == 4 else noise
        noise = noise.transpose(1, 2).reshape(1, -1, size[0] // 4, size[1] // 4)
    else:
        given |= {"guidance_scale": guidance, "negative_prompt": NEGATIVE}
    picture: Tensor = pipeline(latents=noise, output_type="pt", **given).images
    return picture


@pytest.mark.parametrize("guidance", [WITHOUT, WITH])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", TINY)
def test_text_to_image_through_the_adapter_is_that_of_diffusers_own_pipeline(
    kind: str, size: tuple[int, int], guidance: float
) -> None:
    pipeline = tiny_pipeline(kind)
    model = tiny_flow_model(kind, pipeline)
    noise = noise_for(model, *size)
    negative = "" if kind == "flux2-klein" else NEGATIVE
    latents = drawn_by_us(model, noise, guidance, negative)
    with torch.inference_mode():
        ours = (model.family.decode(model, latents) / 2 + 0.5).clamp(0, 1)
    theirs = drawn_by_the_library(pipeline, kind, noise, size, guidance)
    assert ours.shape == theirs.shape
    assert float(ours.std()) > 0.01
    assert torch.allclose(ours, theirs, atol=1e-5), float((ours - theirs).abs().max())


class InDouble:
    """A module whose float32 is float64."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, "float64" if name == "float32" else name)


@pytest.mark.parametrize("guidance", [WITHOUT, WITH])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", TINY)
def test_in_double_precision_the_two_differ_by_rounding_alone(
    kind: str, size: tuple[int, int], guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's scheduler computes levels and steps in float32 whatever the model's precision; here it does not.

    Stable Diffusion 3 is then equal to all digits. The other networks turn their queries and keys in float32 inside,
    where the last digit of a double may become one of a float.
    """
    monkeypatch.setattr(their_scheduler, "torch", InDouble(torch))
    monkeypatch.setattr(their_scheduler, "np", InDouble(np))
    pipeline = tiny_pipeline(kind)
    model = replace(tiny_flow_model(kind, pipeline), dtype=torch.float64)
    pipeline.to(torch.float64)
    noise = noise_for(model, *size).double()
    latents = drawn_by_us(model, noise, guidance, "" if kind == "flux2-klein" else NEGATIVE)
    with torch.inference_mode():
        ours = (model.family.decode(model, latents) / 2 + 0.5).clamp(0, 1)
    theirs = drawn_by_the_library(pipeline, kind, noise, size, guidance)
    assert ours.dtype == theirs.dtype == torch.float64
    tolerance = 1e-10 if kind.startswith("sd3") else 1e-6
    assert torch.allclose(ours, theirs, rtol=0, atol=tolerance), float((ours - theirs).abs().max())


@pytest.mark.parametrize("kind", TINY)
def test_guidance_and_text_matter_to_the_tiny_models_so_that_equality_says_something(kind: str) -> None:
    model = tiny_flow_model(kind)
    noise = noise_for(model, 32, 32)
    plain, guided = (drawn_by_us(model, noise, scale, NEGATIVE) for scale in (WITHOUT, WITH))
    assert float((plain - guided).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", TINY)
@torch.inference_mode()
def test_inversion_and_back_through_the_same_places_gives_the_latents_again(kind: str) -> None:
    model = tiny_flow_model(kind)
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(5)) * 2 - 1
    x0 = model.family.encode(model, picture)
    network, text = Network(model), encode_text(model, TEXT)
    levels = model.schedule.levels(10, 0.8, x0.shape[-2] * x0.shape[-1])

    def predict(x: Tensor, level: Any) -> Tensor:
        return network.predict(x, level, [text])

    up = Solver(model.schedule, levels)
    trajectory = invert(x0, levels[:-1], up.evaluated(predict), up.step)
    down = Solver(model.schedule, levels[::-1], aligned=trajectory.flip(0))
    nothing, everything = torch.zeros(8, *x0.shape), torch.ones(8, 1, 1, *x0.shape[-2:])
    back = masked_denoise(trajectory[-1], levels[:0:-1], down.evaluated(predict), down.step, nothing, everything)
    assert float((trajectory[-1] - x0).abs().max()) > 0.1
    assert torch.allclose(back, x0, atol=1e-4), float((back - x0).abs().max())


@pytest.mark.parametrize("kind", TINY)
@torch.inference_mode()
def test_the_latents_of_a_picture_are_decoded_by_the_same_statistics(kind: str) -> None:
    model = tiny_flow_model(kind)
    picture = torch.rand(1, 3, 48, 32, generator=torch.Generator().manual_seed(6)) * 2 - 1
    latents = model.family.encode(model, picture)
    assert latents.shape == (1, model.latent_channels, 48 // model.factor, 32 // model.factor)
    whole = model.vae(picture[:, :, None] if kind == "qwen-image" else picture).sample
    assert torch.allclose(model.family.decode(model, latents), whole.reshape(picture.shape), atol=1e-4)
