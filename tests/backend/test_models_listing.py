"""`diffedit models`: what can be loaded, from what lies on this machine, with nothing loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
import torch
from diffedit_backend.cli.program import main
from diffedit_backend.models.captioning import load_captioner
from diffedit_backend.models.catalogue.adapter_files import adapters
from diffedit_backend.models.catalogue.weight_files import TensorFact, tensors_in
from diffedit_backend.models.suggesting import load_suggester
from diffedit_backend.server.hello_info import advertised
from diffedit_protocol.errors import ModelError
from diffedit_protocol.frames import MAX_HEADER_BYTES
from diffedit_protocol.replies import AdapterInfo, ServerInfo
from diffedit_protocol.schema import to_map
from model_files import parts, write_folder, write_single_file
from safetensors.torch import load_file, save_file
from word_models import write_captioner, write_suggester


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIFFEDIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "home" / "models").mkdir(parents=True)
    (tmp_path / "home" / "adapters").mkdir()
    return tmp_path / "home"


@pytest.fixture
def listed(capsys: pytest.CaptureFixture[str]) -> Callable[[], dict[str, Any]]:
    """Runs `diffedit models --json`; what it tells, by name."""

    def run() -> dict[str, Any]:
        assert main(["models", "--json"]) == 0
        reported = json.loads(capsys.readouterr().out)
        return {
            "models": {m["name"]: m for m in reported["models"]},
            "adapters": {a["name"]: a for a in reported["adapters"]},
        }

    return run


def parameters(made: dict[str, Any]) -> int:
    networks = [part for part in made.values() if isinstance(part, torch.nn.Module)]
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def test_folders_and_single_files_are_listed_with_their_kind_and_the_memory_of_their_weights(
    home: Path, listed: Callable[[], dict[str, Any]]
) -> None:
    made = {family: parts(family) for family in ("sd1", "sd2", "xl")}
    write_folder(home / "models" / "inks", made["xl"])
    for family in made:
        write_single_file(home / "models" / f"{family}.safetensors", made[family], family)
    models = listed()["models"]
    assert models.keys() == {"bundled", "inks", "sd1", "sd2", "xl"}
    assert (models["inks"]["family"], models["inks"]["size"]) == ("SD XL", 32)
    assert models["inks"]["parameters"] == parameters(made["xl"])
    assert models["inks"]["gpu_bytes"] == 2 * parameters(made["xl"])
    assert models["inks"]["cpu_bytes"] == 4 * parameters(made["xl"])
    assert [models[name]["family"] for name in made] == ["SD 1", "SD 2", "SD XL"]
    assert models["xl"]["parameters"] == parameters(made["xl"])
    assert not any(model["fault"] for model in models.values())


def test_models_of_the_hubs_cache_are_listed_by_their_id(
    home: Path, tmp_path: Path, listed: Callable[[], dict[str, Any]]
) -> None:
    write_folder(tmp_path / "hub" / "models--studio--water-colour" / "snapshots" / "abc", parts("sd1"))
    assert listed()["models"]["studio/water-colour"]["parameters"] == parameters(parts("sd1"))


def test_what_cannot_be_loaded_is_listed_with_the_reason(home: Path, listed: Callable[[], dict[str, Any]]) -> None:
    (home / "models" / "broken.safetensors").write_bytes(b"\xff" * 20)
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(1)}, home / "models" / "part.safetensors")
    torch.save({}, home / "models" / "old.ckpt")
    folder = write_folder(home / "models" / "pickled", parts("sd1"))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    (home / "models" / "flow").mkdir()
    (home / "models" / "flow" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    faults = {name: model["fault"] for name, model in listed()["models"].items() if model["fault"]}
    assert {name: fault.partition(".")[0] if name == "pickled" else fault for name, fault in faults.items()} == {
        "broken": "'broken.safetensors' is damaged: it cannot be read as safetensors. Download it again.",
        "old.ckpt": "'old.ckpt' is a pickle, which can run any program when it is opened, so it is not loaded. "
        "Take the .safetensors version of the model.",
        "flow": "'flow' is a FluxPipeline, which is not supported. "
        "Choose a base model of Stable Diffusion 1, 2 and XL.",
        "part": "'part' holds no whole model but a LoRA. Put it into the adapters folder. "
        "Choose a checkpoint of Stable Diffusion 1, 2 and XL.",
        "pickled": "The unet of 'pickled' has pickled weights only, which can run any program",
    }


def test_adapters_are_listed_with_their_kind(home: Path, listed: Callable[[], dict[str, Any]]) -> None:
    save_file({"unet.a.lora_A.weight": torch.zeros(1, 1)}, home / "adapters" / "oils.safetensors")
    save_file({"emb_params": torch.zeros(1, 4)}, home / "adapters" / "toy.safetensors")
    assert {name: a["kind"] for name, a in listed()["adapters"].items()} == {"oils": "LoRA", "toy": "textual inversion"}


@pytest.mark.parametrize(
    ("tensors", "family"),
    [
        ({"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": (4, 768)}, "SD 1"),
        ({"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v.lora_A.weight": (4, 1024)}, "SD 2"),
        ({"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora.down.weight": (4, 2048)}, "SD XL"),
        ({"lora_te2_text_model_encoder_layers_0_self_attn_k_proj.lora_down.weight": (4, 1280)}, "SD XL"),
        ({"text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight": (4, 768)}, "SD 1"),
        ({"unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_k.lora_A.weight": (4, 768)}, ""),
        ({"emb_params": (2, 768)}, "SD 1"),
        ({"clip_l": (2, 768), "clip_g": (2, 1280)}, "SD XL"),
        ({"<toy>": (2, 128)}, ""),
    ],
)
def test_an_adapter_tells_which_models_it_was_made_for(
    home: Path, listed: Callable[[], dict[str, Any]], tensors: dict[str, tuple[int, int]], family: str
) -> None:
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, home / "adapters" / "ink.safetensors")
    assert listed()["adapters"]["ink"]["family"] == family


def test_a_textual_inversion_tells_the_word_to_say(home: Path, listed: Callable[[], dict[str, Any]]) -> None:
    save_file({"<toy>": torch.zeros(1, 8)}, home / "adapters" / "a.safetensors")
    save_file({"emb_params": torch.zeros(1, 8)}, home / "adapters" / "b.safetensors")
    save_file({"unet.x.lora_A.weight": torch.zeros(1, 8)}, home / "adapters" / "c.safetensors")
    assert {name: entry["word"] for name, entry in listed()["adapters"].items()} == {"a": "<toy>", "b": "b", "c": ""}


def test_an_adapter_that_is_added_or_exchanged_is_told_at_the_next_look(home: Path) -> None:
    assert adapters() == []
    file = home / "adapters" / "ink.safetensors"
    save_file({"emb_params": torch.zeros(1, 768)}, file)
    assert [(entry.kind, entry.family) for entry in adapters()] == [("textual inversion", "SD 1")]
    save_file({"emb_params": torch.zeros(3, 1024)}, file)
    assert [entry.family for entry in adapters()] == ["SD 2"]
    file.write_bytes(b"nothing")
    assert [entry.kind for entry in adapters()] == ["damaged"]


def test_more_adapters_than_a_message_holds_are_told_as_far_as_they_fit() -> None:
    many = [AdapterInfo(f"a style of a painter, number {n}", "LoRA", "SD XL") for n in range(2000)]
    few = advertised(many)
    assert few == tuple(many[: len(few)])
    assert 300 < len(few) < 2000
    welcome = to_map(ServerInfo("1", "boot", adapters=tuple(a.name for a in few), adapter_details=few))
    assert len(msgpack.packb(welcome)) < MAX_HEADER_BYTES
    assert advertised(many[:10]) == tuple(many[:10])


def test_models_for_words_are_listed_with_their_memory_and_where_they_lie(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_captioner(home / "captioner")
    write_suggester(home / "suggester")
    assert main(["models", "--json"]) == 0
    words = {entry["purpose"]: entry for entry in json.loads(capsys.readouterr().out)["words"]}
    loaded = {
        "describe": load_captioner(str(home / "captioner"), "cpu").nbytes,
        "suggest": load_suggester(str(home / "suggester"), "cpu").nbytes,
    }
    for purpose, folder in (("describe", home / "captioner"), ("suggest", home / "suggester")):
        weights = load_file(folder / "model.safetensors").values()
        assert (words[purpose]["name"], words[purpose]["place"]) == (str(folder), str(folder))
        assert words[purpose]["fault"] == ""
        assert words[purpose]["bytes"] == sum(tensor.nbytes for tensor in weights)
        # Tables of positions, a few kB, are made when it is loaded.
        assert words[purpose]["bytes"] == pytest.approx(loaded[purpose], rel=0.1)
    assert main(["models"]) == 0
    reported = capsys.readouterr().out
    assert f"describes pictures: {home / 'captioner'}  0 MB" in reported
    assert f"suggests words: {home / 'suggester'}  0 MB" in reported


def test_where_there_are_no_models_for_words_it_is_said_how_to_get_them(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models"]) == 0
    reported = capsys.readouterr().out
    assert (
        f"Nothing describes pictures. Put a BLIP folder with .safetensors weights at {home / 'captioner'}" in reported
    )
    assert (
        f"Nothing suggests words. Put a T5 or FLAN-T5 folder with .safetensors weights at {home / 'suggester'}"
        in reported
    )
    assert "`diffedit suggest` fetches google/flan-t5-large" in reported


def test_models_for_words_that_the_hubs_cache_holds_or_that_cannot_be_loaded_are_reported(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_captioner(tmp_path / "hub" / "models--Salesforce--blip-image-captioning-base" / "snapshots" / "abc")
    suggester = write_suggester(home / "suggester")
    (suggester / "model.safetensors").rename(suggester / "pytorch_model.bin")
    assert main(["models"]) == 0
    reported = capsys.readouterr().out
    assert "describes pictures: Salesforce/blip-image-captioning-base  0 MB" in reported
    assert f"suggests words: {suggester} cannot be loaded: It has no .safetensors weights." in reported


@pytest.mark.parametrize(
    ("dtype", "shape", "nbytes"), [("F32", (2, 3), 24), ("BF16", (5,), 10), ("F8_E4M3", (7,), 7), ("BOOL", (3,), 3)]
)
def test_a_tensors_bytes_follow_from_its_header(dtype: str, shape: tuple[int, ...], nbytes: int) -> None:
    assert TensorFact(dtype, shape).nbytes == nbytes


def test_the_list_for_people_names_the_folders_to_fill(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "models" / "broken.safetensors").write_bytes(b"")
    assert main(["models"]) == 0
    reported = capsys.readouterr().out
    assert "bundled" in reported
    assert "broken   cannot be loaded: " in reported
    assert str(home / "models") in reported
    assert str(home / "adapters") in reported


def test_listing_needs_no_torch(home: Path) -> None:
    script = (
        "import sys; sys.modules['torch'] = None; from diffedit_backend.cli import main; sys.exit(main(['models']))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.parametrize("content", [b"\x10", b"\x02" + bytes(7) + b"[]", b"\xff" * 30])
def test_a_header_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"'x\.safetensors' is damaged"):
        tensors_in(file)
