"""What hello tells that a backend can do beyond the protocol's version."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from backends import client_of, scripted_backend, wait_until, worker_pid
from diffedit_protocol.replies import AUTOMATIC_GROW, BLEND, DETAIL, MATTING


@pytest.mark.parametrize(
    ("server", "worker", "reported"),
    [(False, None, False), (True, None, True), (True, False, False), (False, True, True)],
    ids=["nobody", "the-server-alone", "not-the-worker", "the-worker-alone"],
)
def test_detail_blend_and_automatic_grow_are_always_told_and_matting_where_the_workers_have_it(
    server: bool, worker: bool | None, reported: bool, tmp_path: Path
) -> None:
    script = {} if worker is None else {"mattes": worker}
    with scripted_backend(tmp_path, mattes=server, script=script) as backend, client_of(backend.connection) as client:
        assert {DETAIL, BLEND, AUTOMATIC_GROW} <= set(client.hello.capabilities)
        assert (MATTING in client.hello.capabilities) == reported


def test_a_worker_that_is_started_again_does_not_take_the_capability_away_meanwhile(tmp_path: Path) -> None:
    timeouts = {"back_off": 3600.0, "back_off_most": 3600.0}
    with scripted_backend(tmp_path, script={"mattes": True}, timeouts=timeouts) as backend:
        with client_of(backend.connection) as client:
            os.kill(worker_pid(client), signal.SIGKILL)
            wait_until(lambda: client.status()["workers"][0]["state"] == "waiting")
        with client_of(backend.connection) as client:
            assert MATTING in client.hello.capabilities
