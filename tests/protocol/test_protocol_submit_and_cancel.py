"""Jobs over a link in memory: submit, again, cancel at every moment; the server has the job once or not at all."""

from __future__ import annotations

from collections.abc import Callable

from diffedit_protocol.errors import (
    NoBlobError,
    UnknownJobError,
)
from diffedit_protocol.frames import Frames, decode
from diffedit_protocol.job_run import MOST_ROUNDS, REFRESH_SECONDS, JobRun
from diffedit_protocol.messages import (
    Cancelled,
    EditRequest,
    Queued,
)
from diffedit_protocol.requests import new_job_id
from faulty_link import Faults, World
from scripted_job import SCRIPT, Edit, drain, play


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

    world._launch = watched
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
