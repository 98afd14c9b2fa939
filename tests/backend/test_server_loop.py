"""Nothing holds up the server's loop: while one thing waits, others are served. The server runs in this process."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgpack
import pytest
from backends import PATIENT, invited_to, wait_until
from diffedit_backend.executors.base import Executor, Job, Report, WorkerInfo
from diffedit_backend.server import listener, service
from diffedit_backend.server.hello_info import hello_info
from diffedit_backend.server.process import Server
from diffedit_backend.server.results import StoredPart
from diffedit_backend.server.settings import ServerSettings
from diffedit_protocol import server_session
from diffedit_protocol.blobs import pack_picture
from diffedit_protocol.client import Client
from diffedit_protocol.connection import Connection
from diffedit_protocol.errors import DiffEditError
from diffedit_protocol.frames import MAX_HEADER_BYTES
from diffedit_protocol.link_speed import LinkSpeed
from diffedit_protocol.messages import Bounds, Done, EditRequest, EditResult, Manifest, PictureRef, PlaneRef
from diffedit_protocol.replies import AdapterInfo, ModelInfo, Welcome
from diffedit_protocol.requests import new_job_id
from diffedit_protocol.server_session import reply_message


class AtOnce(Executor):
    """Ends every job at once: its edit is the picture with its values looked up in `table`, and so is its mask."""

    def __init__(self, table: bytes | None = None) -> None:
        import socket

        self._table = table
        self._readable, self._wake = socket.socketpair()
        self._reports: list[Report] = []
        self.broken = False

    def start(self) -> None: ...

    def free_slots(self) -> int:
        return 1

    def assign(self, waiting: Sequence[str]) -> tuple[int, str] | None:
        return (0, "only") if waiting else None

    def submit(self, job: Job, worker: str) -> None:
        picture = job.request.picture
        assert picture is not None
        raw = bytes(job.blobs[picture.blob]).translate(self._table)
        picture, raw = pack_picture(raw, picture.width, picture.height, picture.channels)
        plane = PlaneRef(picture.blob, picture.width, picture.height, packed=False)
        bounds = Bounds(0, 0, picture.width, picture.height)
        manifest = Manifest(plane, bounds, 0.5, edits=(EditResult(0, picture),))
        self._reports.append(Report(job.id, Done(manifest), {picture.blob: raw}))
        self._wake.send(b".")

    def cancel(self, job: str) -> None: ...

    def poll(self, timeout: float = 0.0) -> list[Report]:
        if self.broken:
            raise ZeroDivisionError("a fault of ours")
        reports, self._reports = self._reports, []
        return reports

    def fileno(self) -> int:
        return self._readable.fileno()

    def workers(self) -> tuple[WorkerInfo, ...]:
        return ()

    def trouble(self) -> DiffEditError | None:
        return None

    def close(self, grace: float) -> None:
        self._readable.close()
        self._wake.close()


@contextmanager
def running(folder: Path, executor: AtOnce | None = None, **settings: object) -> Iterator[Server]:
    """A server in a thread of this process."""
    server = Server(
        dataclasses.replace(ServerSettings(folder / "server", listen=("tcp://127.0.0.1:0",)), **settings),  # type: ignore[arg-type]
        executor or AtOnce(),
    )
    ready = threading.Event()
    thread = threading.Thread(target=server.serve, args=(ready.set,), daemon=True)
    thread.start()
    assert ready.wait(120)
    yield server
    server.stop()
    thread.join(120)
    server.close()


def client_of(server: Server) -> Client:
    """A fresh client of the server, to be used with `with`."""
    return Client(invited_to(server.endpoints[0], server.settings.state, new_job_id()), PATIENT)


def edit_of(client: Client, shade: int = 1, side: int = 512) -> Manifest:
    picture, raw = pack_picture(bytes([shade]) * (side * side * 3), side, side, 3)
    job = client.submit(EditRequest("", "", picture=picture), {picture.blob: raw})
    event = [event for event in client.events(job) if event is not None][-1]
    assert isinstance(event, Done)
    return event.manifest


@pytest.fixture
def slow_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every client takes its link for a slow one: chunks of pixels are packed."""
    monkeypatch.setattr(LinkSpeed, "slow", property(lambda self: True))


