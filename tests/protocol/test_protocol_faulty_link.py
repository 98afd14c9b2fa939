"""Jobs over links that lose, repeat, reorder and break, to servers that forget: nothing is lost or done twice."""

from __future__ import annotations

import pytest
from diffedit_protocol.blobs import blob_id
from diffedit_protocol.errors import (
    SchemaError,
)
from diffedit_protocol.job_run import REFRESH_SECONDS, JobRun
from diffedit_protocol.messages import (
    Event,
    Failed,
    Preview,
    Progress,
    Queued,
    Started,
)
from diffedit_protocol.operations import Download
from diffedit_protocol.replies import Limits
from diffedit_protocol.requests import new_job_id
from faulty_link import Faults, World
from scripted_job import SCRIPT, Edit, drain, play

FAULTS = {
    "a good link": Faults(),
    "losses": Faults(drop=0.2),
    "repetitions": Faults(duplicate=0.5),
    "messages that overtake one another": Faults(delay=0.4),
    "cuts": Faults(cut=0.03),
    "everything but restarts": Faults(drop=0.15, duplicate=0.15, delay=0.3, cut=0.02),
}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_a_job_is_done_once_and_every_event_arrives_in_order(edit: Edit, faults: Faults, seed: int) -> None:
    world = World(seed, faults)
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: run.finished, each=lambda: play(world))
    assert run.error is None
    assert drain(run) == [Queued(0), *SCRIPT]
    assert world.server.bytes_put == run.total == run.sent
    assert list(world.server.jobs) == [run.job]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_a_download_is_exact(faults: Faults, seed: int) -> None:
    world = World(seed, faults, loopback=seed % 2 == 0)
    blob = world.random.randbytes(3000)
    world.server.blobs[blob_id(blob)] = blob
    download = Download(blob_id(blob), 3000, channels=3)
    world.client.start(download, world.now)
    world.run(lambda: download.finished)
    assert download.error is None
    assert download.data == blob


@pytest.mark.parametrize("seed", range(12))
def test_a_job_survives_restarts_of_the_server(edit: Edit, seed: int) -> None:
    world = World(seed, Faults(drop=0.05, duplicate=0.05, delay=0.2, cut=0.01, restart=0.01))
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    events: list[Event] = []

    def each() -> None:
        play(world)
        new = drain(run)
        if Queued(0) in new:  # a server that forgot begins again at 1
            events.clear()
            new = new[len(new) - 1 - new[::-1].index(Queued(0)) :]
        events.extend(new)

    world.run(lambda: run.finished, each=each)
    each()
    assert run.error is None
    assert events == [Queued(0), *SCRIPT]


def test_a_cut_upload_goes_on_where_it_was(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.faults = Faults(delay=0.2)
    world.client.start(run, world.now)
    world.run(lambda: world.server.bytes_put >= 300)
    assert run.sent < run.total
    before = world.server.bytes_put
    world.cut()
    world.run(lambda: run.accepted)
    assert world.server.bytes_put == run.total
    assert before >= 300


def test_a_cut_download_asks_only_for_what_was_in_flight() -> None:
    world = World()
    world.server.limits = Limits(chunk_bytes=64, window=4)
    world.server.boot()
    blob = world.random.randbytes(64 * 40)
    world.server.blobs[blob_id(blob)] = blob
    download = Download(blob_id(blob), len(blob))
    world.faults = Faults(delay=0.2)
    world.client.start(download, world.now)
    world.run(lambda: download.received >= len(blob) // 2)
    world.cut()
    world.run(lambda: download.finished)
    assert download.data == blob
    assert world.server.bytes_got <= len(blob) + 4 * 64


def test_an_unchanged_picture_is_sent_once(edit: Edit) -> None:
    world = World()
    for _ in range(3):
        run = JobRun(new_job_id(), *edit, accepted=False)
        world.client.start(run, world.now)
        world.run(lambda run=run: run.accepted)  # type: ignore[misc]
    assert len(world.server.jobs) == 3
    assert world.server.bytes_put == run.total


def test_the_same_id_is_the_same_job(edit: Edit) -> None:
    world = World()
    job = new_job_id()
    for _ in range(2):
        run = JobRun(job, *edit, accepted=False)
        world.client.start(run, world.now)
        world.run(lambda run=run: run.accepted)  # type: ignore[misc]
    assert world.server.jobs[job].submissions == 2
    assert len(world.server.jobs) == 1


@pytest.mark.parametrize("since", range(7))
def test_events_can_be_replayed_from_any_number(edit: Edit, since: int) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: run.finished, each=lambda: play(world))
    again = JobRun(run.job, None, {}, accepted=True, since=since)
    world.client.start(again, world.now)
    world.run(lambda: again.finished)
    assert drain(again) == [Queued(0), *SCRIPT][since:]


def test_a_lost_event_is_noticed_at_the_next_one(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: bool(run.events))
    world.server.send_event(run.job, Started())
    assert world.link is not None
    world.link.outbox.clear()
    world.server.send_event(run.job, Progress("encoding", 1, 1))
    world.turn()
    assert drain(run) == [Queued(0), Started(), Progress("encoding", 1, 1)]


def test_a_lost_last_event_is_fetched_after_a_short_silence(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: bool(run.events))
    assert world.link is not None
    world.server.send_event(run.job, Failed(SchemaError("no")))
    world.link.outbox.clear()
    world.run(lambda: run.finished, seconds=REFRESH_SECONDS + 0.5)


def test_only_the_newest_preview_waits_for_a_slow_reader(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: bool(run.events))
    for shade in range(100):
        world.server.send_event(run.job, Preview(1, 1, bytes([shade] * 3)))
        world.turn()
    assert [event for _, event in run.events] == [Queued(0), Preview(1, 1, b"ccc")]


def test_a_preview_of_an_event_that_was_overtaken_is_dropped(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: bool(run.events))
    world.server.send_event(run.job, Preview(1, 1, b"old"))
    assert world.link is not None
    late = world.link.outbox.pop()
    world.server.send_event(run.job, Started())
    world.turn()
    world.client.receive(late, world.now)
    assert [event for _, event in run.events] == [Queued(0), Started()]
