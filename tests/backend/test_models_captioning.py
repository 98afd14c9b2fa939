"""What a picture shows, by a BLIP with random weights: it answers, if not wisely."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backends import client_of, last_event, scripted_backend, scripted_edit
from diffedit_backend.cli.program import main
from diffedit_backend.models import ModelOptions
from diffedit_backend.models.captioning import CaptioningModel, load_captioner
from diffedit_backend.models.catalogue.folders import kept_captioner
from diffedit_backend.worker import auxiliary_models
from diffedit_backend.worker.auxiliary_models import AuxiliaryNames
from diffedit_backend.worker.edit_runner import EditRunner
from diffedit_backend.worker.loop import Finished
from diffedit_protocol.blobs import pack_picture, pack_plane
from diffedit_protocol.errors import BadInputError, ModelError
from diffedit_protocol.messages import Bounds, Done, EditRequest
from diffedit_protocol.replies import DESCRIBE
from PIL import Image
from word_models import CAPTION_WORDS, write_captioner


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captioner(tmp_path_factory.mktemp("blip"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    path = tmp_path / "horse.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 30, 4), np.uint8)).save(path)
    return path


def test_a_picture_is_described_in_the_models_words(
    captioner: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["describe", str(picture), "--captioner", str(captioner), "--device", "cpu", "--json"]
    assert main(command) == 0
    (caption,) = json.loads(capsys.readouterr().out)
    assert caption
    assert set(caption.split()) <= set(CAPTION_WORDS)
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out) == [caption]


def test_several_captions_differ_by_their_seed_and_repeat_with_it(captioner: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 30, 3), np.uint8)
    model = load_captioner(str(captioner), "cpu")
    first = model.describe(pixels, 4, seed=1)
    assert len(first) == 4
    assert model.describe(pixels, 4, seed=1) == first
    assert model.describe(pixels, 4, seed=2) != first


def test_asking_for_captions_leaves_the_random_numbers_of_others_alone(captioner: Path) -> None:
    model = load_captioner(str(captioner), "cpu")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model.describe(np.zeros((16, 16, 3), np.uint8), 2)
    assert torch.equal(torch.rand(3), expected)


def test_weights_that_are_not_here_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ModelError, match="is not on this machine and could not be fetched from the hub"):
        load_captioner("studio/words")
    with pytest.raises(ModelError, match="There is no captioning model 'nothing'"):
        load_captioner("nothing")


def test_pickled_weights_and_other_models_are_refused(captioner: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = json.loads((captioner / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"has no \.safetensors weights here"):
        load_captioner(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="is incomplete or damaged"):
        load_captioner(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({**settings, "model_type": "bert"}))
    with pytest.raises(ModelError, match="no BLIP captioning model"):
        load_captioner(str(tmp_path))
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match=r"is no captioning model: its folder has no config\.json"):
        load_captioner(str(tmp_path))


def test_a_count_below_one_is_refused(picture: Path, captioner: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["describe", str(picture), "--captioner", str(captioner), "--count", "0"])
    assert ended.value.code == 2
    assert "argument --count: must be a whole number, 1 or more, not '0'" in capsys.readouterr().err


def described(bench: EditRunner, pixels: np.ndarray, selection: np.ndarray | None = None) -> Finished:
    height, width, channels = pixels.shape
    picture, raw = pack_picture(pixels.tobytes(), width, height, channels)
    blobs, plane = {picture.blob: raw}, None
    if selection is not None:
        plane, packed = pack_plane(selection.tobytes(), width, height)
        blobs[plane.blob] = packed
    request = EditRequest("", "", "describe", picture=picture, selection=plane)
    return bench.run(request, blobs, lambda event: None)


def test_a_worker_describes_the_picture_and_of_a_selection_only_what_is_selected(captioner: Path) -> None:
    bench = EditRunner({}, ModelOptions("cpu"), 0, auxiliary=AuxiliaryNames(captioner=str(captioner)))
    pixels = np.random.default_rng(0).integers(0, 255, (24, 30, 3), np.uint8)
    model = load_captioner(str(captioner), "cpu")
    whole = described(bench, pixels).manifest
    assert (whole.words, whole.bounds) == (tuple(model.describe(pixels)), Bounds(0, 0, 30, 24))
    selection = np.zeros((24, 30), np.uint8)
    selection[4:20, 6:16] = 128
    part = described(bench, pixels, selection)
    assert part.manifest.words == tuple(model.describe(pixels[4:20, 6:16]))
    assert part.manifest.bounds == Bounds(6, 4, 10, 16)
    assert part.manifest.mask is None
    with pytest.raises(BadInputError, match="Nothing is selected"):
        described(bench, pixels, np.zeros((24, 30), np.uint8))


def test_on_out_of_memory_the_captioning_model_is_given_up_and_loaded_again_for_the_next_picture(
    captioner: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = EditRunner({}, ModelOptions("cpu"), 0, auxiliary=AuxiliaryNames(captioner=str(captioner)))
    pixels = np.random.default_rng(0).integers(0, 255, (24, 30, 3), np.uint8)
    words = described(bench, pixels).manifest.words
    loads, real = [], auxiliary_models.load_captioner

    def load(name: str, device: str | None) -> CaptioningModel:
        loads.append(name)
        return real(name, device)

    def too_large(*_: Any) -> list[str]:
        monkeypatch.undo()
        monkeypatch.setattr(auxiliary_models, "load_captioner", load)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(CaptioningModel, "describe", too_large)
    assert described(bench, pixels).manifest.words == words
    assert described(bench, pixels).manifest.words == words
    assert loads == [str(captioner)]


def test_a_backend_without_a_captioning_model_refuses_at_once_and_says_what_to_do(tmp_path: Path) -> None:
    request, blobs = scripted_edit(task="describe")
    with scripted_backend(tmp_path) as backend, client_of(backend.connection) as client:
        assert DESCRIBE not in client.hello.capabilities
        with pytest.raises(ModelError, match=r"no captioning model.*--captioner FOLDER"):
            last_event(client, client.submit(request, blobs))


def test_a_backend_with_one_says_so_and_takes_the_job(tmp_path: Path) -> None:
    request, blobs = scripted_edit(task="describe")
    with scripted_backend(tmp_path, describes=True) as backend, client_of(backend.connection) as client:
        assert DESCRIBE in client.hello.capabilities
        assert isinstance(last_event(client, client.submit(request, blobs)), Done)


def test_a_captioning_model_in_the_data_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DIFFEDIT_HOME", str(tmp_path))
    assert kept_captioner() is None
    (tmp_path / "captioner").mkdir()
    (tmp_path / "captioner" / "config.json").write_text("{}")
    assert kept_captioner() == str(tmp_path / "captioner")
