"""Flow models where people have them: on the hub, beside ComfyUI, quantised. Lists say of them what loading does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from diffedit_backend.cli.program import main
from diffedit_backend.cli.serve import offered
from diffedit_backend.editing import edit_picture
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.method.memory import bytes_of
from diffedit_backend.method.network import Network
from diffedit_backend.method.text import encode_text
from diffedit_backend.models import LoadedModel, load_model
from diffedit_backend.models.adding import add
from diffedit_backend.models.catalogue import flow_kinds
from diffedit_backend.models.catalogue.folders import kept_models
from diffedit_backend.models.catalogue.listing import entry_of
from diffedit_protocol.errors import ModelError
from diffedit_protocol.messages import EditRequest
from model_files import parts, write_folder
from safetensors.torch import load_file, save_file
from small_hub import REPOSITORY, SmallHub, small_hub
from tiny_flow_models import FOLDERS, TINY, transformer_alone, write_folders
from torch import Tensor

REQUEST = EditRequest(source="a red apple", target="a green pear", seed=3, quality="draft", threshold=0.6, strength=0.6)
ENOUGH = 32  # values of a block of Q4_0: rows must be made of whole ones


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return write_folders(tmp_path_factory.mktemp("flow models"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, empty, and a cache of the hub with nothing in it; the hub is switched off."""
    monkeypatch.setenv("DIFFEDIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "home" / "models").mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def hub(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub on loopback that offers what lies in its folder; every family takes its settings from there."""
    with small_hub(tmp_path / "offered") as found:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", found.address)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            found.address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr(
            flow_kinds, "FLOW_KINDS", tuple(replace(kind, hub=REPOSITORY) for kind in flow_kinds.FLOW_KINDS)
        )
        yield found


def picture_of(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (height, width, 3), dtype=np.uint8)


def velocity(model: LoadedModel) -> Tensor:
    x = torch.randn(1, model.latent_channels, 4, 4, generator=torch.Generator().manual_seed(2))
    return Network(model).predict(x, model.schedule.level_at(0.5, 16), [encode_text(model, "a red apple")])


def fault_of(load: Callable[[], object]) -> str:
    with pytest.raises(ModelError) as refusal:
        load()
    return refusal.value.sentence


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_hub_id_of_each_family_is_fetched_once_and_edited_with(
    kind: str, folders: Mapping[str, Path], hub: SmallHub
) -> None:
    shutil.copytree(folders[kind], hub.folder)
    (hub.folder / "transformer" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    model = load_model(REPOSITORY, "cpu")
    assert model.family.name == TINY[kind].family.name
    assert not any(path.endswith(".bin") for path in hub.asked)
    hub.asked.clear()
    again = load_model(REPOSITORY, "cpu")
    assert hub.asked == []
    assert torch.equal(velocity(again), velocity(load_model(str(folders[kind]), "cpu")))
    model = replace(model, family=TINY[kind].family)
    outcome = edit_picture(DiffEditEngine(model), replace(REQUEST, task="mask"), picture_of(32, 32))
    assert np.count_nonzero(outcome.mask) > 0


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_transformer_without_settings_takes_those_of_its_family_from_the_hub_and_no_weights(
    kind: str, folders: Mapping[str, Path], hub: SmallHub, tmp_path: Path
) -> None:
    shutil.copytree(folders[kind], hub.folder)
    file = transformer_alone(folders[kind], tmp_path / "comfy")
    shutil.rmtree(file.with_suffix(""))
    assert entry_of(kind, file).fault == ""
    model = load_model(str(file), "cpu")
    assert not any(path.endswith(".safetensors") for path in hub.asked)
    assert torch.equal(velocity(model), velocity(load_model(str(folders[kind]), "cpu")))
    hub.asked.clear()
    load_model(str(file), "cpu")
    assert hub.asked == []


def without(*parts_of_it: str) -> Callable[[Path], None]:
    """Takes files of a transformer's surroundings away."""

    def take_away(file: Path) -> None:
        for part in parts_of_it:
            shutil.rmtree(file.with_suffix("") if part == "settings" else file.parent.parent / part)

    return take_away


def scaled(file: Path) -> None:
    tensors = load_file(file)
    save_file({**tensors, "scaled_fp8": torch.zeros(2)}, file)


def of_other_channels(file: Path) -> None:
    vae = file.parent.parent / "vae" / "ae.safetensors"
    tensors = load_file(vae)
    tensors["decoder.conv_in.weight"] = tensors["decoder.conv_in.weight"][:, :1].contiguous()
    save_file(tensors, vae)


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (without("settings"), "its settings and tokenizer (a few MB) are not here"),
        (without("vae"), "no autoencoder that fits it lies in"),
        (of_other_channels, "no autoencoder that fits it lies in"),
        (without("text_encoders"), "alone and has no text_encoder"),
        (without("text_encoders", "vae"), "alone and has no text_encoder"),
        (scaled, "holds scaled fp8 weights"),
    ],
    ids=["settings", "vae", "another-vae", "encoders", "both", "scaled-fp8"],
)
def test_the_list_names_what_a_transformer_lacks_in_the_words_of_loading(
    kind: str, harm: Callable[[Path], None], what: str, folders: Mapping[str, Path], home: Path, tmp_path: Path
) -> None:
    file = transformer_alone(folders[kind], tmp_path / "comfy")
    name = str(file)
    assert entry_of(name, file).fault == ""
    harm(file)
    listed = entry_of(name, file).fault
    assert what in listed
    assert listed == fault_of(lambda: load_model(name, "cpu"))


