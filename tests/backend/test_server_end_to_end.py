"""`diffedit serve` with the bundled model: edits over the link, a worker killed in the middle, the command line.

Every test runs on both executors: processes on this machine, and actors of a real Ray cluster, whose head is started
here and joined by `--ray-address`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from backends import client_of, events_of, failure, last_event, numbered, resident_mib, wait_until, worker_pid
from diffedit_backend.cli.pictures.remote import edit_on_backend
from diffedit_backend.cli.self_test import sample_edit
from diffedit_backend.outcome import EditOutcome
from diffedit_backend.server.private_backend import PrivateBackend
from diffedit_bench.wire.command import measure
from diffedit_bench.wire.transports import compare
from diffedit_protocol.client import Client
from diffedit_protocol.connection import Connection
from diffedit_protocol.messages import MAX_VARIATIONS, Cancelled, Done, EditRequest, Preview, Progress, Started
from model_files import parts, write_folder
from PIL import Image
from ray_clusters import TOKEN, Node, ray_head

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # Ray's start alone takes minutes on a busy machine
SIDE = 64
MANY = {"variations": MAX_VARIATIONS}  # an edit that lasts, while a test cancels it or kills its worker


@pytest.fixture(scope="module", params=["local", "ray"])
def executor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def head(executor: str) -> Iterator[Node | None]:
    """The Ray cluster's head; None where there is no cluster."""
    if executor == "local":
        yield None
        return
    with ray_head() as head:
        yield head


@pytest.fixture(scope="module")
def backend(head: Node | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBackend]:
    where = [] if head is None else ["--executor", "ray", "--ray-cpu-only", "--ray-address", head.address]
    with PrivateBackend(
        tmp_path_factory.mktemp("home"),
        ["--threads", "1", "--listen", "local", "--listen", "tcp://127.0.0.1:0", *where],
        environment={"OMP_NUM_THREADS": "1", **({} if head is None else TOKEN)},
    ) as backend:
        yield backend


@pytest.fixture
def client(backend: PrivateBackend) -> Iterator[Client]:
    with client_of(backend.connection) as client:
        yield client