def fetched_while_another_is_served(
    anna: Connection, ben: Connection, wanted: PictureRef, begun: threading.Event, go_on: threading.Event
) -> bytes:
    """What Anna fetches; once that has `begun`, and before it may `go_on`, Ben is answered."""
    fetched: list[bytes] = []

    def fetch() -> None:
        with Client(anna, PATIENT) as other:
            fetched.append(other.fetch(wanted))

    fetching = threading.Thread(target=fetch)
    fetching.start()
    assert begun.wait(60)
    with Client(ben, PATIENT) as other:
        other.ping()
    go_on.set()
    fetching.join(120)
    return fetched[0]


@pytest.mark.usefixtures("slow_link")
def test_while_a_chunk_is_packed_another_client_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    real = server_session.encode_chunk

    def slow(data: bytes, encoding: str) -> tuple[str, bytes]:
        begun.set()
        assert go_on.wait(120)
        return real(data, encoding)

    with running(tmp_path) as server:
        anna, ben = (invited_to(server.endpoints[0], tmp_path / "server", name) for name in ("anna", "ben"))
        with Client(anna, PATIENT) as client:
            manifest = edit_of(client)
            monkeypatch.setattr(server_session, "encode_chunk", slow)
            pixels = fetched_while_another_is_served(anna, ben, manifest.edits[0].pixels, begun, go_on)
            assert pixels == bytes([1]) * (512 * 512 * 3)


def test_while_a_result_is_read_from_the_disk_another_client_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    real = StoredPart.read

    def slow(self: StoredPart) -> bytes | None:
        begun.set()
        assert go_on.wait(120)
        return real(self)

    with running(tmp_path, AtOnce(bytes(range(255, -1, -1))), result_bytes=0) as server:
        anna, ben = (invited_to(server.endpoints[0], tmp_path / "server", name) for name in ("anna", "ben"))
        with Client(anna, PATIENT) as client:
            manifest = edit_of(client)
            wait_until(lambda: server.results.memory == 0, what="the copy in memory to go")
            monkeypatch.setattr(StoredPart, "read", slow)
            pixels = fetched_while_another_is_served(anna, ben, manifest.edits[0].pixels, begun, go_on)
            assert pixels == bytes([254]) * (512 * 512 * 3)


def test_the_longest_turn_of_the_loop_and_what_took_it_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path) as server, client_of(server) as client:
        before = client.status()["loop"]

        def sweep() -> None:
            """Take longer than any turn before, which a busy machine may have held up."""
            time.sleep(server._times.longest.seconds + 0.05)

        monkeypatch.setattr(server.links, "sweep", sweep)
        seen = []

        def is_long() -> bool:
            seen.append(client.status()["loop"])
            return bool(seen[-1]["longest_step"] == "links")

        wait_until(is_long, what="the long turn")
        loop = seen[-1]
    assert before["turns"] < loop["turns"]
    assert loop["longest_ms"] >= 50
    assert loop["longest_processor_ms"] < loop["longest_ms"]
    assert loop["beyond_aim"] >= 1
    assert loop["buckets"][-1] == ["+Inf", loop["turns"]]


