"""Over a link in memory: what a server may answer, refusals, versions, several operations on one link."""

from __future__ import annotations

import itertools

import pytest
from diffedit_protocol.blobs import blob_id
from diffedit_protocol.errors import (
    BusyError,
    LinkError,
    NoBlobError,
    SchemaError,
    TooLargeError,
    VersionError,
)
from diffedit_protocol.job_run import JobRun
from diffedit_protocol.messages import (
    Cancelled,
    EditRequest,
    Queued,
)
from diffedit_protocol.operations import Call, Download
from diffedit_protocol.replies import JobInfo, JobList, Pong, StatusReport
from diffedit_protocol.requests import Ack, Jobs, Ping, Status, new_job_id
from faulty_link import Faults, World
from reference_server import ReferenceServer
from scripted_job import SCRIPT, Edit, drain, play


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


def test_a_job_that_a_restarted_server_has_no_room_for_yet_is_brought_again_when_it_says(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    run.busy_limit = 60.0
    world.client.start(run, world.now)
    world.run(lambda: run.accepted)
    world.server.boot()
    world.server.refuse_next = BusyError("Four jobs wait already.", retry_after=7.5)
    world.cut()
    world.run(lambda: run.busy is not None)
    refused_at = world.now
    world.run(lambda: run.accepted)
    assert world.now - refused_at >= 7.5 - 0.1
    assert list(world.server.jobs) == [run.job]
    assert not run.finished


def test_a_job_that_waits_for_room_is_cancelled_at_once(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    run.busy_limit = 60.0
    world.client.start(run, world.now)
    world.server.refuse_next = BusyError("Four jobs wait already.", retry_after=30.0)
    world.run(lambda: run.busy is not None)
    run.cancel(world.client)
    assert run.finished
    assert [event for _, event in run.events] == [Cancelled()]
    assert not world.server.jobs


def test_a_server_that_stays_full_is_asked_no_longer_than_the_limit(edit: Edit) -> None:
    world = World()
    run = JobRun(new_job_id(), *edit, accepted=False)
    run.busy_limit = 20.0
    world.client.start(run, world.now)
    begun = world.now
    refusals = 0
    while not run.finished:
        world.server.refuse_next = BusyError("Four jobs wait already.", retry_after=8.0)
        world.run(lambda: world.server.refuse_next is None)
        refusals += 1
    assert isinstance(run.error, BusyError)
    assert refusals == 3  # at once, after 8 s, after 16 s; the next would be after 24 s
    assert world.now - begun < 20.0


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


def test_ping_status_jobs_and_ack_are_answered(edit: Edit) -> None:
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
        world.run(lambda world=world: world.client.fatal is not None)
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
