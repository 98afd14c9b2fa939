"""What the server's tests share: a scripted backend in a process of its own, edits for it, and its clients."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffedit_backend.executors.base import Executor, Job, Report, WorkerInfo
from diffedit_backend.server.allow_list import AllowList
from diffedit_backend.server.private_backend import PrivateBackend
from diffedit_backend.server.state_folder import StateFolder
from diffedit_protocol.blobs import pack_picture
from diffedit_protocol.client import Client, Timeouts
from diffedit_protocol.connection import Connection
from diffedit_protocol.errors import DiffEditError
from diffedit_protocol.messages import Done, EditRequest, Event, Failed, Preview

SCRIPTED_SERVER = Path(__file__).with_name("scripted_server.py")
ROOT = Path(__file__).parents[2]
PATIENT = Timeouts(connect=60.0, answer=60.0, lost=120.0)  # no sound run comes near them
TCP = "tcp://127.0.0.1:0"
Edit = tuple[EditRequest, dict[str, bytes]]


def scripted_backend(folder: Path, **settings: Any) -> PrivateBackend:
    """The real server with scripted workers; see scripted_server.py for `settings`. To be used with `with`."""
    paths = os.pathsep.join((str(ROOT / "protocol"), str(ROOT / "backend"), str(SCRIPTED_SERVER.parent)))
    command = (sys.executable, str(SCRIPTED_SERVER), json.dumps(settings))
    return PrivateBackend(folder, command=command, environment={"PYTHONPATH": paths})


def scripted_edit(script: str = "", side: int = 16, shade: int = 100, **fields: Any) -> Edit:
    """An edit whose source is a worker's script, and its blobs."""
    picture, raw = pack_picture(bytes([shade]) * (side * side * 3), side, side, 3)
    return EditRequest(script, "done", picture=picture, **fields), {picture.blob: raw}


def invited(backend: PrivateBackend, name: str) -> Connection:
    """A fresh client's connection to the backend's TCP address."""
    endpoint = next(word for word in backend.ready_line.split() if word.startswith("tcp://"))
    return invited_to(endpoint, backend.state, name)


def invited_to(endpoint: str, state: Path, name: str) -> Connection:
    """A fresh client's connection to the server whose folder is `state`."""
    folder = StateFolder(state)
    return AllowList(folder.allow_list).invite(name, endpoint, folder.server_keys().public)


@contextmanager
def client_of(connection: Connection, timeouts: Timeouts = PATIENT) -> Iterator[Client]:
    with Client(connection, timeouts) as client:
        yield client


def last_event(client: Client, job: str, seconds: float = 60.0) -> Event:
    """The job's final event. Fails the test when none comes in time."""
    return events_of(client, job, seconds)[-1]


def events_of(client: Client, job: str, seconds: float = 60.0, since: int | None = None) -> list[Event]:
    """Every event of the job, previews included, up to the final one."""
    until = time.monotonic() + seconds
    events: list[Event] = []
    for event in client.events(job, since):
        assert time.monotonic() < until, f"The job did not end within {seconds} s; it told {numbered(events)[-5:]}."
        if event is not None:
            events.append(event)
    return events


def numbered(events: list[Event]) -> list[Event]:
    """The events that may not be lost: all but previews."""
    return [event for event in events if not isinstance(event, Preview)]


def run_edit(client: Client, edit: Edit, **options: Any) -> Done:
    """Submit, wait, and demand success."""
    job = client.submit(*edit, **options)
    event = last_event(client, job)
    assert isinstance(event, Done), event
    return event


def failure(event: Event) -> str:
    """The code of a Failed event; the test fails for any other."""
    assert isinstance(event, Failed), event
    return event.error.code


def wait_until(reached: Callable[[], bool], seconds: float = 60.0, what: str = "it") -> None:
    """Poll until `reached`; fails the test when it does not come in time."""
    until = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < until, f"{what} did not happen within {seconds} s."
        time.sleep(0.02)


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def worker_pid(client: Client) -> int:
    """The process of the first worker."""
    return int(client.status()["workers"][0]["pid"])


class OneWorker(Executor):
    """Takes one job at a time and tells what the test has it tell."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.idle = True

    def start(self) -> None: ...

    def free_slots(self) -> int:
        return int(self.idle)

    def assign(self, waiting: Sequence[str]) -> tuple[int, str] | None:
        return (0, "worker") if waiting and self.idle else None

    def submit(self, job: Job, worker: str) -> None:
        self.idle = False
        self.jobs.append(job)

    def cancel(self, job: str) -> None: ...

    def poll(self, timeout: float = 0.0) -> list[Report]:
        return []

    def fileno(self) -> int:
        return -1

    def workers(self) -> tuple[WorkerInfo, ...]:
        return ()

    def trouble(self) -> DiffEditError | None:
        return None

    def close(self, grace: float) -> None: ...