def test_messages_that_take_long_are_taken_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client with many costly messages must not hold up the others for all of them."""
    with running(tmp_path) as server, client_of(server) as client:
        client.ping()
        monkeypatch.setattr(listener, "BURST_SECONDS", 0.0)
        turns: list[int] = []
        real = server.listener.receive

        def counted(number: int) -> Iterator[listener.Incoming]:
            taken = list(real(number))
            turns.append(len(taken))
            yield from taken

        monkeypatch.setattr(server.listener, "receive", counted)
        edit_of(client)
    assert max(turns) == 1


@pytest.mark.usefixtures("slow_link")
def test_while_a_chunk_of_few_bytes_is_unpacked_to_many_another_client_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    real = server_session.decode_chunk

    def slow(data: bytes | memoryview, encoding: str, length: int) -> bytes | memoryview:
        if encoding != "raw":
            assert len(data) < length / 100
            begun.set()
            assert go_on.wait(120)
        return real(data, encoding, length)

    with running(tmp_path) as server:
        anna, ben = (invited_to(server.endpoints[0], tmp_path / "server", name) for name in ("anna", "ben"))
        monkeypatch.setattr(server_session, "decode_chunk", slow)

        def send() -> None:
            with Client(anna, PATIENT) as client:
                edit_of(client)

        sending = threading.Thread(target=send)
        sending.start()
        assert begun.wait(60)
        with Client(ben, PATIENT) as other:
            other.ping()
        go_on.set()
        sending.join(120)
        assert not sending.is_alive()


@pytest.mark.usefixtures("slow_link")
def test_packed_chunks_of_an_upload_arrive_in_order(tmp_path: Path) -> None:
    with (
        running(tmp_path) as server,
        client_of(server) as client,
    ):
        assert client.fetch(edit_of(client, 7, 1024).edits[0].pixels) == bytes([7]) * (1024 * 1024 * 3)


def test_while_the_adapters_folder_is_looked_through_hello_is_answered(tmp_path: Path) -> None:
    go_on = threading.Event()
    names = ["one"]

    def look() -> list[AdapterInfo]:
        if len(names) > 1:
            assert go_on.wait(120)
        return [AdapterInfo(name) for name in names]

    with running(tmp_path, adapters=look) as server:
        anna = invited_to(server.endpoints[0], tmp_path / "server", "anna")
        with Client(anna, PATIENT) as client:
            assert client.hello.adapters == ("one",)
        names.append("two")
        with Client(anna, PATIENT) as client:
            assert client.hello.adapters == ("one",)
        go_on.set()
        server._adapters.now(30.0)
        with Client(anna, PATIENT) as client:
            assert client.hello.adapters == ("one", "two")


def test_an_adapters_folder_that_cannot_be_looked_through_leaves_hello_answered(tmp_path: Path) -> None:
    def look() -> list[AdapterInfo]:
        raise FileNotFoundError("a link that leads nowhere")

    with running(tmp_path, adapters=look) as server, client_of(server) as client:
        assert client.hello.adapters == ()


def test_a_fault_in_the_loop_is_counted_and_the_server_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = AtOnce()
    with (
        running(tmp_path, executor) as server,
        client_of(server) as client,
    ):

        def fault(self: service.Service, owner: str, request: object) -> None:
            raise KeyError("a fault of ours")

        with monkeypatch.context() as patch:
            patch.setattr(service.Service, "answer", fault)
            with pytest.raises(DiffEditError, match="made a mistake"):
                client.status()
        executor.broken = True
        client.ping()
        executor.broken = False
        assert edit_of(client).edits
        assert client.status()["faults"] >= 1


def test_150_models_and_396_adapters_fit_into_hello(tmp_path: Path) -> None:
    models = tuple(
        ModelInfo(f"a-model-with-a-long-name-{number:03}" * 3, "SD XL", 1024, 1 << 33) for number in range(150)
    )
    adapters = tuple(AdapterInfo(f"a-lora-with-a-long-name-{number:03}" * 3, "LoRA", "SD XL") for number in range(396))
    info = hello_info("boot", ServerSettings(tmp_path, models=models), (), adapters)
    message = reply_message(2**63 - 1, Welcome(1, info))
    assert len(msgpack.packb({"type": message.type, **message.fields})) < MAX_HEADER_BYTES
    assert info.models[0] == models[0]
    assert len(info.adapters) == len(info.adapter_details) > 50
