"""Flow models from a folder, and from a transformer alone with encoders and autoencoder beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffedit_backend.editing import edit_picture, paste
from diffedit_backend.method.engine import DiffEditEngine, Subject
from diffedit_backend.method.network import Network
from diffedit_backend.method.schedule import count_steps
from diffedit_backend.method.settings import FAST
from diffedit_backend.method.solvers import seeded_noise
from diffedit_backend.method.text import encode_text
from diffedit_backend.models import LoadedModel, load_model
from diffedit_backend.models.catalogue.flow_kinds import few_steps_of, kind_of_pipeline, kind_of_tensors
from diffedit_backend.models.catalogue.listing import entry_of
from diffedit_backend.models.lora import add_lora, set_adapters
from diffedit_protocol.errors import BadInputError, ModelError
from diffedit_protocol.messages import EditRequest
from safetensors.torch import load_file, save_file
from tiny_flow_models import FOLDERS, TINY, tiny_flow_model, transformer_alone, write_folders
from torch import Tensor

REQUEST = EditRequest(source="a red apple", target="a green pear", seed=3, quality="draft", threshold=0.6, strength=0.6)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A diffusers folder of each family, as diffusers itself writes it."""
    return write_folders(tmp_path_factory.mktemp("flow models"))


def picture_of(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (height, width, 3), dtype=np.uint8)


def weights_of(model: LoadedModel) -> dict[str, Tensor]:
    return dict(model.denoiser.state_dict())


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_of_each_family_loads_with_all_that_its_pipeline_was_built_of(
    kind: str, folders: Mapping[str, Path]
) -> None:
    loaded, built = load_model(str(folders[kind]), "cpu"), tiny_flow_model(kind)
    assert loaded.family.name == built.family.name
    assert loaded.schedule == built.schedule
    assert loaded.few_steps == 0
    assert all(torch.equal(a, b) for a, b in zip(weights_of(loaded).values(), weights_of(built).values(), strict=True))
    texts = [encode_text(model, "a red apple") for model in (loaded, built)]
    assert torch.equal(texts[0].tokens, texts[1].tokens)


@pytest.mark.parametrize("kind", FOLDERS)
def test_an_edit_with_each_family_changes_the_mask_and_nothing_else(kind: str, folders: Mapping[str, Path]) -> None:
    model = replace(load_model(str(folders[kind]), "cpu"), family=TINY[kind].family)
    picture = picture_of(32, 32)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 8:24] = 255
    for method in ("fast", "align"):
        outcome = edit_picture(DiffEditEngine(model), replace(REQUEST, method=method), picture, mask=mask)
        edited = paste(picture, outcome)
        assert np.array_equal(edited[mask == 0], picture[mask == 0])
        assert not np.array_equal(edited[mask > 0], picture[mask > 0])


@pytest.mark.parametrize("kind", FOLDERS)
@torch.inference_mode()
def test_the_map_of_each_family_is_the_mean_difference_of_its_velocities(
    kind: str, folders: Mapping[str, Path]
) -> None:
    model = replace(load_model(str(folders[kind]), "cpu"), family=TINY[kind].family)
    engine, settings = DiffEditEngine(model), replace(FAST, maps=3, second_ratios=None, map_mean="sizes")
    subject = Subject.of(picture_of(48, 32))
    found = engine.difference(subject, REQUEST.source, REQUEST.target, settings)
    x0 = engine.encode(subject)
    level = model.schedule.level_at(settings.map_ratio, x0.shape[-2] * x0.shape[-1])
    x = level.alpha * x0 + level.sigma * seeded_noise((3, *x0.shape[1:]), 0, x0)
    source, target = (
        Network(model).predict(x, level, [encode_text(model, text)] * 3) for text in (REQUEST.source, REQUEST.target)
    )
    assert level.sigma == settings.map_ratio
    assert torch.allclose(found, (source - target).abs().mean((0, 1)), atol=1e-4)
    assert float(found.max()) > 1e-3


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_transformer_alone_finds_encoders_and_autoencoder_in_the_folders_beside_it(
    kind: str, folders: Mapping[str, Path], tmp_path: Path
) -> None:
    loaded, built = load_model(str(transformer_alone(folders[kind], tmp_path)), "cpu"), tiny_flow_model(kind)
    assert loaded.family.name == built.family.name
    assert all(torch.equal(a, b) for a, b in zip(weights_of(loaded).values(), weights_of(built).values(), strict=True))
    picture = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        latents = [model.family.encode(model, picture) for model in (loaded, built)]
    assert torch.equal(*latents)
    texts = [encode_text(model, "a red apple") for model in (loaded, built)]
    assert torch.equal(texts[0].tokens, texts[1].tokens)