def quantised(file: Path, kind: gguf.GGMLQuantizationType) -> Path:
    """The file's matrices quantised, the rest as it is, as GGUF files of these models are made."""
    writer = gguf.GGUFWriter(file.with_suffix(".gguf"), "flux")
    for key, tensor in load_file(file).items():
        values = tensor.float().numpy()
        if values.ndim == 2 and values.shape[1] % ENOUGH == 0 and kind != gguf.GGMLQuantizationType.F16:
            writer.add_tensor(key, gguf.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(key, values.astype(np.float16) if values.ndim == 2 else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file.unlink()
    return file.with_suffix(".gguf")


@pytest.mark.parametrize(("kind", "least"), [("F16", 0.9999), ("Q8_0", 0.999), ("Q4_0", 0.9)])
def test_a_gguf_file_is_read_by_the_librarys_quantisation_stays_quantised_and_is_edited_with(
    kind: str, least: float, folders: Mapping[str, Path], home: Path, tmp_path: Path
) -> None:
    file = quantised(transformer_alone(folders["flux2-klein"], tmp_path / "comfy"), gguf.GGMLQuantizationType[kind])
    model, whole = load_model(str(file), "cpu"), load_model(str(folders["flux2-klein"]), "cpu")
    ours, theirs = velocity(model).flatten(), velocity(whole).flatten()
    assert least < float(torch.corrcoef(torch.stack((ours, theirs)))[0, 1])
    assert not torch.equal(ours, theirs)
    query = model.denoiser.transformer_blocks[0].attn.to_q.weight
    assert getattr(query, "quant_type", gguf.GGMLQuantizationType.F16) == gguf.GGMLQuantizationType[kind]
    if kind == "Q4_0":
        assert query.nbytes * 32 == whole.denoiser.transformer_blocks[0].attn.to_q.weight.numel() * 18
        assert bytes_of(model.denoiser) < bytes_of(whole.denoiser) / 2
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 8:24] = 255
    outcome = edit_picture(DiffEditEngine(model), REQUEST, picture_of(32, 32), mask=mask)
    assert (outcome.edits[0].pixels[..., :3] != picture_of(32, 32)[8:20, 8:24]).any()


def test_memory_that_is_listed_counts_what_stays_quantised_by_its_bytes(
    folders: Mapping[str, Path], home: Path, tmp_path: Path
) -> None:
    whole = entry_of("whole", folders["flux2-klein"])
    file = transformer_alone(folders["flux2-klein"], tmp_path / "comfy")
    alone = entry_of("alone", file)
    assert (alone.parameters, alone.size) == (whole.parameters, whole.size)
    assert alone.bytes_in_memory(4) == 4 * whole.parameters
    four_bits = entry_of("four bits", quantised(file, gguf.GGMLQuantizationType.Q4_0))
    assert four_bits.parameters == whole.parameters
    assert 0 < four_bits.quantised < four_bits.parameters
    assert (
        four_bits.quantised_bytes * 32 == four_bits.quantised * 18
    )  # 32 values of four bits, and a scale of two bytes
    assert four_bits.bytes_in_memory(4) == 4 * (whole.parameters - four_bits.quantised) + four_bits.quantised_bytes


def test_transformers_in_comfyuis_folders_are_shared_with_their_encoders_in_folders_of_their_own(
    folders: Mapping[str, Path], home: Path, tmp_path: Path
) -> None:
    root = tmp_path / "ComfyUI" / "models"
    (root / "checkpoints").mkdir(parents=True)
    file = transformer_alone(folders["flux2-klein"], root)
    for part in ("diffusion_models", "text_encoders"):
        below = root / part / "klein"
        below.mkdir()
        for place in [place for place in (root / part).iterdir() if place != below]:
            place.rename(below / place.name)
    moved = quantised(file.parent / "klein" / file.name, gguf.GGMLQuantizationType.Q4_0)
    add(str(tmp_path / "ComfyUI"))
    assert kept_models() == {moved.stem: moved}
    assert load_model(moved.stem, "cpu").family.name == "FLUX.2 klein"


def test_a_gguf_file_in_the_models_folder_is_found_by_its_name_and_can_be_added_from_elsewhere(
    folders: Mapping[str, Path], home: Path, tmp_path: Path
) -> None:
    made = quantised(transformer_alone(folders["z-image"], tmp_path / "comfy"), gguf.GGMLQuantizationType.F16)
    kept = home / "models" / "apples.gguf"
    shutil.copy(made, kept)
    assert kept_models() == {"apples": kept}
    added = add(str(made))
    assert (added.kind, added.family, added.name) == ("model", "Z-Image", made.stem)
    assert kept_models() == {"apples": kept, made.stem: made}


def test_the_backend_offers_the_models_that_diffedit_models_lists_with_the_same_facts_and_faults(
    folders: Mapping[str, Path], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in FOLDERS:
        shutil.copytree(folders[kind], home / "models" / kind)
    shutil.copytree(folders["z-image"], home / "models" / "Z-Image-Turbo")
    write_folder(home / "models" / "inks", parts("xl"))
    alone = transformer_alone(folders["sd3"], tmp_path / "comfy")
    shutil.copy(alone, home / "models" / "lonely.safetensors")
    shutil.copytree(folders["sd3"], home / "models" / "broken", ignore=shutil.ignore_patterns("vae"))
    (home / "models" / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["models"]
    reported = {model.name: model for model in offered([], bytes_per_parameter=4)}
    assert {name: (m.family, m.size, m.memory, m.fault) for name, m in reported.items()} == {
        m["name"]: (m["family"], m["size"], m["cpu_bytes"], m["fault"]) for m in listed
    }
    assert {name for name, model in reported.items() if model.fault} == {"lonely", "broken", "pointer"}
    assert {m["name"]: m["few_steps"] for m in listed if m["few_steps"]} == {"Z-Image-Turbo": 8}
    assert main(["doctor", "--no-test"]) == 0
    doctor = capsys.readouterr().out
    assert "Stable Diffusion 1, 2 and XL, FLUX.2 klein, Stable Diffusion 3, Z-Image, Qwen-Image" in doctor
    assert "Z-Image, 0.0 GB on a GPU, 8 steps" in doctor
    for model in reported.values():
        assert model.fault in doctor
