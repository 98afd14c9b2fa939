"""Every way to load a model, each ending in an edit, on models that the tests build."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffedit_backend.editing import edit_picture, paste
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.method.settings import settings_for
from diffedit_backend.models import ModelOptions, load_model
from diffedit_backend.models.checks import doubtful_size
from diffedit_protocol.errors import ModelError
from diffedit_protocol.messages import EditRequest
from model_files import (
    FAMILIES,
    change_settings,
    copy_of,
    flagging_checker,
    parts,
    pipeline,
    write_folder,
    write_single_file,
)
from safetensors.torch import load_file, save_file
from tiny_models import tiny_model

REQUEST = EditRequest("a horse", "a zebra", quality="draft", strength=0.5, threshold=0.3)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("DIFFEDIT_HOME", str(tmp_path / "home"))


@pytest.fixture
def picture() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(32, 32, 3) uint8 noise with a square in it."""
    pixels = np.random.default_rng(3).integers(0, 255, (32, 32, 3), np.uint8)
    pixels[8:20, 8:20] = (200, 40, 30)
    return pixels


def assert_edits(model: Any, picture: np.ndarray[Any, Any]) -> None:
    """An edit with the model changes the picture inside of the mask and nowhere else."""
    outcome = edit_picture(DiffEditEngine(model), REQUEST, picture)
    result = paste(picture, outcome, 0)
    assert np.array_equal(result[outcome.mask == 0], picture[outcome.mask == 0])
    assert (result[outcome.mask > 0] != picture[outcome.mask > 0]).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_diffusers_folder_ends_in_an_edit(family: str, tmp_path: Path, picture: Any) -> None:
    model = load_model(write_folder(tmp_path / family, parts(family)), "cpu")
    assert model.is_xl == (family == "xl")
    assert model.native_size == 32
    assert model.schedule.prediction_type == ("v_prediction" if family == "sd2" else "epsilon")
    assert_edits(model, picture)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_single_file_in_the_original_layout_holds_the_same_networks_and_ends_in_an_edit(
    family: str, tmp_path: Path, picture: Any
) -> None:
    made = parts(family)
    model = load_model(write_single_file(tmp_path / "one.safetensors", made, family), "cpu")
    networks = [("unet", model.denoiser), ("vae", model.vae), ("text_encoder", model.text_encoders[0])]
    if family == "xl":
        networks.append(("text_encoder_2", model.text_encoders[1]))
    for name, network in networks:
        expected, loaded = made[name].state_dict(), network.state_dict()
        assert expected.keys() == loaded.keys(), name
        assert all(torch.equal(expected[key], loaded[key]) for key in expected), name
    assert model.schedule.prediction_type == ("v_prediction" if family == "sd2" else "epsilon")
    assert_edits(model, picture)


@pytest.mark.parametrize("layout", ["folder", "single file"])
@pytest.mark.parametrize("family", FAMILIES)
def test_in_bf16_the_autoencoder_computes_in_fp32_with_its_exact_weights(
    family: str, layout: str, tmp_path: Path, picture: Any
) -> None:
    made = parts(family)
    if layout == "folder":
        place = write_folder(tmp_path / "m", made)
    else:
        place = write_single_file(tmp_path / "m.safetensors", made, family)
    model = load_model(place, ModelOptions("cpu", "bf16"))
    assert (model.denoiser.dtype, model.vae.dtype) == (torch.bfloat16, torch.float32)
    assert {encoder.dtype for encoder in model.text_encoders} == {torch.bfloat16}
    expected, loaded = made["vae"].state_dict(), model.vae.state_dict()
    assert all(torch.equal(expected[key], loaded[key]) for key in expected)
    assert_edits(model, picture)


def test_a_hub_id_that_is_in_the_cache_is_loaded_from_it_without_a_network(tmp_path: Path, picture: Any) -> None:
    repository = tmp_path / "hub" / "models--studio--paint"
    write_folder(repository / "snapshots" / ("a" * 40), parts("sd1"))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    assert_edits(load_model("studio/paint", "cpu"), picture)


