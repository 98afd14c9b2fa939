"""Adding models: from where other programs have them, from a file, from the hub; what they are, whether they fit."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffedit_backend.cli.program import main
from diffedit_backend.models import load_model
from diffedit_backend.models.adding import Addition, FreeMemory, add, look_at
from diffedit_backend.models.catalogue.adapter_files import adapters
from diffedit_backend.models.catalogue.folders import kept_adapters, kept_models, vae_path
from diffedit_backend.models.catalogue.listing import models
from diffedit_backend.models.catalogue.shared import program_of, read_shared
from diffedit_protocol.errors import ModelError
from model_files import copy_of, parts, write_folder, write_single_file
from safetensors.torch import save_file

GIB = 1 << 30
ROOMY = FreeMemory(24 * GIB, 64 * GIB, on_cpu=False)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.set_num_threads(1)
    monkeypatch.setenv("DIFFEDIT_HOME", str(tmp_path / "Daten, für mich"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "Daten, für mich"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder `inks`, a checkpoint `oils.safetensors` with its settings beside it, a LoRA, an embedding."""
    place = tmp_path_factory.mktemp("made")
    write_folder(place / "inks", parts("sd1"))
    write_single_file(place / "oils.safetensors", parts("sd1"), "sd1")
    save_file(lora(), place / "paint.safetensors")
    save_file({"emb_params": torch.zeros(1, 768)}, place / "toy.safetensors")
    return place


def lora() -> dict[str, torch.Tensor]:
    return {"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": torch.zeros(4, 768)}


def put(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, folder)


def comfy(root: Path, made: Path) -> Path:
    put(made / "oils.safetensors", root / "models" / "checkpoints" / "SD 1.5")
    copy_of(made / "oils", root / "models" / "checkpoints" / "SD 1.5" / "oils")
    copy_of(made / "inks", root / "models" / "diffusers" / "inks")
    put(made / "paint.safetensors", root / "models" / "loras" / "стили")
    put(made / "toy.safetensors", root / "models" / "embeddings")
    put(made / "inks" / "vae" / "diffusion_pytorch_model.safetensors", root / "models" / "vae")
    return root


def a1111(root: Path, made: Path) -> Path:
    put(made / "oils.safetensors", root / "models" / "Stable-diffusion")
    copy_of(made / "oils", root / "models" / "Stable-diffusion" / "oils")
    copy_of(made / "inks", root / "models" / "Stable-diffusion" / "inks")
    put(made / "paint.safetensors", root / "models" / "Lora")
    put(made / "toy.safetensors", root / "embeddings")
    put(made / "inks" / "vae" / "diffusion_pytorch_model.safetensors", root / "models" / "VAE")
    return root


def invoke(root: Path, made: Path) -> Path:
    entries = [
        {"name": "inks", "type": "main", "base": "sd-1", "format": "diffusers", "path": "0a1b/inks"},
        {"name": "oils", "type": "main", "base": "sd-1", "format": "checkpoint", "path": "2c3d/oils.safetensors"},
        {"name": "paint", "type": "lora", "base": "sd-1", "format": "lycoris", "path": "4e5f/paint.safetensors"},
        {"name": "toy", "type": "embedding", "base": "sd-1", "path": "6a7b/toy.safetensors"},
        {"name": "diffusion_pytorch_model", "type": "vae", "path": "8c9d/diffusion_pytorch_model.safetensors"},
        {"name": "gone", "type": "main", "path": "nowhere"},
        {"name": "depth", "type": "controlnet", "path": "0a1b/inks"},
    ]
    copy_of(made / "inks", root / "models" / "0a1b" / "inks")
    put(made / "oils.safetensors", root / "models" / "2c3d")
    copy_of(made / "oils", root / "models" / "2c3d" / "oils")
    put(made / "paint.safetensors", root / "models" / "4e5f")
    put(made / "toy.safetensors", root / "models" / "6a7b")
    put(made / "inks" / "vae" / "diffusion_pytorch_model.safetensors", root / "models" / "8c9d")
    (root / "databases").mkdir()
    database = sqlite3.connect(root / "databases" / "invokeai.db")
    database.execute("CREATE TABLE models (id TEXT, config TEXT)")
    database.executemany("INSERT INTO models VALUES (?, ?)", [(str(i), json.dumps(e)) for i, e in enumerate(entries)])
    database.commit()
    database.close()
    return root


def krita_ai_diffusion(root: Path, made: Path) -> Path:
    comfy(root / "server" / "ComfyUI", made)
    return root / "server"


PROGRAMS: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "ComfyUI": (comfy, "ComfyUI"),
    "A1111": (a1111, "A1111"),
    "InvokeAI": (invoke, "InvokeAI"),
    "krita-ai-diffusion": (krita_ai_diffusion, "ComfyUI"),
}


