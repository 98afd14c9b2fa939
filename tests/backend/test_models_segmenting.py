"""What words name in a picture, by a CLIPSeg and a SAM 3 with random weights: they answer, if not wisely."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backends import client_of, scripted_backend
from diffedit_backend.cli.program import main
from diffedit_backend.editing import edit_picture
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.method.mask import limit
from diffedit_backend.models import ModelOptions
from diffedit_backend.models.catalogue.folders import kept_segmenter
from diffedit_backend.models.segmenting import changed_words, load_segmenter
from diffedit_backend.server.hello_info import hello_info
from diffedit_backend.server.settings import ServerSettings
from diffedit_backend.worker.auxiliary_models import AuxiliaryNames
from diffedit_backend.worker.edit_runner import EditRunner
from diffedit_protocol.blobs import pack_picture, unpack_plane
from diffedit_protocol.errors import BadInputError, ModelError
from diffedit_protocol.messages import EditRequest, Progress
from diffedit_protocol.replies import SEGMENT
from model_files import parts, write_folder
from PIL import Image
from tiny_models import NATIVE, tiny_model
from transformers import CLIPSegForImageSegmentation
from word_models import write_captioner, write_segmenter

KINDS = ("clipseg", "sam3")
REQUEST = EditRequest("a horse on grass", "a zebra on grass", task="mask", quality="draft", threshold=0.3)


@pytest.fixture(scope="module", params=KINDS)
def segmenter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_segmenter(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def clipseg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_segmenter(tmp_path_factory.mktemp("one"))


def pixels(height: int = NATIVE, width: int = NATIVE, channels: int = 3) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 255, (height, width, channels), np.uint8)


def test_words_are_found_as_a_plane_of_the_pictures_size_that_depends_on_both(segmenter: Path) -> None:
    model = load_segmenter(str(segmenter), "cpu")
    found = model.segment(pixels(24, 30), "horse")
    assert (found.shape, found.dtype) == ((24, 30), np.uint8)
    assert np.array_equal(model.segment(pixels(24, 30), "horse"), found)
    assert not np.array_equal(model.segment(pixels(24, 30), "zebra on grass"), found)
    assert not np.array_equal(model.segment(255 - pixels(24, 30), "horse"), found)
    assert model.nbytes > 0


def test_clipsegs_map_is_what_the_network_itself_answers(clipseg: Path) -> None:
    network = CLIPSegForImageSegmentation.from_pretrained(clipseg).eval()
    picture = pixels(16, 16)
    x = (torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5
    model = load_segmenter(str(clipseg), "cpu")
    ids = model._tokenizer("horse", return_tensors="pt")
    with torch.inference_mode():
        logits = network(pixel_values=x, input_ids=ids.input_ids, attention_mask=ids.attention_mask).logits
    expected = (torch.sigmoid(logits).reshape(16, 16) * 255).round().byte().numpy()
    assert np.abs(model.segment(picture, "horse").astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("a horse on grass", "a zebra on grass", "horse"),
        ("a red car, a man", "a blue car, a man", "red"),
        ("a man with a hat", "a man", "hat"),
        ("The horse | a mare", "The zebra", "horse"),
        ("an apple", "a pear", "apple"),
    ],
)
def test_the_words_that_change_are_those_of_the_first_text(source: str, target: str, words: str) -> None:
    assert changed_words(source, target) == words


def test_where_every_word_stays_there_is_nothing_to_look_for() -> None:
    with pytest.raises(BadInputError, match="every word stays"):
        changed_words("a horse", "a horse with a hat")


@pytest.mark.parametrize("rule", ["multiply", "replace"])
def test_the_map_is_multiplied_into_the_difference_map_or_stands_in_its_place(rule: str) -> None:
    engine, picture = DiffEditEngine(tiny_model()), pixels()
    selection = np.zeros((NATIVE, NATIVE), np.uint8)
    selection[4:28, 4:28] = 255
    segmentation = np.full((NATIVE, NATIVE), 60, np.uint8)
    segmentation[8:20, 8:20] = 240
    request = replace(REQUEST, segment=rule)
    plain = edit_picture(engine, REQUEST, picture, selection=selection).soft_map
    found = edit_picture(engine, request, picture, selection=selection, segmentation=segmentation).soft_map
    assert plain is not None
    assert found is not None
    expected = limit(plain, segmentation) if rule == "multiply" else limit(segmentation, selection)
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, plain)
    again = edit_picture(engine, REQUEST, picture, selection=selection).soft_map
    assert np.array_equal(again, plain)


def test_in_the_difference_maps_place_the_network_is_not_asked() -> None:
    segmentation = np.zeros((NATIVE, NATIVE), np.uint8)
    segmentation[8:20, 8:20] = 240
    request = replace(REQUEST, segment="replace")
    outcome = edit_picture(DiffEditEngine(tiny_model()), request, pixels(), segmentation=segmentation)
    assert outcome.evaluations == 0
    assert np.array_equal(outcome.mask > 0, segmentation > 0)


def test_a_request_for_a_map_without_one_of_the_pictures_size_is_refused() -> None:
    asked = replace(REQUEST, segment="multiply")
    for plane in (None, np.zeros((4, 4), np.uint8)):
        with pytest.raises(BadInputError, match="there is none of the picture's size"):
            edit_picture(DiffEditEngine(tiny_model()), asked, pixels(), segmentation=plane)


def test_a_worker_loads_the_segmenter_at_the_first_request_and_gives_it_up_for_memory(
    clipseg: Path, tmp_path: Path
) -> None:
    places = {"sd1": str(write_folder(tmp_path / "sd1", parts("sd1")))}
    runner = EditRunner(places, ModelOptions("cpu"), 1 << 24, auxiliary=AuxiliaryNames(segmenter=str(clipseg)))
    picture, raw = pack_picture(pixels(32, 32, 4).tobytes(), 32, 32, 4)
    request = replace(REQUEST, picture=picture, segment="replace", threshold=0.01)
    stages: list[str] = []

    def run() -> Any:
        stages.clear()
        return runner.run(
            request,
            {picture.blob: raw},
            lambda event: stages.append(event.stage) if isinstance(event, Progress) else None,
        )

    done = run()
    soft_map = done.manifest.soft_map
    assert soft_map is not None
    assert any(unpack_plane(soft_map, done.blobs[soft_map.blob]))
    assert stages.count("loading") == 2  # the model and the segmenter
    run()
    assert "loading" not in stages
    runner._free()
    run()
    assert stages.count("loading") == 1


def test_a_worker_without_a_segmenter_says_how_to_get_one(tmp_path: Path) -> None:
    places = {"sd1": str(write_folder(tmp_path / "sd1", parts("sd1")))}
    picture, raw = pack_picture(pixels(32, 32).tobytes(), 32, 32, 3)
    request = replace(REQUEST, picture=picture, segment="multiply")
    with pytest.raises(ModelError, match=r"no segmenter\. Start the backend with --segmenter"):
        EditRunner(places, ModelOptions("cpu"), 0).run(request, {picture.blob: raw}, lambda _: None)


def test_a_backend_tells_in_hello_whether_it_has_a_segmenter_and_refuses_the_field_without(tmp_path: Path) -> None:
    for has in (False, True):
        settings = ServerSettings(state=tmp_path, segments=has)
        assert (SEGMENT in hello_info("boot", settings, (), ()).capabilities) is has
    picture, raw = pack_picture(bytes(32 * 32 * 3), 32, 32, 3)
    with scripted_backend(tmp_path) as backend, client_of(backend.connection) as client:
        assert SEGMENT not in client.hello.capabilities
        with pytest.raises(ModelError, match="This backend has no segmenter"):
            client.submit(replace(REQUEST, picture=picture, segment="multiply"), {picture.blob: raw})


def test_the_field_is_sent_only_when_it_is_asked_for() -> None:
    assert "segment" not in REQUEST.to_wire()
    asked = replace(REQUEST, segment="multiply")
    assert EditRequest.from_wire(asked.to_wire()) == asked


def test_what_is_no_segmenter_is_refused_and_pickles_are(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is no segmenter for words \(CLIPSeg or SAM 3\) \(its kind is 'blip'\)"):
        load_segmenter(str(write_captioner(tmp_path / "blip")), "cpu")
    folder = write_segmenter(tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"has no \.safetensors weights"):
        load_segmenter(str(folder), "cpu")


def test_the_segmenter_of_the_data_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFEDIT_HOME", str(tmp_path))
    assert kept_segmenter() is None
    write_segmenter(tmp_path / "segmenter")
    assert kept_segmenter() == str(tmp_path / "segmenter")


def test_the_command_line_looks_for_the_words_with_the_segmenter_that_it_is_reported(
    clipseg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFEDIT_HOME", str(tmp_path / "home"))
    write_folder(tmp_path / "sd1", parts("sd1"))
    Image.fromarray(pixels(32, 32)).save(tmp_path / "in.png")
    command = ["mask", str(tmp_path / "in.png"), str(tmp_path / "mask.png")]
    command += ["--source", "a horse", "--target", "a zebra"]
    command += ["--model", str(tmp_path / "sd1"), "--device", "cpu", "--soft-map-out", str(tmp_path / "map.png")]
    command += ["--threshold", "0.01"]
    assert main([*command, "--segment", "replace", "--segmenter", str(clipseg)]) == 0
    expected = load_segmenter(str(clipseg), "cpu").segment(pixels(32, 32), "horse")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "map.png").convert("L")), expected)
    with pytest.raises(SystemExit) as ended:
        main([*command, "--segmenter", str(clipseg)])
    assert ended.value.code == 2
