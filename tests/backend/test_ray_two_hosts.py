"""A Ray cluster of two boxes, each with a network of its own: the cable to one is cut in the middle of a job."""

from __future__ import annotations

from pathlib import Path

import pytest
from backends import client_of, events_of, last_event, scripted_backend, scripted_edit, wait_until
from diffedit_protocol.client import Client
from diffedit_protocol.messages import Done, Progress, Started
from ray_clusters import NODE_SOON, TOKEN, ray_head, ray_node
from two_hosts import HERE, THERE, TwoHosts, missing

REASON = missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # three boxes of Ray are started; each takes a minute on a busy machine
    pytest.mark.skipif(bool(REASON), reason=f"two hosts need network namespaces; here {REASON}"),
]
TIMEOUTS = {"loading": 600.0, "step": 60.0, "cancel": 60.0, "back_off": 0.05, "back_off_most": 0.2}


def states(client: Client) -> list[str]:
    return sorted(worker["state"] for worker in client.status()["workers"])


def test_a_box_that_is_cut_off_costs_its_job_a_delay_and_a_box_that_comes_is_used(tmp_path: Path) -> None:
    with (
        TwoHosts(megabits=1000, delay_ms=0, loss=0) as hosts,
        ray_head(ip=HERE, cpus=1, environment=NODE_SOON) as head,
    ):
        box = {"ip": THERE, "cpus": 1, "prefix": hosts.there(), "environment": NODE_SOON}
        ray = {"address": head.address, "node_ip": HERE, "environment": TOKEN}
        with (
            scripted_backend(tmp_path, ray=ray, workers=2, timeouts=TIMEOUTS) as backend,
            client_of(backend.connection) as client,
        ):
            with ray_node("--address", head.address, **box):
                # One core each: the two workers are on two boxes.
                wait_until(lambda: states(client) == ["idle", "idle"], 300, "a worker on either box")
                jobs = [client.submit(*scripted_edit(f"hold={tmp_path / 'cut'}", shade=shade)) for shade in (50, 200)]
                for job in jobs:
                    assert any(isinstance(event, Progress) and event.stage == "editing" for event in client.events(job))
                hosts.cut()
                (tmp_path / "cut").touch()
                assert all(isinstance(last_event(client, job, 240), Done) for job in jobs)
                begun = [sum(isinstance(event, Started) for event in events_of(client, job, since=0)) for job in jobs]
                assert max(begun) >= 2  # run again, on the box that is left
                wait_until(lambda: states(client) == ["idle", "starting"], what="a worker that waits for a box")
                hosts.mend()
            with ray_node("--address", head.address, **box):
                wait_until(lambda: states(client) == ["idle", "idle"], 300, "a worker on the new box")
                jobs = [client.submit(*scripted_edit(f"hold={tmp_path / 'both'}", shade=shade)) for shade in (60, 210)]
                wait_until(lambda: states(client) == ["busy", "busy"], 60, "work on both boxes")
                (tmp_path / "both").touch()
                assert all(isinstance(last_event(client, job, 120), Done) for job in jobs)
