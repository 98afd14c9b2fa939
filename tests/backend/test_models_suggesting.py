"""Wordings that a language model suggests, by a T5 with random weights: it writes its words, if not wisely."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from backends import client_of, last_event, scripted_backend
from diffedit_backend.bundled import samples_folder
from diffedit_backend.cli.pictures.outputs import read_record
from diffedit_backend.cli.program import main
from diffedit_backend.models import ModelOptions
from diffedit_backend.models.catalogue.folders import kept_suggester
from diffedit_backend.models.suggesting import SuggestingModel, load_suggester
from diffedit_backend.worker.auxiliary_models import AuxiliaryNames
from diffedit_backend.worker.edit_runner import EditRunner
from diffedit_protocol.errors import BadInputError, ModelError
from diffedit_protocol.messages import EditRequest
from diffedit_protocol.replies import SUGGEST
from word_models import SUGGESTED_WORDS, write_suggester

TEXTS = ["--source", "a horse on grass", "--target", "a zebra on grass", "--quality", "draft"]


@pytest.fixture(autouse=True)
def the_thread_count_is_put_back():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def suggester(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suggester(tmp_path_factory.mktemp("t5"))


def suggested(suggester: Path, *options: str) -> list[str]:
    return ["suggest", "a horse", "--suggester", str(suggester), "--device", "cpu", *options]


def test_wordings_are_suggested_in_the_models_words_after_the_persons_own(
    suggester: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(suggested(suggester, "--count", "4", "--json")) == 0
    own, *more = json.loads(capsys.readouterr().out)
    assert own == "a horse"
    assert 1 <= len(more) <= 4
    assert {word for text in more for word in text.split()} <= set(SUGGESTED_WORDS)
    assert main(suggested(suggester, "--count", "4")) == 0
    assert capsys.readouterr().out.splitlines() == [own, *more]
    assert main(suggested(suggester, "--count", "4", "--line")) == 0
    assert capsys.readouterr().out.splitlines() == [" | ".join([own, *more])]


def test_suggestions_repeat_with_their_seed_and_leave_the_random_numbers_of_others_alone(suggester: Path) -> None:
    model = load_suggester(str(suggester), "cpu")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = model.suggest("a horse", 4, seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert len(first) == 4
    assert model.suggest("a horse", 4, seed=1) == first
    assert model.suggest("a horse", 4, seed=2) != first


def test_an_edit_with_suggestions_is_the_edit_with_the_texts_that_it_tells(
    suggester: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, first, second = str(samples_folder() / "horse.png"), tmp_path / "1.png", tmp_path / "2.png"
    suggest = ["--suggest", "2", "--suggester", str(suggester)]
    assert main(["edit", picture, str(first), *TEXTS, *suggest]) == 0
    reported = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines()[:2])
    assert reported["source"].startswith("a horse on grass | ")
    assert reported["target"].startswith("a zebra on grass | ")
    texts = ["--source", reported["source"], "--target", reported["target"], "--quality", "draft"]
    assert main(["edit", picture, str(second), *texts]) == 0
    assert first.read_bytes() == second.read_bytes()
    made_by: Any = read_record(first)
    assert made_by["made_by"]["source"] == reported["source"]


def test_weights_that_are_not_here_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ModelError, match="is not on this machine and could not be fetched from the hub"):
        load_suggester()
    with pytest.raises(ModelError, match="There is no language model 'nothing'"):
        load_suggester("nothing")


def test_pickled_weights_other_models_and_damaged_ones_are_refused(suggester: Path, tmp_path: Path) -> None:
    settings = json.loads((suggester / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"has no \.safetensors weights here"):
        load_suggester(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="is incomplete or damaged"):
        load_suggester(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ModelError, match="no sequence-to-sequence language model \\(its kind is 'gpt2'\\)"):
        load_suggester(str(tmp_path))


def test_a_model_in_the_data_folder_is_taken(
    suggester: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIFFEDIT_HOME", str(tmp_path))
    assert kept_suggester() is None
    (tmp_path / "suggester").symlink_to(suggester)
    assert kept_suggester() == str(tmp_path / "suggester")
    assert main(["suggest", "a horse", "--count", "2", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith("a horse\n")


def test_what_cannot_be_suggested_is_refused_with_a_sentence(
    suggester: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(suggested(suggester, "--count", "0"))
    assert refused.value.code == 2
    assert "argument --count: must be a whole number, 1 or more, not '0'" in capsys.readouterr().err
    assert main(["suggest", " ", "--suggester", str(suggester)]) == 1
    assert "the text is empty" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["edit", str(tmp_path), str(tmp_path / "out"), *TEXTS, "--suggest"])
    assert ended.value.code == 2
    assert "--suggest is for one picture only" in capsys.readouterr().err


def suggest_job(text: str, **fields: Any) -> EditRequest:
    return EditRequest(text, "", "suggest", **fields)


def test_a_worker_writes_different_wordings_without_a_picture_and_repeats_them_with_their_seed(suggester: Path) -> None:
    bench = EditRunner({}, ModelOptions("cpu"), 0, auxiliary=AuxiliaryNames(suggester=str(suggester)))
    reported: list[Any] = []
    manifest = bench.run(suggest_job("a horse", variations=6, seed=3), {}, reported.append).manifest
    assert 1 <= len(manifest.words) == len(set(manifest.words)) <= 6
    assert "a horse" not in manifest.words
    assert {word for text in manifest.words for word in text.split()} <= set(SUGGESTED_WORDS)
    assert [progress.stage for progress in reported] == ["loading", "encoding", "encoding"]
    assert bench.run(suggest_job("a horse", variations=6, seed=3), {}, reported.append).manifest.words == manifest.words
    with pytest.raises(BadInputError, match="the text is empty"):
        bench.run(suggest_job(" "), {}, reported.append)
    with pytest.raises(ModelError, match="Start the backend with --suggester"):
        EditRunner({}, ModelOptions("cpu"), 0).run(suggest_job("a horse"), {}, reported.append)


def test_on_out_of_memory_the_language_model_is_given_up_and_loaded_again(
    suggester: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = EditRunner({}, ModelOptions("cpu"), 0, auxiliary=AuxiliaryNames(suggester=str(suggester)))
    words = bench.run(suggest_job("a horse", variations=4), {}, lambda event: None).manifest.words
    reported: list[Any] = []

    def too_large(*_: Any) -> list[str]:
        monkeypatch.undo()
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(SuggestingModel, "suggest", too_large)
    assert bench.run(suggest_job("a horse", variations=4), {}, reported.append).manifest.words == words
    assert [progress.stage for progress in reported] == ["encoding", "loading", "encoding", "encoding"]


def test_a_backend_takes_the_job_where_it_has_a_language_model_and_says_what_to_do_where_not(tmp_path: Path) -> None:
    with scripted_backend(tmp_path / "a") as backend, client_of(backend.connection) as client:
        assert SUGGEST not in client.hello.capabilities
        with pytest.raises(ModelError, match=r"no language model.*--suggester FOLDER"):
            last_event(client, client.submit(suggest_job("a horse"), {}))
    with scripted_backend(tmp_path / "b", suggests=True) as backend, client_of(backend.connection) as client:
        assert SUGGEST in client.hello.capabilities
