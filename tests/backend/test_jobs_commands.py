"""`diffedit jobs` and `diffedit fetch`: results of a running backend, by another program than the one that asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from backends import client_of, run_edit, scripted_backend
from diffedit_backend.cli.pictures.outputs import read_record
from diffedit_backend.cli.program import main
from diffedit_backend.server.private_backend import PrivateBackend
from diffedit_protocol.blobs import pack_picture
from diffedit_protocol.client import Client
from diffedit_protocol.messages import EditRequest
from PIL import Image


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBackend]:
    with scripted_backend(tmp_path_factory.mktemp("backend")) as backend:
        yield backend


@pytest.fixture
def client(backend: PrivateBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client that asks for edits, and a folder with a file that `--connect link` names."""
    monkeypatch.chdir(tmp_path)
    backend.connection.save(tmp_path / "link")
    with client_of(backend.connection) as client:
        yield client


def finished(client: Client, shade: int = 100) -> str:
    """A job that is done and that nobody fetched; the scripted worker gives the sent RGBA picture back."""
    picture, raw = pack_picture(bytes([shade, shade, shade, 200]) * 256, 16, 16, 4)
    edit = EditRequest("", "done", picture=picture), {picture.blob: raw}
    job = client.submit(*edit)
    run_edit(client, edit, job_id=job)
    return job


def test_jobs_lists_what_runs_and_what_waits_to_be_fetched(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    job = finished(client)
    assert main(("jobs", "--connect", "link")) == 0
    assert f"{job}  done" in capsys.readouterr().out
    assert main(("jobs", "--connect", "link", "--json")) == 0
    listed = {entry["job"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert (listed[job]["state"], listed[job]["target"]) == ("done", "done")


def test_a_result_is_fetched_by_the_beginning_of_its_name_and_kept_until_it_is_to_be_forgotten(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    job = finished(client, shade=77)
    command = ("fetch", job[:12], "out.png", "--mask-out", "mask.png", "--connect", "link")
    assert main(command) == 0
    with Image.open("out.png") as image, Image.open("mask.png") as mask:
        assert (image.mode, image.size, mask.mode, mask.size) == ("RGBA", (16, 16), "L", (16, 16))
        assert image.getpixel((3, 3)) == (77, 77, 77, 200)
    record = read_record(Path("out.png"))
    assert record is not None
    assert record["made_by"]["job"] == job
    assert main((*command, "--forget")) == 0
    assert job not in {info.job for info in client.jobs()}
    assert main(command) == 1
    assert f"None of your jobs there begins with '{job[:12]}'. See: diffedit jobs" in capsys.readouterr().err


def test_a_result_is_laid_into_the_picture_that_was_sent(client: Client) -> None:
    job = finished(client, shade=77)
    Image.new("RGB", (16, 16), (77, 77, 77)).save("in.png")
    assert main(("fetch", job, "mask-too.png", "--picture", "in.png", "--mask-out", "m.png", "--connect", "link")) == 0
    with Image.open("mask-too.png") as image, Image.open("m.png") as mask:
        outside = np.asarray(mask) == 0
        assert image.mode == "RGB"
        assert (np.asarray(image)[outside] == 77).all()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("in.png", "--picture", "in.png"), "'in.png' is the picture itself"),
        (("out.png", "--picture", "small.png"), "The picture is 8 × 8 px, but 16 × 16 px were sent."),
        (("own.png",), "'own.png' is there already"),
        (("out.xyz",), "does not end in a picture format"),
        (("out.jpg",), ".jpg does not hold transparency"),
    ],
)
def test_fetching_replaces_nothing_either(
    client: Client, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], sentence: str
) -> None:
    job = finished(client)
    for name, side in (("in.png", 16), ("small.png", 8), ("own.png", 16)):
        Image.new("RGB", (side, side)).save(name)
    before = {file: file.read_bytes() for file in Path().iterdir()}
    assert main(("fetch", job, *more, "--forget", "--connect", "link")) == 1
    assert sentence in capsys.readouterr().err
    assert {file: file.read_bytes() for file in Path().iterdir()} == before
    assert job in {info.job for info in client.jobs()}


def test_a_picture_needs_a_place_to_be_written_to(client: Client) -> None:
    with pytest.raises(SystemExit) as ended:
        main(("fetch", finished(client), "--connect", "link"))
    assert ended.value.code == 2
