"""A slow link between two hosts: 20 Mbit/s, 80 ms there and back, 1 % of the packets lost."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from threading import Timer

import numpy as np
import pytest
from backends import ROOT, SCRIPTED_SERVER, client_of, events_of, invited, last_event, scripted_edit
from diffedit_backend.server.private_backend import PrivateBackend
from diffedit_protocol.blobs import pack_picture
from diffedit_protocol.connection import Connection
from diffedit_protocol.messages import Cancelled, Done, EditRequest, Progress
from diffedit_protocol.requests import new_job_id
from two_hosts import THERE, TwoHosts, missing

SIDE = 1024
STEPS = 100_000  # of an edit that would take half an hour
PORT = 7860
REASON = missing()
pytestmark = pytest.mark.skipif(bool(REASON), reason=f"two hosts need network namespaces; here {REASON}")


@pytest.fixture(scope="module")
def hosts() -> Iterator[TwoHosts]:
    with TwoHosts(megabits=20, delay_ms=80, loss=0.01) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def backend(hosts: TwoHosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBackend]:
    """The scripted server on the other host, which this one reaches by the slow link only."""
    settings = json.dumps({"listen": [f"tcp://{THERE}:{PORT}"]})
    backend = PrivateBackend(
        tmp_path_factory.mktemp("there"),
        command=hosts.there(sys.executable, str(SCRIPTED_SERVER), settings),
        environment={"PYTHONPATH": os.pathsep.join((str(ROOT / "protocol"), str(ROOT / "backend")))},
    )
    with backend:
        yield backend


@pytest.fixture
def anna(backend: PrivateBackend) -> Connection:
    return invited(backend, new_job_id())


def layer(seed: int, script: str = "steps=5 pause=0.02") -> tuple[EditRequest, dict[str, bytes]]:
    """A layer of 1024 × 1024 px, 3 MiB, photograph-like in that neighbours differ little."""
    noise = np.random.default_rng(seed)
    walk = noise.integers(-12, 13, (SIDE, SIDE, 3)).cumsum(axis=1).astype(np.uint8)
    picture, raw = pack_picture(walk.tobytes(), SIDE, SIDE, 3)
    return EditRequest(script, "done", picture=picture, preview=False), {picture.blob: raw}


class Stop(Exception):
    """The artist changed their mind."""


def test_an_edit_of_a_layer_of_1024_px_goes_there_and_back_exactly_and_packed(
    hosts: TwoHosts, anna: Connection
) -> None:
    request, blobs = layer(1)
    with client_of(anna) as client:
        before = hosts.carried
        event = last_event(client, client.submit(request, blobs))
        assert isinstance(event, Done)
        assert client.fetch(event.manifest.edits[0].pixels) == next(iter(blobs.values()))
        # Packed, with what was lost and sent again: raw, it would be more than the layer in each direction.
        assert all(after - held < SIDE * SIDE * 3 for after, held in zip(hosts.carried, before, strict=True))


def test_a_cancel_ends_a_running_job_in_the_middle(anna: Connection) -> None:
    with client_of(anna) as client:
        job = client.submit(*scripted_edit(f"steps={STEPS} pause=0.02"))
        next(event for event in client.events(job) if isinstance(event, Progress) and event.stage == "editing")
        client.cancel(job)
        *before, last = [event for event in client.events(job) if event is not None]
    assert isinstance(last, Cancelled)
    assert all(event.step < STEPS for event in before if isinstance(event, Progress))


def test_a_cancel_in_the_upload_sends_no_more_of_the_layer(hosts: TwoHosts, anna: Connection) -> None:
    sizes = []

    def stop(sent: int, total: int) -> None:
        if sent > 600_000:
            sizes.append(total)
            raise Stop

    with client_of(anna) as client:
        before, _ = hosts.carried
        with pytest.raises(Stop):
            client.submit(*layer(10), on_upload=stop)
        assert client.ping() > 0  # waits behind what is on its way already
        after, _ = hosts.carried
    assert after - before < sizes[0]


def test_after_a_cut_in_the_download_the_result_is_exact(hosts: TwoHosts, anna: Connection) -> None:
    request, blobs = layer(3)
    was_cut = False

    def pull_the_cable(received: int, size: int) -> None:
        nonlocal was_cut
        if not was_cut and received > size * 0.3:
            was_cut = True
            hosts.cut()
            Timer(2.0, hosts.mend).start()

    with client_of(anna) as client:
        event = last_event(client, client.submit(request, blobs))
        assert isinstance(event, Done)
        assert client.fetch(event.manifest.edits[0].pixels, pull_the_cable) == next(iter(blobs.values()))
        assert was_cut


def test_after_a_cut_in_the_job_no_event_is_missing(hosts: TwoHosts, anna: Connection) -> None:
    with client_of(anna) as client:
        job = client.submit(*scripted_edit("steps=60 pause=0.05"))
        next(event for event in client.events(job) if isinstance(event, Progress))
        hosts.cut()
        Timer(1.5, hosts.mend).start()
        steps = [
            event.step for event in events_of(client, job) if isinstance(event, Progress) and event.stage == "editing"
        ]
        assert steps == list(range(1, 61))