def _velocity(model: LoadedModel) -> Tensor:
    x = torch.randn(1, model.latent_channels, 4, 4, generator=torch.Generator().manual_seed(2))
    level = model.schedule.level_at(0.5, 16)
    return Network(model).predict(x, level, [encode_text(model, "a red apple")])


def test_weights_of_eight_bits_stay_so_in_memory_and_compute_in_the_models_precision(
    folders: Mapping[str, Path], tmp_path: Path
) -> None:
    file = transformer_alone(folders["flux2-klein"], tmp_path)
    tensors = load_file(file)
    save_file({k: v.to(torch.float8_e4m3fn) if v.ndim == 2 else v for k, v in tensors.items()}, file)
    model = load_model(str(file), "cpu")
    kept = [p.dtype for name, p in model.denoiser.named_parameters() if "attn.to_q" in name]
    assert set(kept) == {torch.float8_e4m3fn}
    whole = load_model(str(folders["flux2-klein"]), "cpu")
    ours, theirs = (_velocity(m) for m in (model, whole))
    assert 0.9 < float(torch.corrcoef(torch.stack((ours.flatten(), theirs.flatten())))[0, 1]) < 1


def test_t5_may_be_left_out_and_the_model_says_so(folders: Mapping[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "without t5"
    shutil.copytree(folders["sd3"], folder, ignore=shutil.ignore_patterns("text_encoder_3", "tokenizer_3"))
    model = load_model(str(folder), "cpu")
    assert len(model.text_encoders) == 2
    assert "T5 is not there" in model.remark


def test_what_is_missing_beside_a_transformer_is_said_by_name(folders: Mapping[str, Path], tmp_path: Path) -> None:
    file = transformer_alone(folders["z-image"], tmp_path)
    shutil.rmtree(tmp_path / "vae")
    with pytest.raises(ModelError, match=r"no autoencoder that fits it lies in .*vae"):
        load_model(str(file), "cpu")
    shutil.rmtree(tmp_path / "text_encoders")
    shutil.copytree(folders["z-image"] / "vae", file.with_suffix("") / "vae", dirs_exist_ok=True)
    with pytest.raises(ModelError, match=r"has no text_encoder \(Qwen3ForCausalLM\)"):
        load_model(str(file), "cpu")


def test_weights_larger_than_the_machine_are_refused_before_they_are_read(
    folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    small = psutil.virtual_memory()._replace(total=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: small)
    with pytest.raises(ModelError, match=r"take 0\.0 GB, and this machine has 0\.0 GB"):
        load_model(str(folders["sd3"]), "cpu")


def test_weighted_words_and_attention_are_refused_with_the_familys_name(folders: Mapping[str, Path]) -> None:
    model = load_model(str(folders["sd3"]), "cpu")
    with pytest.raises(BadInputError, match="Stable Diffusion 3 models"):
        edit_picture(DiffEditEngine(model), replace(REQUEST, attention=0.5), picture_of(32, 32))


def test_a_distilled_model_is_told_by_its_settings_or_its_name() -> None:
    klein, z_image = (kind_of_pipeline({"_class_name": f"{c}Pipeline"}) for c in ("Flux2Klein", "ZImage"))
    assert klein is not None
    assert z_image is not None
    assert few_steps_of(klein, "FLUX.2-klein-4B", {"is_distilled": True}) == 4
    assert few_steps_of(klein, "FLUX.2-klein-base-4B", {"is_distilled": False}) == 0
    assert few_steps_of(klein, "flux-2-klein-base-4b.safetensors", {}) == 0
    assert few_steps_of(klein, "flux-2-klein-4b.safetensors", {}) == 4
    assert few_steps_of(z_image, "Z-Image-Turbo", {}) == 8
    assert few_steps_of(z_image, "Z-Image", {}) == 0


def test_a_distilled_model_is_edited_without_inversion_in_its_own_steps_and_a_base_model_with_one(
    folders: Mapping[str, Path], tmp_path: Path
) -> None:
    turbo = shutil.copytree(folders["z-image"], tmp_path / "Z-Image-Turbo")
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 8:24] = 255
    request = replace(REQUEST, quality="normal")
    counts = {}
    for folder in (turbo, folders["z-image"]):
        engine = DiffEditEngine(load_model(str(folder), "cpu"))
        edit_picture(engine, request, picture_of(32, 32), mask=mask)
        counts[folder.name] = engine.evaluations
    assert counts["Z-Image-Turbo"] == 3 * count_steps(8, request.strength)
    walked = count_steps(FAST.steps, request.strength)
    inverted = -(-walked // FAST.inversion_every)
    asked = 1 + walked // FAST.guidance_every
    assert (
        counts["z-image"] == inverted + walked + 2 * asked
    )  # what is led away from has two parts, each asked by itself


def test_tensors_of_another_family_are_none_of_these(folders: Mapping[str, Path]) -> None:
    for kind in FOLDERS:
        names = load_file(next((folders[kind] / "transformer").glob("*.safetensors")))
        found = kind_of_tensors(names)
        assert found is not None
        assert found.name == TINY[kind].family.name
    assert kind_of_tensors(["double_blocks.0.img_attn.norm.key_norm.scale"]) is None


def test_a_pipeline_of_another_family_is_refused_by_its_name(tmp_path: Path) -> None:
    index = {"_class_name": "LTXPipeline", "transformer": ["diffusers", "LTXVideoTransformer3DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="LTXPipeline"):
        load_model(str(tmp_path), "cpu")


def lora_of(model: LoadedModel, layer: str) -> dict[str, Tensor]:
    """A LoRA of rank 2 on one linear layer of the transformer, by diffusers' names."""
    weight = dict(model.denoiser.named_parameters())[f"{layer}.weight"]
    draw = torch.Generator().manual_seed(1)
    return {
        f"transformer.{layer}.lora_A.weight": torch.randn(2, weight.shape[1], generator=draw),
        f"transformer.{layer}.lora_B.weight": torch.randn(weight.shape[0], 2, generator=draw),
    }


LAYERS = {
    "flux2-klein": "transformer_blocks.0.attn.to_q",
    "sd3": "transformer_blocks.0.attn.to_q",
    "z-image": "layers.0.attention.to_q",
    "qwen-image": "transformer_blocks.0.attn.to_q",
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_lora_of_each_family_adds_its_product_to_the_weights_and_leaves_them_when_it_is_not_chosen(
    kind: str, folders: Mapping[str, Path]
) -> None:
    model = load_model(str(folders[kind]), "cpu")
    module = model.denoiser.get_submodule(LAYERS[kind])
    x = torch.randn(1, module.weight.shape[1])
    before = module(x)
    tensors = lora_of(model, LAYERS[kind])
    down, up = tensors.values()
    add_lora(model, "tiny", "tiny", tensors)
    set_adapters(model, {"tiny": 0.5})
    adapted = model.denoiser.get_submodule(LAYERS[kind])
    assert torch.allclose(adapted(x), before + 0.5 * x @ down.T @ up.T, atol=1e-4)
    set_adapters(model, {})
    assert torch.allclose(adapted(x), before, atol=1e-6)


def test_a_lora_of_another_family_is_refused_by_name(folders: Mapping[str, Path]) -> None:
    klein, sd3 = (load_model(str(folders[kind]), "cpu") for kind in ("flux2-klein", "sd3"))
    tensors = lora_of(klein, LAYERS["flux2-klein"])
    tensors = {key.replace("to_q", "to_nothing"): value for key, value in tensors.items()}
    with pytest.raises(ModelError, match="'apples' does not fit"):
        add_lora(sd3, "apples", "apples", tensors)


def test_the_list_of_models_names_family_size_and_memory_of_a_flow_model(folders: Mapping[str, Path]) -> None:
    for kind in FOLDERS:
        entry, model = entry_of(kind, folders[kind]), tiny_flow_model(kind)
        assert (entry.family, entry.fault) == (model.family.name, "")
        networks = (model.denoiser, model.vae, *model.text_encoders)
        there = sum(tensor.numel() for network in networks for tensor in network.state_dict().values())
        assert 0.8 * there < entry.parameters <= there  # tied weights and counters are stored once or not at all
        assert entry.size == (1024 if kind == "qwen-image" else 32)
