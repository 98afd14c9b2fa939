"""Jobs over links that lose, repeat, reorder and break, to servers that forget: nothing is lost or done twice."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from diffedit_protocol.blobs import blob_id, pack_plane
from diffedit_protocol.errors import (
    BusyError,
    LinkError,
    NoBlobError,
    SchemaError,
    TooLargeError,
    UnknownJobError,
    VersionError,
)
from diffedit_protocol.frames import Frames, decode
from diffedit_protocol.job_run import MOST_ROUNDS, REFRESH_SECONDS, JobRun
from diffedit_protocol.messages import (
    Bounds,
    Cancelled,
    Done,
    EditRequest,
    Event,
    Failed,
    Manifest,
    Preview,
    Progress,
    Queued,
    Started,
)
from diffedit_protocol.operations import Call, Download
from diffedit_protocol.replies import JobInfo, JobList, Limits, Pong, StatusReport
from diffedit_protocol.requests import Ack, Jobs, Ping, Status, new_job_id
from faulty_link import Faults, World
from reference_server import ReferenceServer

Edit = tuple[EditRequest, dict[str, bytes]]
MASK, MASK_BLOB = pack_plane(bytes(range(200)), 20, 10)
SCRIPT: tuple[Event, ...] = (
    Started(),
    Progress("encoding", 1, 1),
    Progress("finding", 1, 2, 3.5),
    Progress("finding", 2, 2, 2.5),
    Progress("editing", 1, 1, 0.5),
    Done(Manifest(MASK, Bounds(1, 2, 3, 4), 0.5, seconds={"finding": 1.0}, notes=(("CODE", "A sentence."),))),
)


def play(world: World) -> None:
    """The worker: every job gets the next event of the script now and then, with a preview in between."""
    world.server.blobs.setdefault(MASK.blob, MASK_BLOB)
    for name, job in world.server.jobs.items():
        if not job.ended and world.random.random() < 0.3:
            world.server.tell(name, Preview(1, 1, b"rgb"))
            if not job.ended:
                world.server.tell(name, SCRIPT[len(job.log) - 1])


def drain(run: JobRun) -> list[Event]:
    """What the run gathered, previews left out."""
    events = [event for _, event in run.events if not isinstance(event, Preview)]
    run.events.clear()
    return events


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
    world.server.tell(run.job, Started())
    assert world.link is not None
    world.link.outbox.clear()
    world.server.tell(run.job, Progress("encoding", 1, 1))
    world.turn()
    assert drain(run) == [Queued(0), Started(), Progress("encoding", 1, 1)]


def test_a_lost_last_event_is_fetched_after_a_short_silence(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: bool(run.events))
    assert world.link is not None
    world.server.tell(run.job, Failed(SchemaError("no")))
    world.link.outbox.clear()
    world.run(lambda: run.finished, seconds=REFRESH_SECONDS + 0.5)


def test_only_the_newest_preview_waits_for_a_slow_reader(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: bool(run.events))
    for shade in range(100):
        world.server.tell(run.job, Preview(1, 1, bytes([shade] * 3)))
        world.turn()
    assert [event for _, event in run.events] == [Queued(0), Preview(1, 1, b"ccc")]


def test_a_preview_of_an_event_that_was_overtaken_is_dropped(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: bool(run.events))
    world.server.tell(run.job, Preview(1, 1, b"old"))
    assert world.link is not None
    late = world.link.outbox.pop()
    world.server.tell(run.job, Started())
    world.turn()
    world.client.receive(late, world.now)
    assert [event for _, event in run.events] == [Queued(0), Started()]


def test_a_blob_that_the_server_dropped_before_submit_is_sent_again(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)

    def drop_once() -> None:
        if len(world.server.blobs) == 2 and not dropped:
            dropped.append(True)
            world.server.blobs.clear()

    dropped: list[bool] = []
    world.faults = Faults(delay=0.3)
    world.run(lambda: run.accepted, each=drop_once)
    assert dropped
    assert world.server.bytes_put == 2 * run.total


def _kinds_to_server(world: World, lose: Callable[[str], bool] = lambda kind: False) -> list[str]:
    """The types of the messages that go to the server from now on; those that `lose` picks never arrive."""
    kinds: list[str] = []
    launch = world._launch

    def watched(frames: Frames, *, to_server: bool) -> None:
        if to_server:
            kinds.append(decode(frames).type)
            if lose(kinds[-1]):
                return
        launch(frames, to_server=to_server)

    world._launch = watched  # type: ignore[method-assign]
    return kinds


def test_the_submit_follows_the_last_chunk_without_waiting_for_its_answer(edit: Edit) -> None:
    request, blobs = edit
    picture = {request.picture.blob: blobs[request.picture.blob]}
    world = World()
    there_already: list[bool] = []

    def note(kind: str) -> bool:
        if kind == "submit":
            there_already.append(request.picture.blob in world.server.blobs)
        return False

    sent = _kinds_to_server(world, note)
    run = JobRun(new_job_id(), EditRequest("a", "b", picture=request.picture), picture, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: run.accepted)
    assert there_already == [False]
    assert [kind for kind in sent if kind in ("put", "submit")] == ["put"] * sent.count("put") + ["submit"]


def test_a_submit_whose_chunk_was_lost_is_sent_again_once_all_is_there(edit: Edit) -> None:
    world = World()
    lost: list[str] = []

    def lose_one(kind: str) -> bool:
        if kind == "put" and not lost:
            lost.append(kind)
            return True
        return False

    sent = _kinds_to_server(world, lose_one)
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: run.accepted)
    assert lost
    assert list(world.server.jobs) == [run.job]
    assert world.server.bytes_put == run.total
    assert sent.count("have") == 1


def test_cancel_while_the_submit_follows_its_chunks_reaches_the_job(edit: Edit) -> None:
    world = World(faults=Faults(delay=0.2))
    sent = _kinds_to_server(world)
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: "submit" in sent)
    run.cancel(world.client)
    world.run(lambda: run.finished)
    assert drain(run)[-1] == Cancelled()
    assert all(job.ended for job in world.server.jobs.values())


def test_a_server_that_keeps_dropping_blobs_ends_the_run_with_its_error(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.faults = Faults(delay=0.3)
    world.client.start(run, world.now)

    def drop() -> None:
        if len(world.server.blobs) == 2:
            world.server.blobs.clear()

    world.run(lambda: run.finished, each=drop)
    assert isinstance(run.error, NoBlobError)
    assert world.server.bytes_put == MOST_ROUNDS * run.total


def test_a_job_that_the_server_forgot_without_a_restart_is_submitted_again(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: bool(run.events))
    world.server.jobs.clear()
    world.run(lambda: run.job in world.server.jobs, seconds=REFRESH_SECONDS + 0.5)
    world.run(lambda: run.finished, each=lambda: play(world))


def test_watching_a_job_that_nobody_knows_ends_with_unknown_job() -> None:
    world = World()
    run = JobRun(new_job_id(), None, {}, accepted=True)
    world.client.start(run, world.now)
    world.run(lambda: run.finished)
    assert isinstance(run.error, UnknownJobError)


def test_a_finished_result_that_outlived_a_restart_comes_to_a_watcher(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: len(run.events) >= 3, each=lambda: play(world))
    world.cut()
    while not world.server.jobs[run.job].ended:
        play(world)
    world.restart(keep=True)
    world.run(lambda: run.finished)
    events = drain(run)
    assert events[-7:] == [Queued(0), *SCRIPT]
    assert events.count(Queued(0)) == 2
    assert len(world.server.jobs) == 1
    assert world.server.bytes_put == run.total


def test_cancel_ends_a_running_job(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: bool(run.events))
    run.cancel(world.client)
    world.run(lambda: run.finished, seconds=0.2)
    assert drain(run) == [Queued(0), Cancelled()]
    assert world.server.jobs[run.job].cancels == 1


def test_cancel_during_the_upload_submits_nothing(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.faults = Faults(delay=0.2)
    world.client.start(run, world.now)
    world.run(lambda: world.server.bytes_put > 0)
    run.cancel(world.client)
    assert run.finished
    assert drain(run) == [Cancelled()]
    world.run(lambda: world.now > 110)
    assert not world.server.jobs


def test_cancel_before_anything_was_asked_submits_nothing(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    run.cancel(world.client)
    world.run(lambda: run.finished)
    assert not world.server.jobs
    assert world.server.bytes_put == 0


def test_cancel_while_have_is_asked_uploads_nothing(edit: Edit) -> None:
    world = World(faults=Faults(delay=0.2))
    world.server.blobs.update(edit[1])
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.run(lambda: world.client.ready)
    world.client.start(run, world.now)
    run.cancel(world.client)
    world.run(lambda: run.finished)
    assert not world.server.jobs


def test_cancel_between_submit_and_its_answer_reaches_the_job(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.server.when_submitted = lambda job: run.cancel(world.client)
    world.client.start(run, world.now)
    world.run(lambda: run.finished)
    assert drain(run) == [Queued(0), Cancelled()]


def test_cancel_on_a_cut_link_is_remembered(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: bool(run.events))
    world.cut()
    run.cancel(world.client)
    assert not run.finished
    world.run(lambda: run.finished)
    assert drain(run) == [Queued(0), Cancelled()]
    assert isinstance(world.server.jobs[run.job].log[-1], Cancelled)


def test_cancel_of_a_job_that_a_restart_took_away_does_not_start_it_again(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: bool(run.events))
    world.restart()
    run.cancel(world.client)
    world.run(lambda: run.finished)
    assert drain(run) == [Queued(0), Cancelled()]
    assert not world.server.jobs


def test_cancel_of_a_watched_job_that_is_gone_ends_the_watching() -> None:
    world = World()
    run = JobRun(new_job_id(), None, {}, accepted=True)
    run.cancelling = True
    world.client.start(run, world.now)
    world.run(lambda: run.finished)
    assert run.error is None
    assert drain(run) == [Cancelled()]


def test_a_full_queue_is_told_with_the_time_to_wait(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: world.client.ready)
    world.server.refuse_next = BusyError("Four jobs wait already.", retry_after=7.5)
    world.run(lambda: run.finished)
    assert isinstance(run.error, BusyError)
    assert run.error.retryable
    assert run.error.retry_after == 7.5


def test_bytes_that_do_not_have_their_name_are_refused_by_the_server(edit: Edit) -> None:
    world = World()
    request, blobs = edit
    run = JobRun(new_job_id(), request, {name: bytes(len(data)) for name, data in blobs.items()}, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: run.finished)
    assert isinstance(run.error, SchemaError)
    assert not world.server.blobs


def test_bytes_that_do_not_have_their_name_are_refused_by_the_client() -> None:
    world = World()
    name = blob_id(b"what was asked for")
    world.server.blobs[name] = b"what the server has"
    download = Download(name, 100)
    world.client.start(download, world.now)
    world.run(lambda: download.finished)
    assert isinstance(download.error, SchemaError)


def test_a_blob_larger_than_expected_is_not_downloaded() -> None:
    world = World()
    world.server.blobs[blob_id(b"x" * 500)] = b"x" * 500
    download = Download(blob_id(b"x" * 500), 499)
    world.client.start(download, world.now)
    world.run(lambda: download.finished)
    assert isinstance(download.error, TooLargeError)
    assert world.server.bytes_got == 64


def test_a_result_that_is_gone_ends_the_download_with_no_blob() -> None:
    world = World()
    download = Download(blob_id(b"gone"), 10)
    world.client.start(download, world.now)
    world.run(lambda: download.finished)
    assert isinstance(download.error, NoBlobError)
    assert download.error.retryable


def test_small_questions_are_answered(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: run.accepted)
    calls = [Call(request) for request in (Ping(), Status(), Jobs(), Ack(run.job))]
    for call in calls:
        world.client.start(call, world.now)
    world.run(lambda: all(call.finished for call in calls))
    ping, status, jobs, _ = (call.reply for call in calls)
    assert ping == Pong(world.server.info.boot_id)
    assert status == StatusReport({"queue": 1})
    assert jobs == JobList((JobInfo(run.job, "queued", 1),))
    assert not world.server.jobs


def test_versions_without_overlap_are_told_with_both_and_who_is_to_be_updated() -> None:
    for versions, sentence in (
        ((2, 3), "The backend speaks version 2 to 3, this plugin 1. Update the plugin."),
        ((1, 1), "The backend speaks version 1, this plugin 2. Update the backend."),
    ):
        world = World()
        world.server = ReferenceServer(versions=versions)
        ours = (1, 1) if versions == (2, 3) else (2, 2)
        world.client = type(world.client)("test", loopback=True, versions=ours)
        world.run(lambda world=world: world.client.fatal is not None)  # type: ignore[misc]
        assert isinstance(world.client.fatal, VersionError)
        assert world.client.fatal.sentence == sentence


def test_the_highest_version_that_both_speak_is_taken() -> None:
    world = World()
    world.server = ReferenceServer(versions=(1, 4))
    world.client = type(world.client)("test", loopback=True, versions=(2, 3))
    world.run(lambda: world.client.ready)
    assert world.link is not None
    assert world.link.session.version == 3


def test_before_hello_there_is_no_server_to_speak_of() -> None:
    with pytest.raises(LinkError):
        _ = World().client.server


def test_a_link_that_was_mended_unnoticed_is_greeted_again(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: bool(run.events))
    world.link = world.server.connect()  # the transport reconnected by itself: for the server it is a new link
    world.run(lambda: run.finished, each=lambda: play(world))
    assert drain(run) == [Queued(0), *SCRIPT]


def test_two_jobs_and_a_download_share_a_link(edit: Edit) -> None:
    world = World(3, Faults(drop=0.1, delay=0.3))
    blob = world.random.randbytes(2000)
    world.server.blobs[blob_id(blob)] = blob
    runs = [JobRun(new_job_id(), *edit, accepted=False) for _ in range(2)]
    download = Download(blob_id(blob), 2000)
    for operation in (*runs, download):
        world.client.start(operation, world.now)
    world.run(lambda: all(o.finished for o in (*runs, download)), each=lambda: play(world))
    assert download.data == blob
    assert [drain(run) for run in runs] == list(itertools.repeat([Queued(0), *SCRIPT], 2))


def test_a_request_that_cannot_be_packed_fails_at_once_and_harms_nobody_else(edit: Edit) -> None:
    world = World()
    bad = JobRun(new_job_id(), EditRequest("half a \ud83d", "b"), {}, accepted=False)
    good = JobRun(new_job_id(), *edit, accepted=False)
    for run in (bad, good):
        world.client.start(run, world.now)
    world.run(lambda: bad.finished and good.accepted)
    assert isinstance(bad.error, SchemaError)


def test_an_abandoned_operation_hears_nothing_more(edit: Edit) -> None:
    world = World(faults=Faults(delay=0.3))
    run = JobRun(new_job_id(), *edit, accepted=False)
    world.client.start(run, world.now)
    world.run(lambda: world.server.bytes_put > 0)
    world.client.abandon(run)
    world.client.abandon(run)
    world.run(lambda: world.now > 110)
    assert not world.server.jobs
    assert world.client.unanswered_since is None
