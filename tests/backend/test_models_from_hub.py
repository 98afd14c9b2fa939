"""A model named by its hub id: fetched over HTTP from a small hub on loopback, kept, and edited with."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffedit_backend.cli.program import main
from diffedit_backend.models import ModelOptions, load_model
from diffedit_backend.models.adding import add, look_at
from diffedit_backend.models.captioning import load_captioner
from diffedit_backend.models.catalogue.folders import kept_models
from diffedit_backend.models.catalogue.listing import models
from diffedit_backend.models.hub import plan_download
from diffedit_protocol.errors import ModelError
from huggingface_hub import snapshot_download
from model_files import flagging_checker, parts, write_folder
from PIL import Image
from safetensors.torch import load_file, save_file
from small_hub import COMMIT, REPOSITORY, SmallHub, small_hub
from word_models import write_captioner

PINNED = f"{REPOSITORY}@{COMMIT}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    """It offers a model of Stable Diffusion 1, pickles of it, and a picture."""
    network, processor = flagging_checker(flags=False)
    folder = write_folder(tmp_path / "offered", parts("sd1"), safety_checker=network, feature_extractor=processor)
    for weights in [*folder.rglob("*.safetensors")]:  # as the published ones: everything twice, and more besides
        halved = {name: value.half() for name, value in load_file(weights).items()}
        save_file(halved, weights.with_name(f"{weights.stem}.fp16.safetensors"))
    save_file({"weights": torch.zeros(2)}, folder / "v1-5-pruned.safetensors")
    save_file({"weights": torch.zeros(2)}, folder / "unet" / "diffusion_pytorch_model.non_ema.safetensors")
    (folder / "vae_encoder").mkdir()
    (folder / "vae_encoder" / "config.json").write_text("{}")
    torch.save({"weights": torch.zeros(2)}, folder / "model.ckpt")
    torch.save({"weights": torch.zeros(2)}, folder / "unet" / "diffusion_pytorch_model.bin")
    (folder / "sample.png").write_bytes(b"a picture")
    with small_hub(folder) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            hub.address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("DIFFEDIT_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("TQDM_POSITION", "-1")  # a bar where no terminal is, too
        yield hub


def edit(tmp_path: Path, model: str) -> list[str]:
    pixels = np.random.default_rng(3).integers(0, 255, (32, 32, 3), np.uint8)
    pixels[8:20, 8:20] = (200, 40, 30)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    words = ["--source", "a horse", "--target", "a zebra", "--threshold", "0.3", "--quality", "draft"]
    return ["edit", str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--model", model, "--device", "cpu", *words]


def fetched(hub: SmallHub) -> list[str]:
    """The files that were asked for, without the folder of the revision."""
    found = (re.search(r"^GET .*/resolve/[^/]+/(.+)$", path) for path in hub.asked)
    return [match[1] for match in found if match]


SETTINGS = {
    "model_index.json",
    "feature_extractor/preprocessor_config.json",
    "safety_checker/config.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "unet/config.json",
    "vae/config.json",
}
WEIGHTS = (
    "safety_checker/model",
    "text_encoder/model",
    "unet/diffusion_pytorch_model",
    "vae/diffusion_pytorch_model",
)


@pytest.mark.parametrize("name", [PINNED, REPOSITORY], ids=["pinned", "newest"])
def test_a_hub_id_is_fetched_once_with_a_progress_bar_and_no_pickle_of_it_and_ends_in_an_edit(
    name: str, hub: SmallHub, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(edit(tmp_path, name)) == 0
    before, after = (np.asarray(Image.open(tmp_path / file)) for file in ("in.png", "out.png"))
    assert (before != after).any()
    assert re.search(r"100%\|", capfd.readouterr().err)
    hub.asked.clear()
    assert load_model(name, "cpu").native_size == 32
    assert hub.asked == []
    assert [entry.name for entry in models()] == ["bundled", REPOSITORY]


@pytest.mark.parametrize(("precision", "ending"), [(None, ".safetensors"), ("fp16", ".fp16.safetensors")])
def test_of_a_repository_only_what_its_index_names_is_fetched_and_in_one_variant(
    precision: Any, ending: str, hub: SmallHub
) -> None:
    load_model(REPOSITORY, ModelOptions("cpu", precision))
    files = set(fetched(hub))
    tokenizer = {file for file in files if file.startswith("tokenizer/")}
    assert tokenizer
    assert files - tokenizer == SETTINGS | {f"{part}{ending}" for part in WEIGHTS}


def test_without_the_safety_checker_it_is_not_fetched_either(hub: SmallHub) -> None:
    load_model(REPOSITORY, ModelOptions("cpu", safety=False))
    assert not any(file.startswith(("safety_checker/", "feature_extractor/")) for file in fetched(hub))


def test_a_cache_that_another_program_filled_with_the_half_precision_variant_is_used_offline(
    hub: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot_download(
        REPOSITORY, endpoint=hub.address, allow_patterns=["*.json", "*.txt", "*.fp16.safetensors"]
    )  # as DiffusionPipeline.from_pretrained(…, variant="fp16") does
    hub.asked.clear()
    model = load_model(REPOSITORY, "cpu")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load_model(REPOSITORY, "cpu").native_size == 32
    assert hub.asked == []
    assert not (model.denoiser.conv_in.weight != model.denoiser.conv_in.weight.half()).any()
    (listed,) = [entry for entry in models() if entry.name == REPOSITORY]
    assert listed.fault == ""


def test_the_size_of_a_download_is_known_before_it_and_what_is_there_is_not_counted_again(hub: SmallHub) -> None:
    plan = plan_download(REPOSITORY, halved=False, safety=True)
    sizes = {file: (hub.folder / file).stat().st_size for file in plan.sizes}
    assert plan.sizes == sizes
    assert plan.nbytes == sum(sizes.values())
    assert plan.missing_bytes == plan.nbytes - sizes["model_index.json"]  # which told the rest
    assert "unet/diffusion_pytorch_model.safetensors" in plan.sizes
    assert "v1-5-pruned.safetensors" not in plan.sizes
    load_model(REPOSITORY, "cpu")
    assert plan_download(REPOSITORY, halved=False, safety=True).missing_bytes == 0


def test_a_download_for_which_the_disk_has_no_room_is_refused_before_it_begins(
    hub: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ModelError, match=r"needs 0\.0 GB more on the disk, but .* has 0\.0 GB left"):
        load_model(REPOSITORY, "cpu")
    assert fetched(hub) == ["model_index.json"]


def test_a_repository_without_an_index_is_refused_with_what_it_holds(hub: SmallHub) -> None:
    (hub.folder / "model_index.json").unlink()
    with pytest.raises(
        ModelError, match=r"has no model_index\.json\. It holds .*v1-5-pruned\.safetensors.*name the file"
    ):
        load_model(REPOSITORY, "cpu")


def test_a_repository_of_pickles_is_refused_before_anything_large_is_fetched(hub: SmallHub) -> None:
    for weights in (hub.folder / "unet").glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(ModelError, match=r"The unet of 'studio/paint' has pickled weights only"):
        load_model(REPOSITORY, "cpu")
    assert fetched(hub) == ["model_index.json"]


def test_a_captioner_of_the_hub_is_fetched_without_its_other_variants(hub: SmallHub, tmp_path: Path) -> None:
    shutil.rmtree(hub.folder)
    write_captioner(hub.folder)
    (hub.folder / "pytorch_model.bin").write_bytes(b"pickle")
    (hub.folder / "onnx").mkdir()
    (hub.folder / "onnx" / "config.json").write_text("{}")
    shutil.copy(hub.folder / "model.safetensors", hub.folder / "model.fp16.safetensors")
    captioner = load_captioner(REPOSITORY, "cpu")
    assert captioner.nbytes > 0
    assert "model.safetensors" in fetched(hub)
    assert not {"model.fp16.safetensors", "pytorch_model.bin", "onnx/config.json"} & set(fetched(hub))
    hub.asked.clear()
    load_captioner(REPOSITORY, "cpu")
    assert hub.asked == []


def test_a_download_that_breaks_off_is_told_and_goes_on_when_it_is_tried_again(hub: SmallHub) -> None:
    hub.cut = True
    with pytest.raises(ModelError, match=f"'{PINNED}' is not on this machine and could not be fetched from the hub"):
        load_model(PINNED, "cpu")
    hub.cut = False
    assert load_model(PINNED, "cpu").native_size == 32


def test_a_revision_or_a_model_that_the_hub_does_not_have_is_reported(hub: SmallHub) -> None:
    for name in (f"{REPOSITORY}@{'d' * 40}", "studio/oils"):
        with pytest.raises(ModelError, match=f"'{name}' is not on this machine and could not be fetched"):
            load_model(name, "cpu")


def test_a_model_of_the_hub_is_added_with_its_size_told_before_and_offered_from_then_on(
    hub: SmallHub, tmp_path: Path
) -> None:
    looked = look_at(REPOSITORY)
    assert (looked.kind, looked.name) == ("download", REPOSITORY)
    assert looked.download > 0
    assert fetched(hub) == ["model_index.json"]
    hub.cut = True
    with pytest.raises(ModelError, match="could not be fetched"):
        add(REPOSITORY)
    assert kept_models() == {}
    hub.cut = False
    added = add(REPOSITORY)
    assert (added.kind, added.name, added.download) == ("model", REPOSITORY, 0)
    assert kept_models() == {REPOSITORY: Path(added.place)}
    assert look_at(REPOSITORY).download == 0