def diffedit(backend: PrivateBackend, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The console script, beside the backend."""
    return subprocess.run(
        [sys.executable, "-m", "diffedit_backend.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DIFFEDIT_HOME": str(backend.folder)},
    )


def kill_worker(head: Node | None, client: Client) -> None:
    """As the system does when its memory runs out. An actor's process is known to its own box alone."""
    if head is None:
        os.kill(worker_pid(client), signal.SIGKILL)
        return
    assert worker_pid(client) == 0
    for actor in head.actors():
        actor.kill()


def test_an_edit_tells_its_steps_in_order_shows_previews_and_leaves_a_result_within_its_bounds(client: Client) -> None:
    request, blobs = sample_edit(SIDE, shade=77)  # a picture of which the worker keeps no stage yet
    events = events_of(client, client.submit(request, blobs), seconds=120)
    kept = numbered(events)
    done = kept[-1]
    assert isinstance(kept[0], Started)
    assert isinstance(done, Done)
    stages = list(dict.fromkeys(event.stage for event in kept if isinstance(event, Progress)))
    assert stages == ["encoding", "inverting", "editing", "decoding"]  # the mask was given: nothing to find
    assert any(isinstance(event, Preview) for event in events)
    bounds = done.manifest.bounds
    assert (bounds.x, bounds.y, bounds.width, bounds.height) == (16, 16, 32, 32)
    pixels = np.frombuffer(client.fetch(done.manifest.edits[0].pixels), np.uint8).reshape(32, 32, 4)
    assert (pixels[..., 3] == 255).all()
    assert pixels[..., :3].std() > 1
    mask = np.frombuffer(client.fetch(done.manifest.mask), np.uint8).reshape(SIDE, SIDE)
    assert (mask > 0).sum() == 32 * 32
    assert done.manifest.evaluations > 0


def test_the_same_edit_again_sends_nothing_and_computes_only_what_a_seed_changes(client: Client) -> None:
    request, blobs = sample_edit(SIDE)
    first = last_event(client, client.submit(request, blobs), 120)
    sent = []
    job = client.submit(request, blobs, on_upload=lambda done, total: sent.append((done, total)))
    again = last_event(client, job, 120)
    assert isinstance(first, Done)
    assert isinstance(again, Done)
    assert all(done == total for done, total in sent)
    assert again.manifest.edits == first.manifest.edits
    assert again.manifest.evaluations <= first.manifest.evaluations


def test_a_cancel_ends_an_edit_at_its_next_step(client: Client) -> None:
    request, blobs = sample_edit(SIDE)
    slow = EditRequest.from_wire({**request.to_wire(), "quality": "fine", "method": "paper", "seed": 5, **MANY})
    job = client.submit(slow, blobs)
    next(event for event in client.events(job) if isinstance(event, Progress))
    client.cancel(job)
    events = events_of(client, job, 120)
    steps = [event for event in events if isinstance(event, Progress)]
    assert isinstance(events[-1], Cancelled)
    assert not any(event.stage == "decoding" for event in steps)  # how many steps came first depends on the machine


def begun(client: Client, target: str) -> str:
    """A long edit that is at its inversion. `target` must be another one each time: what is kept is quick."""
    request, blobs = sample_edit(SIDE)
    job = client.submit(replace(request, quality="fine", target=target, **MANY), blobs)
    for event in client.events(job):
        if isinstance(event, Progress) and event.stage == "inverting":
            break
    return job


def test_a_worker_killed_in_the_middle_costs_one_error_or_with_ray_a_delay_and_the_next_job_works(
    head: Node | None, client: Client
) -> None:
    request, blobs = sample_edit(SIDE)
    before = client.status()["workers"][0]["restarts"]
    job = begun(client, "a pear on grass")
    kill_worker(head, client)
    event = last_event(client, job, 480)
    if head is not None:
        assert isinstance(event, Done)
        assert sum(isinstance(event, Started) for event in events_of(client, job, since=0)) == 2
    else:
        assert failure(event) == "WORKER_DIED"
        assert event.error.retryable
    assert isinstance(last_event(client, client.submit(request, blobs), 480), Done)
    assert client.status()["workers"][0]["restarts"] == before + 1


def test_words_that_cannot_work_are_told_in_the_engines_sentence(client: Client) -> None:
    request, blobs = sample_edit(SIDE)
    same = EditRequest.from_wire({**request.to_wire(), "target": request.source})
    event = last_event(client, client.submit(same, blobs), 60)
    assert failure(event) == "BAD_INPUT"
    assert event.error.sentence == "Both texts are the same, so there is nothing to change."


def test_wordings_and_weights_travel_in_the_texts_and_weights_that_cannot_be_read_are_reported(client: Client) -> None:
    request, blobs = sample_edit(SIDE)
    shown = set()
    for target in ("a zebra on grass", "a zebra on grass | a striped zebra", "a (zebra)1.5 on grass"):
        done = last_event(client, client.submit(replace(request, target=target), blobs), 120)
        assert isinstance(done, Done)
        shown.add(done.manifest.edits[0].pixels.blob)
    assert len(shown) == 3
    event = last_event(client, client.submit(replace(request, target="()1.5"), blobs), 60)
    assert failure(event) == "BAD_INPUT"
    assert "The weights in '()1.5' cannot be read." in event.error.sentence


def test_the_command_line_edits_on_the_running_backend(backend: PrivateBackend, tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (40, 56, 3), np.uint8)
    mask = np.zeros((40, 56), np.uint8)
    mask[10:30, 20:40] = 255
    Image.fromarray(pixels).save(tmp_path / "in.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    words = ("--source", "a horse", "--target", "a zebra", "--mask", str(tmp_path / "mask.png"), "--quality", "draft")
    ran = diffedit(backend, "edit", str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--connect", *words)
    assert ran.returncode == 0, ran.stderr
    edited = np.asarray(Image.open(tmp_path / "out.png"))
    assert (edited[mask == 0] == pixels[mask == 0]).all()
    assert (edited[mask > 0] != pixels[mask > 0]).any()


def test_an_invited_line_works_for_the_command_line_and_revoking_ends_it(
    backend: PrivateBackend, tmp_path: Path
) -> None:
    port = backend.ready_line.split("tcp://127.0.0.1:")[1].split()[0]
    invited = diffedit(backend, "invite", "anna", "--host", f"127.0.0.1:{port}")
    line = invited.stdout.strip()
    assert line.startswith(f"diffedit://127.0.0.1:{port}/")
    assert "anna" in diffedit(backend, "clients").stdout
    request, _ = sample_edit(SIDE)
    picture = np.random.default_rng(4).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    mask = np.full((SIDE, SIDE), 255, np.uint8)
    outcome = edit_on_backend(Connection.from_line(line), request, picture, mask=mask)
    assert isinstance(outcome, EditOutcome)
    assert outcome.edits[0].pixels.shape == (SIDE, SIDE, 4)
    assert diffedit(backend, "revoke", "anna").returncode == 0
    (tmp_path / "line").touch(0o600)
    (tmp_path / "line").write_text(f"{line}\n")
    refused = diffedit(backend, "status", "--connect", str(tmp_path / "line"))
    assert refused.returncode == 1
    assert "does not know this Krita" in refused.stderr


def test_status_shows_worker_queue_clients_and_memory(executor: str, backend: PrivateBackend, client: Client) -> None:
    text = diffedit(backend, "status").stdout
    assert ("ray-0 idle on" if executor == "ray" else "worker-0 idle on") in text
    assert "client   local, " in text
    report = json.loads(diffedit(backend, "status", "--json").stdout)
    assert report["models"] == ["bundled"]
    assert report["workers"][0]["memory"] > 100 << 20
    assert report["memory"]["process"] < 200 << 20  # no torch in the socket's process


def test_doctor_tells_what_is_there_and_the_times_of_an_edit_and_no_secret(backend: PrivateBackend) -> None:
    ran = diffedit(backend, "doctor")
    assert ran.returncode == 0, ran.stderr
    for found in ("libzmq", "encryption yes", "bundled model", "server's key", "first edit", "same edit again"):
        assert found in ran.stdout
    secrets = [(backend.state / name).read_text().strip() for name in ("server.key", "local.key")]
    assert not any(secret in ran.stdout for secret in secrets)


def test_the_wire_benchmark_reports_every_figure(backend: PrivateBackend) -> None:
    report = measure(backend, [64, 128], rounds=2, edits=1)
    for rates in report["throughput_MB_per_s"].values():
        assert set(rates) == {"memcpy", "raw_tcp", "plain", "curve", "bare_plain", "bare_curve"}
        assert all(rate > 0 for way in rates.values() for rate in way.values())
    for shares in report["share_of_raw_tcp"].values():
        assert set(shares) == {"64", "128"}
        assert all(0 < share["lowest"] <= share["highest"] for share in shares.values())
    assert report["sha256_MB_per_s"] > 0
    assert 0 < report["small_request_p50_ms"]["plain"] < 1000
    assert 0 < report["edit"]["transport_share"] < 1
    assert report["edit"]["seconds_in_worker"] < report["edit"]["seconds"]
    json.dumps(report)


def test_zeromq_and_tls_are_compared_in_every_respect() -> None:
    found = compare(rounds=2)
    assert set(found) == {"zeromq_curve", "zeromq_plain", "tls", "tcp"}
    for way in found.values():
        assert set(way) == {"connection", "small", "layer"}
        assert all(0 < taken["best"] <= taken["median"] for taken in way.values())


@pytest.mark.timeout(900)
def test_edits_of_ever_new_pictures_leave_the_workers_memory_flat(tmp_path: Path) -> None:
    """With a model of a few thousand weights, and a cache that the first pictures fill."""
    model = write_folder(tmp_path / "tiny", parts("sd2"))
    arguments = ["--model", str(model), "--device", "cpu", "--threads", "1", "--cache", "0.001"]
    with PrivateBackend(tmp_path / "home", arguments) as backend, client_of(backend.connection) as client:
        memory = []
        for number in range(48):
            request, blobs = sample_edit(SIDE, shade=number)
            job = client.submit(request, blobs)
            assert isinstance(last_event(client, job, 120), Done)
            client.ack(job)
            if number in (15, 47):
                memory.append(resident_mib(worker_pid(client)))
        assert memory[1] - memory[0] < 8


def test_the_log_is_one_json_object_per_line_private_and_without_words_or_secrets(
    head: Node | None, backend: PrivateBackend, client: Client
) -> None:
    log = backend.state / "server.log"

    def events() -> set[str]:
        return {json.loads(line)["event"] for line in log.read_text().splitlines()}

    last_event(client, client.submit(*sample_edit(SIDE)), 180)
    job = begun(client, "a zebra on sand")
    kill_worker(head, client)
    wait_until(lambda: {"ready", "queued", "ended", "worker ended"} <= events(), 120, "the worker's end in the log")
    client.cancel(job)
    assert log.stat().st_mode & 0o777 == 0o600
    text = log.read_text()
    assert "zebra" not in text
    assert (backend.state / "server.key").read_text().strip() not in text