def files_below(folder: Path) -> set[tuple[str, int]]:
    return {(str(file), file.stat().st_mtime_ns) for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_models_of_another_program_are_shared_and_nothing_is_copied(
    program: str, made: Path, home: Path, tmp_path: Path
) -> None:
    write, name = PROGRAMS[program]
    folder = write(tmp_path / "Programme (neu)" / program, made)
    before = files_below(folder)
    assert program_of(folder) == name
    looked = look_at(str(folder))
    assert (looked.kind, looked.models, looked.adapters) == ("program", 2, 2)
    assert kept_models() == {}
    assert add(str(folder)) == looked
    assert kept_models().keys() == {"inks", "oils"}
    assert kept_adapters().keys() == {"paint", "toy"}
    assert {entry.name: entry.fault for entry in models()} == {"bundled": "", "inks": "", "oils": ""}
    assert {entry.name: entry.family for entry in adapters()} == {"paint": "SD 1", "toy": "SD 1"}
    assert vae_path("diffusion_pytorch_model").is_file()
    for model in ("inks", "oils"):
        assert load_model(model, "cpu").native_size == 32
    assert files_below(folder) == before
    assert [file.name for file in home.rglob("*") if file.is_file()] == ["shared.json"]
    add(str(folder))
    assert len(read_shared().folders) == 1
    shutil.rmtree(folder)
    assert (kept_models(), kept_adapters()) == ({}, {})


def test_what_a_person_put_into_the_models_folder_goes_before_what_is_shared(
    made: Path, home: Path, tmp_path: Path
) -> None:
    add(str(comfy(tmp_path / "ComfyUI", made)))
    own = copy_of(made / "inks", home / "models" / "inks")
    assert kept_models()["inks"] == own


@pytest.mark.parametrize(
    ("what", "kind", "name"),
    [
        ("inks", "model", "inks"),
        ("oils.safetensors", "model", "oils"),
        ("paint.safetensors", "adapter", "paint"),
        ("toy.safetensors", "adapter", "toy"),
        ("inks/vae/diffusion_pytorch_model.safetensors", "vae", "diffusion_pytorch_model"),
    ],
)
def test_a_file_or_a_folder_is_used_where_it_is(what: str, kind: str, name: str, made: Path, home: Path) -> None:
    found = add(str(made / what), ROOMY)
    assert (found.kind, found.name, found.place) == (kind, name, str(made / what))
    place = {"model": kept_models, "adapter": kept_adapters, "vae": lambda: {name: vae_path(name)}}[kind]()
    assert place == {name: made / what}
    assert [file.name for file in home.rglob("*") if file.is_file()] == ["shared.json"]
    assert add(str(made / what), ROOMY) == found


def test_two_of_one_name_are_refused(made: Path, tmp_path: Path) -> None:
    add(str(made / "inks"))
    other = copy_of(made / "inks", tmp_path / "elsewhere" / "inks")
    with pytest.raises(ModelError, match=r"There is another model called 'inks': .*made0/inks\. Rename one of them"):
        add(str(other))


def test_what_cannot_be_used_is_refused_with_the_reason_and_nothing_is_remembered(
    made: Path, home: Path, tmp_path: Path
) -> None:
    flow = tmp_path / "flow"
    flow.mkdir()
    (flow / "model_index.json").write_text('{"_class_name": "FluxPipeline", "transformer": ["diffusers", "X"]}')
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("x")
    torch.save({}, tmp_path / "old.ckpt")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((made / "oils.safetensors").read_bytes()[:5000])
    for what, says in (
        (str(flow), "is a FluxPipeline with a transformer"),
        (str(tmp_path / "empty"), "is ComfyUI's, but it holds no models"),
        (str(tmp_path / "notes.txt"), "is no model"),
        (str(tmp_path / "old.ckpt"), "is a pickle"),
        (str(cut), "is damaged"),
        (str(tmp_path / "nothing"), "no file and no folder here"),
        ("studio/paint", "HF_HUB_OFFLINE"),
    ):
        with pytest.raises(ModelError, match=says):
            add(what)
    assert not home.exists()


@pytest.mark.parametrize(
    ("free", "fits"),
    [
        (ROOMY, "whole"),
        (FreeMemory(90_000, 64 * GIB, on_cpu=False), "offloaded"),
        (FreeMemory(1000, 64 * GIB, on_cpu=False), "offloaded"),
        (FreeMemory(1000, 2000, on_cpu=False), "too large"),
        (FreeMemory(1000, 1000, on_cpu=True), "too large"),
        (FreeMemory(GIB, GIB, on_cpu=True), "whole"),
    ],
)
def test_it_is_told_whether_a_model_fits(free: FreeMemory, fits: str, made: Path) -> None:
    found = look_at(str(made / "inks"), free)
    assert found.fits == fits
    assert ("does not fit: it takes" in found.about) == (fits == "too large")


def test_a_damaged_list_of_what_is_shared_is_told_with_its_place(home: Path) -> None:
    home.mkdir()
    (home / "shared.json").write_text('{"folders": 3}')
    with pytest.raises(ModelError, match=r"shared\.json is damaged: folders and hub must be lists"):
        kept_models()


def test_the_command_tells_what_it_is_and_adds_it(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["add-model", str(made / "inks"), "--device", "cpu", "--json"]
    assert main([*command, "--look"]) == 0
    looked = Addition(**json.loads(capsys.readouterr().out))
    assert (looked.kind, looked.fits, kept_models()) == ("model", "whole", {})
    assert main(command) == 0
    assert Addition(**json.loads(capsys.readouterr().out)) == replace(looked, about=looked.about)
    assert kept_models() == {"inks": made / "inks"}
    assert main(["add-model", str(made / "nothing")]) == 1
    assert "no file and no folder here" in capsys.readouterr().err
