"""A model named by its hub id: fetched over HTTP from a small hub on loopback, kept, and edited with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffedit_backend.cli.program import main
from diffedit_backend.models import load_model
from diffedit_backend.models.catalogue.listing import models
from diffedit_protocol.errors import ModelError
from model_files import parts, write_folder
from PIL import Image
from small_hub import COMMIT, REPOSITORY, SmallHub, small_hub

PINNED = f"{REPOSITORY}@{COMMIT}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    """It offers a model of Stable Diffusion 1, pickles of it, and a picture."""
    folder = write_folder(tmp_path / "offered", parts("sd1"))
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


@pytest.mark.parametrize("name", [PINNED, REPOSITORY], ids=["pinned", "newest"])
def test_a_hub_id_is_fetched_once_with_a_progress_bar_and_no_pickle_of_it_and_ends_in_an_edit(
    name: str, hub: SmallHub, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(edit(tmp_path, name)) == 0
    before, after = (np.asarray(Image.open(tmp_path / file)) for file in ("in.png", "out.png"))
    assert (before != after).any()
    assert re.search(r"100%\|", capfd.readouterr().err)
    files = [path.rpartition(COMMIT)[2] for path in hub.asked if path.startswith("GET") and "/resolve/" in path]
    assert "/unet/diffusion_pytorch_model.safetensors" in files
    assert not any(file.endswith((".bin", ".ckpt", ".png")) for file in files)
    hub.asked.clear()
    assert load_model(name, "cpu").native_size == 32
    assert hub.asked == []
    assert [entry.name for entry in models()] == ["bundled", REPOSITORY]


def test_a_download_that_breaks_off_is_told_and_goes_on_when_it_is_tried_again(hub: SmallHub) -> None:
    hub.cut = True
    with pytest.raises(ModelError, match=f"'{PINNED}' is not on this machine and could not be fetched from the hub"):
        load_model(PINNED, "cpu")
    hub.cut = False
    assert load_model(PINNED, "cpu").native_size == 32


def test_a_revision_or_a_model_that_the_hub_does_not_have_is_told(hub: SmallHub) -> None:
    for name in (f"{REPOSITORY}@{'d' * 40}", "studio/oils"):
        with pytest.raises(ModelError, match=f"'{name}' is not on this machine and could not be fetched"):
            load_model(name, "cpu")