def test_a_hub_id_loads_the_revision_that_it_is_pinned_to(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--studio--paint"
    write_folder(repository / "snapshots" / ("a" * 40), parts("sd1", "v_prediction"))
    write_folder(repository / "snapshots" / ("b" * 40), parts("sd1", "epsilon"))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    assert load_model("studio/paint", "cpu").schedule.prediction_type == "v_prediction"
    assert load_model(f"studio/paint@{'b' * 40}", "cpu").schedule.prediction_type == "epsilon"


def test_a_hub_id_without_a_network_is_refused_in_words() -> None:
    with pytest.raises(ModelError, match="'studio/paint' is not on this machine and could not be fetched"):
        load_model("studio/paint", "cpu")


def test_a_model_of_the_models_folder_is_loaded_by_its_name(tmp_path: Path) -> None:
    write_folder(tmp_path / "home" / "models" / "inks", parts("sd1"))
    write_single_file(tmp_path / "home" / "models" / "oils.safetensors", parts("sd1"), "sd1")
    assert load_model("inks", "cpu").name == "inks"
    assert load_model("oils", "cpu").name == "oils.safetensors"


@pytest.mark.parametrize("ending", [".ckpt", ".bin", ".pt", ".pth"])
def test_a_pickled_checkpoint_is_refused_with_the_reason_and_the_way_out(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"model{ending}"
    torch.save({"weights": torch.zeros(2)}, file)
    with pytest.raises(ModelError, match=r"is a pickle, which can run any program.*Take the \.safetensors version"):
        load_model(file, "cpu")


@pytest.mark.parametrize("name", ["paint.ckpt", "paint"])
def test_a_pickled_checkpoint_of_the_models_folder_is_refused_by_its_name_too(name: str, tmp_path: Path) -> None:
    (tmp_path / "home" / "models").mkdir(parents=True)
    torch.save({}, tmp_path / "home" / "models" / "paint.ckpt")
    with pytest.raises(ModelError, match=rf"'{name}' is a pickle.*Take the \.safetensors version"):
        load_model(name, "cpu")


def test_a_folder_with_pickled_weights_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", parts("sd1"))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelError, match=r"pickled weights only.*\.safetensors"):
        load_model(folder, "cpu")


def test_a_single_file_that_is_no_whole_model_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "m", parts("sd1"))
    with pytest.raises(ModelError, match=r"holds no whole model but an autoencoder \(VAE\)\."):
        load_model(tmp_path / "m" / "vae" / "diffusion_pytorch_model.safetensors", "cpu")


def test_a_damaged_single_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "half.safetensors"
    file.write_bytes(write_single_file(tmp_path / "whole.safetensors", parts("sd1"), "sd1").read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"'.*half\.safetensors' is damaged"):
        load_model(file, "cpu")


def test_a_single_file_without_its_settings_says_what_to_put_where(tmp_path: Path) -> None:
    file = write_single_file(tmp_path / "alone.safetensors", parts("sd1"), "sd1")
    file.with_suffix("").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"put them in a folder '.*/alone' beside it"):
        load_model(file, "cpu")


