"""A compiled UNet: the same edits, in few shapes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffedit_backend.editing import edit_picture
from diffedit_backend.imaging.area import choose_area
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.method.network import Network
from diffedit_backend.method.solvers import seeded_noise
from diffedit_backend.method.text import encode_text
from diffedit_backend.models.device import compiled_unet
from test_editing_pictures import REQUEST, picture_of, square
from tiny_models import NATIVE, tiny_model

# torch's own compiler imports what torch itself deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def counted():
    """A model whose compiled graphs run as they are, and the shape of the latents of each graph that was made."""
    shapes = []

    def backend(graph, inputs):
        tensors = [x for x in inputs if isinstance(x, torch.Tensor) and not isinstance(x, torch.nn.Parameter)]
        shapes.extend(tuple(x.shape) for x in tensors if x.ndim == 4)
        return graph.forward

    model = tiny_model()
    return replace(model, denoiser=compiled_unet(model.denoiser, CPU, backend), compiled=True), shapes


@pytest.mark.parametrize(("kind", "backend"), [("sd1", "eager"), ("sd1", "aot_eager"), ("xl", "eager")])
def test_an_edit_with_a_compiled_network_is_the_one_without(kind, backend):
    """With a mask and without guidance, so that there is one shape: each takes seconds to compile."""
    model, picture = tiny_model(kind), picture_of(NATIVE, NATIVE)
    compiled = replace(model, denoiser=compiled_unet(model.denoiser, CPU, backend), compiled=True)
    request, mask = replace(REQUEST, guidance=1.0), square(NATIVE, NATIVE, (4, 4, 20, 24))
    plain, ours = (edit_picture(DiffEditEngine(m), request, picture, mask=mask) for m in (model, compiled))
    assert ours.evaluations == plain.evaluations
    assert np.abs(ours.edits[0].pixels.astype(int) - plain.edits[0].pixels).max() <= 1
    assert (ours.edits[0].pixels[..., :3] != picture[4:24, 4:20]).any()


def test_a_network_is_compiled_once_for_all_levels_of_noise(counted):
    model, shapes = counted
    network, condition = Network(model), encode_text(model, "a horse")
    x = seeded_noise((1, 4, 16, 16), 0, torch.zeros(1))
    outputs = [network.predict(x, model.schedule.level(t), [condition]) for t in (0, 1, 20, 500, 999)]
    assert shapes == [(1, 4, 16, 16)]
    assert not torch.allclose(outputs[1], outputs[-1])


def test_batches_of_one_to_four_are_compiled_in_three_sizes(counted):
    model, shapes = counted
    network, plain = Network(model), Network(tiny_model())
    condition, level = encode_text(model, "a horse"), model.schedule.level(500)
    for count in range(1, 5):
        x = seeded_noise((count, 4, 16, 16), 0, torch.zeros(1))
        assert torch.allclose(
            network.predict(x, level, [condition] * count), plain.predict(x, level, [condition] * count), atol=1e-5
        )
    assert sorted(rows for rows, *_ in shapes) == [1, 2, 4]
    assert network.evaluations == 1 + 2 + 3 + 4


def test_more_shapes_than_torch_would_keep_by_itself_are_all_compiled_once():
    shapes = []

    def backend(graph, inputs):
        shapes.extend(tuple(x.shape) for x in inputs if isinstance(x, torch.Tensor) and x.ndim == 4)
        return graph.forward

    network = compiled_unet(torch.nn.ReLU(), CPU, backend)
    sizes = [(1, 4, height, 8) for height in range(2, 22)]
    for _ in range(2):
        for size in sizes:
            network(torch.zeros(size))
    assert shapes == sizes


def test_pictures_of_every_aspect_come_to_few_sizes_when_compiled():
    model = tiny_model()
    unet = SimpleNamespace(config=SimpleNamespace(sample_size=256, block_out_channels=(1, 1, 1, 1)))
    compiled = replace(model, denoiser=unet, compiled=True)
    assert (compiled.native_size, compiled.multiple, replace(compiled, compiled=False).multiple) == (512, 64, 16)
    areas = [choose_area(width, 1000, None, 512, compiled.multiple) for width in range(100, 4001, 37)]
    assert len({(area.padded_width, area.padded_height) for area in areas}) <= 30
    assert all(area.padded_width % 64 == area.padded_height % 64 == 0 for area in areas)
