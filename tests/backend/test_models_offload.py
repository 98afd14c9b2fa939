"""Offloading: which way is chosen, and that edits come out the same. The accelerator here is the CPU, called cuda."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffedit_backend.editing import edit_picture
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.method.memory import bytes_of
from diffedit_backend.method.model import LoadedModel
from diffedit_backend.models import ModelOptions, load, load_model
from diffedit_backend.models.device import choose_dtype
from diffedit_backend.models.offload import _ComesAlone, choose_offload, offload
from diffedit_protocol.errors import ModelError
from diffedit_protocol.messages import Adapter, EditRequest
from model_files import FAMILIES, parts, write_folder
from safetensors.torch import save_file

GIB = 1 << 30
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
XL_NETWORKS = [5 * GIB, GIB // 3, GIB // 4, 3 * GIB // 2]  # UNet, VAE, two text encoders, in half precision
XL_CELLS = 128 * 128


@pytest.mark.parametrize(("free", "way"), [(24, "none"), (12, "none"), (10, "model"), (4, "sequential")])
def test_the_way_is_chosen_by_the_free_memory(free: int, way: str) -> None:
    assert choose_offload(None, CUDA, free * GIB, XL_NETWORKS, XL_CELLS) == way


def test_a_text_encoder_needs_no_working_memory_so_one_as_large_as_the_card_still_fits_it_alone() -> None:
    transformer, vae, encoder = 4 * GIB, GIB // 3, 9 * GIB
    assert choose_offload(None, CUDA, 10 * GIB, [transformer, vae], XL_CELLS, [encoder]) == "model"
    assert choose_offload(None, CUDA, 10 * GIB, [transformer, vae, encoder], XL_CELLS) == "sequential"
    assert choose_offload(None, CUDA, 8 * GIB, [transformer, vae], XL_CELLS, [encoder]) == "sequential"


def test_an_offload_that_is_asked_for_is_taken_whatever_is_free() -> None:
    assert choose_offload("sequential", CUDA, 80 * GIB, XL_NETWORKS, XL_CELLS) == "sequential"
    assert choose_offload("none", CUDA, 1, XL_NETWORKS, XL_CELLS) == "none"


def test_on_a_cpu_nothing_is_offloaded_and_wishing_it_is_refused() -> None:
    assert choose_offload(None, CPU, 1, XL_NETWORKS, XL_CELLS) == "none"
    with pytest.raises(ModelError, match="on 'cpu' they are there already"):
        choose_offload("model", CPU, 1, XL_NETWORKS, XL_CELLS)
    with pytest.raises(ModelError, match="must be one of none, model, sequential, not 'disk'"):
        choose_offload("disk", CPU, 1, XL_NETWORKS, XL_CELLS)


@pytest.mark.parametrize(
    ("avx512_bf16", "amx", "large"),
    [(False, False, torch.float32), (True, False, torch.bfloat16), (False, True, torch.bfloat16)],
)
def test_precision_is_half_on_a_gpu_and_on_a_cpu_only_for_large_models_where_it_computes_bf16(
    avx512_bf16: bool, amx: bool, large: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    stable_diffusion, bundled = 1_066_000_000, 13_000_000
    assert choose_dtype(None, CUDA, stable_diffusion) == choose_dtype(None, CUDA) == torch.float16
    assert choose_dtype(None, CPU, stable_diffusion) == large
    assert choose_dtype(None, CPU, bundled) == choose_dtype(None, CPU) == torch.float32


def test_a_wished_precision_goes_before_the_choice_and_another_word_is_refused() -> None:
    assert choose_dtype("fp32", CPU, 1_066_000_000) == torch.float32
    assert choose_dtype("bf16", CPU) == torch.bfloat16
    with pytest.raises(ModelError, match="must be one of fp32, fp16, bf16, not 'int8'"):
        choose_dtype("int8", CPU)


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_folder(tmp_path / request.param, parts(request.param))


def offloaded(folder: Path, way: str) -> LoadedModel:
    """A model whose networks wait elsewhere and compute on the CPU, which stands in for the accelerator."""
    model = replace(load_model(folder, "cpu"), offload=way)
    offload(model.networks, model.device, way)
    return model


def edited(model: LoadedModel, **more: Any) -> np.ndarray[Any, Any]:
    picture = np.random.default_rng(3).integers(0, 255, (32, 32, 3), np.uint8)
    request = EditRequest("a horse", "a zebra", quality="draft", strength=0.5, threshold=0.3, **more)
    return edit_picture(DiffEditEngine(model), request, picture).edits[0].pixels


@pytest.mark.parametrize("way", ["model", "sequential"])
def test_an_edit_with_offloaded_parts_equals_one_without(way: str, folder: Path) -> None:
    assert np.array_equal(edited(offloaded(folder, way)), edited(load_model(folder, "cpu")))


def test_sequential_offloading_keeps_no_weight_on_the_device_between_calls(folder: Path) -> None:
    model = offloaded(folder, "sequential")
    whole = load_model(folder, "cpu").footprint.on_device
    edited(model)
    for network in model.networks:
        assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    assert model.footprint.waiting == whole
    assert model.footprint.on_device < whole / 10


def test_by_model_only_the_network_that_was_called_last_is_on_the_device() -> None:
    placed: dict[str, str] = {}

    class Part(torch.nn.Linear):
        def __init__(self, name: str) -> None:
            super().__init__(2, 2)
            self.name = name

        def to(self, device: Any, *args: Any, **kwargs: Any) -> Any:
            placed[self.name] = torch.device(device).type
            return self

    networks = [Part(name) for name in ("unet", "vae", "text")]
    offload(networks, CUDA, "model")
    assert all(isinstance(network._hf_hook, _ComesAlone) for network in networks)
    for network in (networks[2], networks[0], networks[0], networks[1]):
        network(torch.zeros(1, 2))
        assert [name for name, place in placed.items() if place == "cuda"] == [network.name]


def test_a_load_passes_the_wish_on_and_leaves_the_weights_in_the_machines_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def choose(wish: Any, device: Any, free: int, networks: list[int], cells: int, encoders: list[int]) -> str:
        asked.append((wish, len(networks), cells, len(encoders)))
        assert free > 0
        return "sequential"

    monkeypatch.setattr(load, "choose_offload", choose)
    model = load_model(folder, ModelOptions("cpu", offload="sequential"))
    assert asked == [("sequential", 2, 256, 2 if model.is_xl else 1)]
    assert model.offload == "sequential"
    assert next(model.denoiser.parameters()).device.type == "meta"
    assert bytes_of(model.denoiser) > 0


@pytest.mark.parametrize("way", ["model", "sequential"])
def test_a_lora_on_an_offloaded_model_amounts_to_the_same(
    way: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFEDIT_HOME", str(tmp_path))
    (tmp_path / "adapters").mkdir()
    plain, waiting = load_model(folder, "cpu"), offloaded(folder, way)
    generator = torch.Generator().manual_seed(5)
    tensors = {}
    for name, module in plain.denoiser.named_modules():
        if isinstance(module, torch.nn.Linear) and name.endswith(("to_q", "to_v")):
            tensors[f"unet.{name}.lora_A.weight"] = torch.randn(2, module.in_features, generator=generator)
            tensors[f"unet.{name}.lora_B.weight"] = torch.randn(module.out_features, 2, generator=generator)
    save_file(tensors, tmp_path / "adapters" / "paint.safetensors")
    without, active_adapters = edited(waiting), (Adapter("paint", 0.8),)
    painted = edited(waiting, adapters=active_adapters)
    assert np.array_equal(painted, edited(plain, adapters=active_adapters))
    assert not np.array_equal(painted, without)
    assert np.array_equal(edited(waiting), without)