def test_a_scheduler_whose_schedule_cannot_be_inverted_is_reported(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", parts("sd1"))
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "EDMEulerScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="trained with EDMEulerScheduler"):
        load_model(folder, "cpu")


def test_an_unknown_prediction_type_is_reported(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", parts("sd1"))
    change_settings(folder, "scheduler", prediction_type="flow")
    with pytest.raises(ModelError, match=r"say that it predicts 'flow'; it must be epsilon, v_prediction or sample"):
        load_model(folder, "cpu")


def test_settings_without_a_size_are_said_and_diffedit_json_has_the_last_word(tmp_path: Path, picture: Any) -> None:
    folder = write_folder(tmp_path / "m", parts("sd1"))
    change_settings(folder, "unet", sample_size=None)
    with pytest.raises(ModelError, match=r"do not say which size it was made for \(sample_size is None\)"):
        load_model(folder, "cpu")
    (folder / "diffedit.json").write_text('{"size": 24}')
    model = load_model(folder, "cpu")
    assert model.native_size == 24
    assert_edits(model, picture)
    for wrong, says in (("25", "a multiple of 4 px, such as 32"), ("-32", "a number of px"), ('"x"', "a number of px")):
        (folder / "diffedit.json").write_text(f'{{"size": {wrong}}}')
        with pytest.raises(ModelError, match=f"must be {says}"):
            load_model(folder, "cpu")


@pytest.mark.parametrize(
    ("width", "side", "usual"), [(768, 256, "512"), (1024, 1024, "512 or 768"), (2048, 256, "512 or 768 or 1024")]
)
def test_a_size_that_no_published_model_of_its_family_has_is_reported(width: int, side: int, usual: str) -> None:
    unet = SimpleNamespace(config=SimpleNamespace(cross_attention_dim=width, sample_size=side // 2))
    remark = doubtful_size(replace(tiny_model(), name="paint", denoiser=unet))
    assert f"'paint' say that it was made for {side} px" in remark
    assert f"are made for {usual}." in remark
    unet.config.sample_size = 512 // 2
    assert doubtful_size(replace(tiny_model(), denoiser=unet)) == ""


class _Echo(torch.nn.Module):
    """In place of a UNet: answers with its input, as a trained noise model nearly does at the highest level."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.config = unet.config

    def forward(self, x: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor]:
        return (x,)


def test_settings_that_call_a_noise_model_a_velocity_model_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "m", parts("sd1"))
    change_settings(folder, "scheduler", prediction_type="v_prediction")
    monkeypatch.setattr("diffedit_backend.models.load._placed", echoing)
    remark = load_model(folder, "cpu").remark
    assert "say v_prediction, but it answers like a model of epsilon" in remark
    (folder / "diffedit.json").write_text('{"prediction_type": "epsilon"}')
    corrected = load_model(folder, "cpu")
    assert (corrected.remark, corrected.schedule.prediction_type) == ("", "epsilon")


def echoing(network: Any, device: torch.device, channels_last: bool = False) -> Any:
    return _Echo(network) if type(network).__name__ == "UNet2DConditionModel" else network.to(device).eval()


def test_settings_that_call_a_velocity_model_a_noise_model_are_said_with_the_edit(tmp_path: Path, picture: Any) -> None:
    model = load_model(write_folder(tmp_path / "m", parts("sd1", "epsilon")), "cpu")  # random weights: no noise model
    outcome = edit_picture(DiffEditEngine(model), REQUEST, picture)
    assert any(note.code == "MODEL" and "say epsilon, but" in note.sentence for note in outcome.warnings)


def test_the_bundled_model_predicts_what_its_settings_say() -> None:
    assert load_model("bundled", "cpu").remark == ""


def test_a_model_with_a_safety_checker_is_checked_by_default_and_a_flagged_result_is_reported(
    tmp_path: Path, picture: Any
) -> None:
    network, processor = flagging_checker()
    folder = tmp_path / "m"
    pipeline(parts("sd1"), safety_checker=network, feature_extractor=processor).save_pretrained(folder)
    with pytest.raises(ModelError, match="safety checker flagged every result, so none is shown"):
        edit_picture(DiffEditEngine(load_model(folder, "cpu")), REQUEST, picture)
    assert_edits(load_model(folder, ModelOptions("cpu", safety=False)), picture)


def test_a_safety_checker_that_flags_nothing_changes_nothing(tmp_path: Path, picture: Any) -> None:
    network, processor = flagging_checker(flags=False)
    folder = tmp_path / "m"
    pipeline(parts("sd1"), safety_checker=network, feature_extractor=processor).save_pretrained(folder)
    checked, unchecked = load_model(folder, "cpu"), load_model(folder, ModelOptions("cpu", safety=False))
    assert checked.safety is not None
    assert unchecked.safety is None
    results = [edit_picture(DiffEditEngine(model), REQUEST, picture) for model in (checked, unchecked)]
    assert np.array_equal(results[0].edits[0].pixels, results[1].edits[0].pixels)


def test_of_several_results_only_the_flagged_ones_are_kept_back(
    tmp_path: Path, picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EverySecond:
        seen = 0

        def flags(self, pixels: Any) -> bool:
            self.seen += 1
            return self.seen % 2 == 0

    # Fresh noise is what makes the results of several seeds differ.
    monkeypatch.setattr("diffedit_backend.editing.settings_for", lambda *names: replace(settings_for(*names), eta=1.0))
    model = replace(load_model(write_folder(tmp_path / "m", parts("sd1")), "cpu"), safety=EverySecond())
    request = replace(REQUEST, variations=4, seed=10)
    outcome = edit_picture(DiffEditEngine(model), request, picture)
    assert [edit.seed for edit in outcome.edits] == [10, 12]
    assert [note.code for note in outcome.warnings].count("FLAGGED") == 1


def test_a_pickled_safety_checker_is_refused_with_the_way_out(tmp_path: Path) -> None:
    network, processor = flagging_checker()
    folder = tmp_path / "m"
    pipeline(parts("sd1"), safety_checker=network, feature_extractor=processor).save_pretrained(folder)
    copy = copy_of(folder, tmp_path / "pickled")
    weights = copy / "safety_checker" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(ModelError, match=r"safety checker .* pickled weights only.*--no-safety-checker"):
        load_model(copy, "cpu")
    assert load_model(copy, ModelOptions("cpu", safety=False)).safety is None


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_folder_that_lacks_weights_is_refused_and_not_filled_up_at_random(part: str, tmp_path: Path) -> None:
    (file,) = (write_folder(tmp_path / "m", parts("sd1")) / part).glob("*.safetensors")
    weights = load_file(file)
    lost = next(name for name in weights if name.endswith("weight"))
    del weights[lost]
    save_file(weights, file)
    with pytest.raises(ModelError, match="is incomplete or damaged") as refused:
        load_model(tmp_path / "m", "cpu")
    assert f"{part} lacks 1 of its weights: " in refused.value.detail
    assert lost.rpartition("text_model.")[2] in refused.value.detail


@pytest.mark.parametrize("layout", ["with the prefix that every published model has", "without it"])
def test_text_encoders_are_read_in_both_layouts_of_transformers(layout: str, tmp_path: Path) -> None:
    made = parts("sd1")
    folder = write_folder(tmp_path / "m", made)
    file = folder / "text_encoder" / "model.safetensors"
    bare = {name.removeprefix("text_model."): value for name, value in load_file(file).items()}
    prefix = "text_model." if layout.startswith("with the") else ""
    save_file({prefix + name: value for name, value in bare.items()}, file)
    loaded, expected = load_model(folder, "cpu").text_encoders[0].state_dict(), made["text_encoder"].state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


def test_a_folder_with_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", parts("sd1"))
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(ModelError, match=r"The vae of .* is damaged: it cannot be read"):
        load_model(folder, "cpu")
