"""The client thread against the real server process, with a worker that follows a script instead of a model."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest
from diffedit.backend import client_thread
from diffedit.backend.client_thread import ClientThread
from diffedit.model.payload import JobPayload
from diffedit_protocol.client import Client
from diffedit_protocol.connection import Connection, KeyPair
from diffedit_protocol.messages import Cancelled, EditRequest, Failed, Preview, Progress, Started
from diffedit_protocol.requests import new_job_id

SERVER = Path(__file__).parents[1] / "backend" / "scripted_server.py"
WIDTH, HEIGHT = 24, 16
PICTURE = bytes(range(256)) * (WIDTH * HEIGHT * 3 // 256) + bytes(WIDTH * HEIGHT * 3 % 256)


class Backend:
    """`diffedit serve` with a scripted worker, in the data folder that DIFFEDIT_HOME names."""

    def __init__(self, **settings: object) -> None:
        self._settings = {"grace": 0.2, **settings}
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER), json.dumps(self._settings)],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout.readline().startswith("ready")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(20)
            self._process.stdout.close()


@pytest.fixture
def backend(home: Path) -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.stop()


class Listener:
    """What a link told, by job."""

    def __init__(self, link: ClientThread) -> None:
        self.states: list[str] = []
        self.errors: list[str] = []
        self.events: dict[str, list[object]] = {}
        self.results: dict[str, object] = {}
        link.state_changed.connect(self._state)
        link.job_event.connect(lambda job, event: self.events.setdefault(job, []).append(event))
        link.job_finished.connect(self.results.__setitem__)

    def _state(self, state) -> None:
        self.states.append(state.kind)
        if state.error is not None:
            self.errors.append(state.error.code)

    def last(self, job: str) -> object:
        return self.events.get(job, [None])[-1]


@pytest.fixture
def make_link(home: Path) -> Iterator[Callable[..., tuple[ClientThread, Listener]]]:
    links = []

    def make(find: Callable[[], Connection] = Connection.local_backend) -> tuple[ClientThread, Listener]:
        link = ClientThread(find)
        listener = Listener(link)
        links.append(link)
        link.open()
        return link, listener

    yield make
    for link in links:
        assert link.close()


def payload(script: str, **fields: object) -> JobPayload:
    return JobPayload(new_job_id(), EditRequest(script, "a zebra", **fields), WIDTH, HEIGHT, 3, PICTURE)


def test_a_payload_runs_and_its_result_arrives_with_its_pixels(backend, make_link, until) -> None:
    link, listener = make_link()
    until(lambda: link.state.kind == "ready")
    assert link.state.info.models[0].name == "script"
    sent = payload("steps=3")
    link.submit(sent)
    until(lambda: sent.job in listener.results)
    result = listener.results[sent.job]
    assert result.edits == (PICTURE,)
    assert result.mask == PICTURE[::3]
    kinds = [type(event) for event in listener.events[sent.job]]
    assert Started in kinds
    assert kinds.count(Preview) > 0
    assert [e.step for e in listener.events[sent.job] if isinstance(e, Progress) and e.stage == "editing"] == [1, 2, 3]


def test_what_the_backend_did_not_tell_of_is_not_sent_and_the_result_says_so(backend, make_link, until) -> None:
    link, listener = make_link()
    sent = payload("asked", detail=True, matting=True, automatic_grow=True)
    link.submit(sent)
    until(lambda: sent.job in listener.results)
    result = listener.results[sent.job]
    assert result.manifest.notes == (("ASKED", "detail"), ("ASKED", "automatic_grow"))
    assert result.left_out == ("matting",)


def test_an_older_backend_is_asked_for_the_grow_alone_and_the_artist_is_not_bothered(
    backend, make_link, until, monkeypatch
) -> None:
    told = Client.hello.fget
    monkeypatch.setattr(Client, "hello", property(lambda client: dataclasses.replace(told(client), capabilities=())))
    link, listener = make_link()
    sent = payload("asked", automatic_grow=True)
    link.submit(sent)
    until(lambda: sent.job in listener.results)
    result = listener.results[sent.job]
    assert result.manifest.notes == ()
    assert result.left_out == ()


def test_a_picture_that_the_backend_has_of_a_job_before_is_reported_as_sent_from_the_start(
    backend, make_link, until
) -> None:
    link, listener = make_link()
    reported: dict[str, list[int]] = {}
    link.uploaded.connect(lambda job, sent, total: reported.setdefault(job, []).append(total - sent))
    first = dataclasses.replace(payload("steps=1"), width=1200, height=1200, picture=os.urandom(3 * 1200 * 1200))
    second = dataclasses.replace(first, job=new_job_id())
    for one in (first, second):
        link.submit(one)
        until(lambda one=one: one.job in listener.results)
    assert max(reported[first.job]) > 0
    assert set(reported[second.job]) == {0}


def test_a_payload_that_was_given_before_there_is_a_backend_runs_when_one_starts(home, make_link, until) -> None:
    link, listener = make_link()
    until(lambda: link.state.kind == "down")
    sent = payload("steps=1")
    link.submit(sent)
    backend = Backend()
    try:
        until(lambda: sent.job in listener.results)
    finally:
        backend.stop()
    assert listener.errors[0] == "LINK"


def test_a_backend_that_stays_away_is_told_of_once(home, make_link, until) -> None:
    link, listener = make_link()
    until(lambda: link.state.kind == "down")
    begun = monotonic()
    until(lambda: monotonic() - begun > 2.5)  # two more attempts
    assert listener.states == ["down"]


def test_cancel_ends_a_running_job_at_its_next_step(backend, make_link, until) -> None:
    link, listener = make_link()
    sent = payload("steps=100000 pause=0.02")
    link.submit(sent)
    until(lambda: isinstance(listener.last(sent.job), Progress))
    link.cancel(sent.job)
    until(lambda: isinstance(listener.last(sent.job), Cancelled))
    other = payload("steps=1")
    link.submit(other)
    until(lambda: other.job in listener.results)


def test_cancel_without_a_backend_is_told_at_once(home, make_link, until) -> None:
    link, listener = make_link()
    until(lambda: link.state.kind == "down")
    sent = payload("steps=1")
    link.submit(sent)
    link.cancel(sent.job)
    until(lambda: isinstance(listener.last(sent.job), Cancelled))


def test_two_payloads_are_carried_side_by_side(home, make_link, until) -> None:
    backend = Backend(workers=2)
    try:
        link, listener = make_link()
        slow = payload("steps=100000 pause=0.05")
        other = PICTURE[::-1]  # the same picture would wait for the worker that holds it
        quick = JobPayload(new_job_id(), EditRequest("steps=2", "a zebra"), WIDTH, HEIGHT, 3, other)
        link.submit(slow)
        until(lambda: isinstance(listener.last(slow.job), Progress))
        link.submit(quick)
        until(lambda: quick.job in listener.results)
        assert slow.job not in listener.results
        link.cancel(slow.job)
        until(lambda: isinstance(listener.last(slow.job), Cancelled))
    finally:
        backend.stop()


def test_a_worker_that_dies_is_reported_and_the_next_job_works(backend, make_link, until) -> None:
    link, listener = make_link()
    sent = payload("die=1")
    link.submit(sent)
    until(lambda: isinstance(listener.last(sent.job), Failed))
    assert listener.last(sent.job).error.code == "WORKER_DIED"
    other = payload("steps=1")
    link.submit(other)
    until(lambda: other.job in listener.results)


def test_a_backend_that_is_killed_and_started_anew_brings_the_result_all_the_same(backend, make_link, until) -> None:
    link, listener = make_link()
    sent = payload("steps=40 pause=0.05")
    link.submit(sent)
    until(lambda: isinstance(listener.last(sent.job), Progress))
    backend.kill()
    until(lambda: "lost" in listener.states)
    backend.start()
    until(lambda: sent.job in listener.results)
    assert listener.results[sent.job].edits == (PICTURE,)


def test_a_backend_that_moved_to_another_address_is_found_there(home, make_link, until) -> None:
    first = Backend(listen=["tcp://127.0.0.1:0"])
    link, listener = make_link()
    sent = payload("steps=40 pause=0.05")
    link.submit(sent)
    until(lambda: isinstance(listener.last(sent.job), Progress))
    first.kill()
    shutil.rmtree(home / "server")
    second = Backend(listen=["tcp://127.0.0.1:0"])
    try:
        until(lambda: sent.job in listener.results)
    finally:
        second.stop()


def test_a_key_that_is_not_known_is_told_as_a_refusal(home, make_link, until) -> None:
    backend = Backend(listen=["tcp://127.0.0.1:0"])
    try:
        keys = KeyPair.generate()
        known = Connection.local_backend()
        stranger = dataclasses.replace(known, client_public=keys.public, client_secret=keys.secret)
        link, _ = make_link(lambda: stranger)
        until(lambda: link.state.kind == "refused")
        assert link.state.error.code == "AUTH"
    finally:
        backend.stop()


def test_reconnect_takes_new_settings_at_once(home, make_link, until) -> None:
    backend = Backend()
    try:
        keys = KeyPair.generate()
        nobody = Connection("tcp://127.0.0.1:9", keys.public, keys.secret, keys.public)
        where = [nobody]
        link, listener = make_link(lambda: where[0])
        until(lambda: link.state.kind == "down")
        where[0] = Connection.local_backend()
        listener.states.clear()
        link.reconnect()
        until(lambda: link.state.kind == "ready")
        assert listener.states == ["connecting", "ready"]
    finally:
        backend.stop()


def test_a_result_is_fetched_by_a_later_krita_until_it_is_settled(backend, make_link, until) -> None:
    first, listener = make_link()
    sent = payload("steps=3 pause=0.01")
    first.submit(sent)
    until(lambda: sent.job in listener.results)
    first.close()
    later, later_listener = make_link()
    later.follow(sent.job)
    until(lambda: sent.job in later_listener.results)
    assert later_listener.results[sent.job].edits == listener.results[sent.job].edits
    later.settle(sent.job)
    other = payload("steps=1")
    later.submit(other)  # orders are obeyed in turn: the server has forgotten the first job by now
    until(lambda: other.job in later_listener.results)
    later.follow(sent.job)
    until(lambda: isinstance(later_listener.last(sent.job), Failed))
    assert later_listener.last(sent.job).error.code == "UNKNOWN_JOB"


def test_a_job_that_still_runs_is_followed_by_a_later_krita(backend, make_link, until) -> None:
    first, listener = make_link()
    sent = payload("steps=60 pause=0.02")
    first.submit(sent)
    until(lambda: isinstance(listener.last(sent.job), Progress))
    first.close()
    later, later_listener = make_link()
    later.follow(sent.job)
    until(lambda: sent.job in later_listener.results)


def test_stopping_in_the_middle_of_a_job_does_not_wait_for_its_end(backend, make_link, until) -> None:
    link, listener = make_link()
    sent = payload("steps=100000 pause=0.02")
    link.submit(sent)
    until(lambda: isinstance(listener.last(sent.job), Progress))
    assert link.close()
    assert sent.job not in listener.results


def one_runs_and_one_waits(make_link, until):
    """A link to a backend that takes one job: an endless one runs, one of a step waits. The last: who was delayed."""
    link, listener = make_link()
    delays: list[str] = []
    link.delayed.connect(lambda job, seconds: delays.append(job))
    first, second = payload("steps=100000 pause=0.01"), payload("steps=1")
    link.submit(first)
    until(lambda: Started in map(type, listener.events.get(first.job, ())))
    link.submit(second)
    until(lambda: bool(delays))
    return link, listener, first, second, delays


def test_a_backend_that_is_full_is_asked_again_when_it_says_while_other_jobs_go_on(home, make_link, until) -> None:
    backend = Backend(limits={"jobs": 1})
    try:
        link, listener, first, second, delays = one_runs_and_one_waits(make_link, until)
        seen = len(listener.events[first.job])
        until(lambda: len(listener.events[first.job]) > seen)
        assert set(delays) == {second.job}
        link.cancel(first.job)
        until(lambda: second.job in listener.results)
        assert not any(isinstance(event, Failed) for event in listener.events.get(second.job, ()))
    finally:
        backend.stop()


def test_a_backend_that_is_full_is_asked_at_once_when_an_own_job_ends(home, make_link, until, monkeypatch) -> None:
    monkeypatch.setattr(client_thread, "SHORTEST_WAIT", 100.0)  # longer than this test waits for anything
    backend = Backend(limits={"jobs": 1})
    try:
        link, listener, first, second, _ = one_runs_and_one_waits(make_link, until)
        link.cancel(first.job)
        until(lambda: second.job in listener.results)
    finally:
        backend.stop()


def test_a_job_that_waits_for_a_full_backend_is_cancelled_at_once(home, make_link, until) -> None:
    backend = Backend(limits={"jobs": 1})
    try:
        link, listener, first, second, _ = one_runs_and_one_waits(make_link, until)
        link.cancel(second.job)
        until(lambda: isinstance(listener.last(second.job), Cancelled))
        link.cancel(first.job)
        until(lambda: isinstance(listener.last(first.job), Cancelled))
    finally:
        backend.stop()


def test_while_a_layer_is_packed_the_other_job_goes_on_and_the_link_is_read(
    backend, make_link, until, monkeypatch
) -> None:
    """A thread that reads nothing for seconds fills its queues, and another job's artist sees nothing move."""
    packing, go_on = threading.Event(), threading.Event()
    real = client_thread.pack_picture

    def slow(pixels: bytes, width: int, height: int, channels: int):
        if pixels[:1] == b"\xff":
            packing.set()
            assert go_on.wait(60)
        return real(pixels, width, height, channels)

    monkeypatch.setattr(client_thread, "pack_picture", slow)
    link, listener = make_link()
    large, small = payload("steps=1"), payload("steps=1")
    link.submit(dataclasses.replace(large, picture=b"\xff" * len(PICTURE)))
    until(packing.is_set)
    link.submit(small)
    until(lambda: small.job in listener.results)
    assert large.job not in listener.results
    go_on.set()
    until(lambda: large.job in listener.results)
