"""Slips of the hand, and a machine that runs out of something: no process ends, nothing is lost, the reason is said.

Every test here that has a server ends with the same process that it began with.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from backends import (
    ROOT,
    TCP,
    client_of,
    invited,
    last_event,
    resident_mib,
    run_edit,
    scripted_backend,
    scripted_edit,
    wait_until,
    worker_pid,
)
from diffedit_backend.server import allow_list, uploads
from diffedit_backend.server.allow_list import HEADER, AllowList
from diffedit_backend.server.faults import without_paths
from diffedit_backend.server.job_table import MOST_RESULTLESS
from diffedit_backend.server.private_backend import PrivateBackend
from diffedit_backend.server.state_folder import StateFolder
from diffedit_backend.server.uploads import Uploads
from diffedit_protocol.blobs import blob_id
from diffedit_protocol.client import Client
from diffedit_protocol.errors import (
    MAX_ERROR_CHARACTERS,
    AuthError,
    BadInputError,
    DiffEditError,
    LinkError,
    ModelError,
    name_list,
)
from diffedit_protocol.events import event_message
from diffedit_protocol.frames import MAX_HEADER_BYTES, encode
from diffedit_protocol.messages import Done, Failed, Progress
from diffedit_protocol.requests import Put, new_job_id
from hostile import RawClient, error_code

ENDLESS = "steps=100000 pause=0.05"  # until it is cancelled
SLOW = "steps=100 pause=0.05"  # five seconds
SAVING_SECONDS = 1.3  # that an editor has a file empty, or away, while it saves
PATHS = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "protocol", ROOT / "backend")))}


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBackend]:
    with scripted_backend(tmp_path_factory.mktemp("slips"), listen=["local", TCP], limits={"jobs": 64}) as backend:
        boot_id = _boot_id(backend)
        yield backend
        assert _boot_id(backend) == boot_id


def _boot_id(backend: PrivateBackend) -> str:
    with client_of(backend.connection) as client:
        run_edit(client, scripted_edit())
        return client.hello.boot_id


@pytest.fixture
def admin(backend: PrivateBackend) -> Iterator[Client]:
    with client_of(backend.connection) as client:
        yield client


@pytest.fixture
def allowed(backend: PrivateBackend) -> Path:
    """The file of the allow list."""
    return StateFolder(backend.state).allow_list


class TestOneRequest:
    @pytest.mark.parametrize("offset", [2**62, 2**63 - 1, 2**63])
    def test_a_get_far_beyond_a_result_on_disk_is_answered(self, tmp_path: Path, offset: int) -> None:
        with scripted_backend(tmp_path, listen=[TCP], result_bytes=0) as backend:
            with client_of(backend.connection) as client:
                done = run_edit(client, scripted_edit())
                blob = done.manifest.edits[0].pixels.blob
                wait_until(lambda: client.status()["memory"]["results"] == 0, what="the end of the copy in memory")
            with RawClient(backend.connection) as raw:
                raw.hello()
                assert error_code(raw.ask("get", blob=blob, offset=offset, length=10)) == "BAD_INPUT"
            assert _boot_id(backend)

    def test_a_get_of_a_result_whose_file_is_gone_is_answered(self, tmp_path: Path) -> None:
        with scripted_backend(tmp_path, result_bytes=0) as backend, client_of(backend.connection) as client:
            done = run_edit(client, scripted_edit("bytes=4096"))
            blob = done.manifest.edits[0].pixels.blob
            wait_until(lambda: client.status()["memory"]["results"] == 0, what="the end of the copy in memory")
            (file,) = (backend.state / "results").glob(f"*/*/{blob}")
            file.unlink()
            with pytest.raises(DiffEditError, match="holds no blob"):
                client.fetch(done.manifest.edits[0].pixels)
            run_edit(client, scripted_edit())

    def test_an_error_of_70_kb_reaches_the_artist_shortened(self) -> None:
        error = ModelError("It is not there. There are: " + "a_lora_with_a_name, " * 4000, detail="x" * 100_000)
        frames = encode(event_message(new_job_id(), 1, Failed(error)))
        assert len(frames[0]) < MAX_HEADER_BYTES
        sentence = event_message(new_job_id(), 1, Failed(error)).fields["error"]["sentence"]
        assert len(sentence) == MAX_ERROR_CHARACTERS
        assert sentence.endswith("…")

    def test_a_list_of_1500_names_names_a_few(self) -> None:
        names = [f"lora-{number}" for number in range(1500)]
        assert len(name_list(names)) < 200
        assert name_list(names).endswith("and 1,488 more")
        assert name_list(["one", "two"]) == "one, two"


class TestAllowList:
    @pytest.mark.parametrize("content", ["", None, "a stray word\n"], ids=["empty", "away", "stray word"])
    def test_a_file_that_is_no_list_for_a_moment_ends_no_job_and_deletes_no_result(
        self, backend: PrivateBackend, allowed: Path, content: str | None
    ) -> None:
        with client_of(invited(backend, new_job_id())) as client:
            kept = run_edit(client, scripted_edit("bytes=4096"))
            job = client.submit(*scripted_edit(SLOW))
            next(event for event in client.events(job) if isinstance(event, Progress))
            saved = allowed.read_text()
            if content is None:
                allowed.rename(allowed.with_name("aside"))
            else:
                allowed.write_text(content)
            time.sleep(SAVING_SECONDS)
            allowed.with_name("aside").unlink(missing_ok=True)
            allowed.write_text(saved)
            allowed.chmod(0o600)
            assert isinstance(last_event(client, job), Done)
            client.fetch(kept.manifest.edits[0].pixels)

    def test_nobody_enters_while_the_file_is_no_list(self, backend: PrivateBackend, allowed: Path) -> None:
        connection, saved = invited(backend, new_job_id()), allowed.read_text()
        allowed.write_text(saved + "a stray word\n")
        try:
            with pytest.raises(AuthError), client_of(connection):
                pass
        finally:
            allowed.write_text(saved)
        with client_of(connection) as client:
            client.ping()

    def test_a_line_that_is_away_while_an_editor_saves_costs_no_job(
        self, backend: PrivateBackend, allowed: Path, admin: Client
    ) -> None:
        with client_of(invited(backend, new_job_id())) as client:
            kept = run_edit(client, scripted_edit("bytes=4096"))
            saved = allowed.read_text()
            allowed.write_text(HEADER)
            wait_until(lambda: len(admin.status()["clients"]) == 1, what="the cut of the client's link")
            allowed.write_text(saved)
        with client_of(client.connection) as client:
            client.fetch(kept.manifest.edits[0].pixels)

    def test_a_client_that_is_away_when_it_is_revoked_loses_job_and_pictures(
        self, backend: PrivateBackend, allowed: Path, admin: Client
    ) -> None:
        connection = invited(backend, f"away-{new_job_id()}")
        with client_of(connection) as client:
            run_edit(client, scripted_edit("bytes=4096"))
            client.submit(*scripted_edit(ENDLESS))
        before = len(list((backend.state / "results").glob("*/*/record")))
        AllowList(allowed).revoke(connection.name)
        wait_until(lambda: admin.status()["queue"]["running"] == 0, what="the end of the job")
        wait_until(
            lambda: len(list((backend.state / "results").glob("*/*/record"))) == before - 1,
            what="the end of the result",
        )

    def test_a_file_that_others_may_read_is_noticed_while_the_server_runs(
        self, backend: PrivateBackend, allowed: Path
    ) -> None:
        connection = invited(backend, new_job_id())
        allowed.chmod(0o644)
        try:
            with pytest.raises(AuthError), client_of(connection):
                pass
        finally:
            allowed.chmod(0o600)
        with client_of(connection) as client:
            client.ping()

    def test_a_byte_that_is_no_utf_8_is_named(self, tmp_path: Path) -> None:
        file = tmp_path / "clients"
        file.write_bytes(HEADER.encode() + b"andr\xe9 KEY 2026-01-01\n")
        file.chmod(0o600)
        with pytest.raises(BadInputError, match=r"no UTF-8 text: byte .* is 0xe9"):
            AllowList(file)

    def test_parallel_invitations_and_revocations_lose_none(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from diffedit_backend.server.allow_list import AllowList\n"
            "file, names = Path(sys.argv[1]), sys.argv[2:]\n"
            "for name in names: AllowList(file).invite(name, 'tcp://gpu1:1', '0' * 40)\n"
            "for name in names[::2]: AllowList(file).revoke(name)\n"
        )
        groups = [[f"client-{number}-{turn}" for turn in range(4)] for number in range(6)]
        running = [
            subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "clients"), *names], env=PATHS)
            for names in groups
        ]
        assert [process.wait(120) for process in running] == [0] * 6
        left = {client.name for client in AllowList(tmp_path / "clients").clients}
        assert left == {name for names in groups for name in names[1::2]}

    def test_on_a_full_disk_a_key_is_still_revoked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        allowed = AllowList(tmp_path / "clients")
        for name in ("anna", "ben"):
            allowed.invite(name, "tcp://gpu1:1", "0" * 40)

        def full(path: Path, text: str) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(allow_list, "write_private", full)
        allowed.revoke("anna")
        assert [client.name for client in AllowList(tmp_path / "clients").clients] == ["ben"]
        with pytest.raises(BadInputError, match="No space left"):
            allowed.invite("carl", "tcp://gpu1:1", "0" * 40)
        assert [client.name for client in AllowList(tmp_path / "clients").clients] == ["ben"]


class TestStart:
    def test_an_empty_key_is_named(self, tmp_path: Path) -> None:
        folder = StateFolder(tmp_path / "server")
        folder.server_keys()
        (folder.root / "server.key").write_text("")
        with pytest.raises(BadInputError, match=r"holds no key \(0 bytes\)"):
            folder.server_keys()

    def test_a_file_of_a_desktop_among_the_results_is_passed_over(self, tmp_path: Path) -> None:
        with scripted_backend(tmp_path) as backend:
            with client_of(backend.connection) as client:
                done = run_edit(client, scripted_edit())
            (record,) = (backend.state / "results").glob("*/*/record")
            (record.parents[1] / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
            backend.stop()
            backend.start()
            with client_of(backend.connection) as client:
                client.fetch(done.manifest.mask)

    def test_a_folder_that_cannot_be_written_ends_the_start_with_a_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "server").write_text("in the way, as a disk without room is")
        with pytest.raises(LinkError) as caught:
            scripted_backend(tmp_path).start()
        assert "The backend cannot use the folder" in caught.value.detail
        assert "Traceback" not in caught.value.detail

    def test_a_second_server_with_a_folder_of_its_own_leaves_the_first_its_local_file(self, tmp_path: Path) -> None:
        with scripted_backend(tmp_path) as first:
            before = (tmp_path / "local.json").read_text()
            second = scripted_backend(tmp_path, state_name="second")
            second.start()
            second.stop()
            assert (tmp_path / "local.json").read_text() == before
            assert _boot_id(first)

    def test_a_hang_up_ends_it_cleanly(self, tmp_path: Path) -> None:
        ours = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests that run under nohup would pass theirs on
        with scripted_backend(tmp_path) as backend:
            signal.signal(signal.SIGHUP, ours)
            assert backend.process is not None
            backend.process.send_signal(signal.SIGHUP)
            assert backend.process.wait(60) == 0
            assert not (tmp_path / "local.json").exists()


class TestDescriptors:
    def test_silent_strangers_take_neither_a_worker_nor_an_invitation(self, tmp_path: Path) -> None:
        with (
            scripted_backend(tmp_path, listen=["local", TCP], files=256, timeouts={"back_off": 0.05}) as backend,
            client_of(backend.connection) as admin,
        ):
            boot_id = admin.hello.boot_id
            connection = invited(backend, "anna")
            host, port = connection.address
            strangers = []
            for _ in range(500):
                stranger = socket.socket()
                stranger.setblocking(False)
                stranger.connect_ex((host, port))
                strangers.append(stranger)
            time.sleep(0.5)
            os.kill(worker_pid(admin), signal.SIGKILL)
            late = invited(backend, "late")
            for stranger in strangers:
                stranger.close()
            run_edit(admin, scripted_edit(), job_id=new_job_id())
            with client_of(late) as client:
                run_edit(client, scripted_edit())
            assert admin.hello.boot_id == boot_id


class TestMemory:
    def test_of_jobs_that_were_submitted_and_cancelled_only_a_few_are_remembered(
        self, backend: PrivateBackend, admin: Client
    ) -> None:
        connection = invited(backend, new_job_id())
        edit = scripted_edit(ENDLESS)
        with client_of(connection) as client, RawClient(connection) as raw:
            raw.hello()
            running = client.submit(*edit)
            request = {**edit[0].to_wire(), "target": "x" * 4000, "negative": "y" * 4000}
            before = resident_mib(backend.pid)
            for _ in range(1500):
                job = new_job_id()
                assert raw.ask("submit", job=job, request=request)["type"] == "accepted"
                assert raw.ask("cancel", job=job)["type"] == "okay"
            assert resident_mib(backend.pid) - before < 10  # the texts alone are 12 MB
            assert len(client.jobs()) <= MOST_RESULTLESS + 1
            client.cancel(running)
            last_event(client, running)

    def test_blobs_that_nobody_used_for_long_go_and_those_of_a_job_stay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(uploads, "IDLE_SECONDS", -1.0)
        held = Uploads(1000, 1000, 1000)
        names = []
        for data in (b"of a job", b"of none"):
            names.append(blob_id(data))
            held.put("anna", Put(names[-1], len(data), 0, len(data), data=data))
        held.pin("anna", names[:1])
        held.sweep()
        assert held.received("anna", names[0]) is None
        assert held.received("anna", names[1]) == 0
        assert held.size == len(b"of a job")


class TestPrivacy:
    def test_status_names_no_job_of_another_client(self, backend: PrivateBackend, admin: Client) -> None:
        with client_of(invited(backend, new_job_id())) as anna, client_of(invited(backend, new_job_id())) as ben:
            job = anna.submit(*scripted_edit(ENDLESS))
            next(event for event in anna.events(job) if isinstance(event, Progress))
            assert job not in json.dumps(ben.status())
            assert job in json.dumps(anna.status())
            assert job in json.dumps(admin.status())
            anna.cancel(job)
            last_event(anna, job)

    def test_an_error_names_no_folder_of_the_server(self) -> None:
        shown = without_paths(
            "'/home/anna/models/x.safetensors' is no model; see https://host.org/a/b or C:\\Users\\a\\b."
        )
        assert shown == "'…/x.safetensors' is no model; see https://host.org/a/b or …/b."
        assert without_paths("1/2 of a horse and/or a zebra, org/model") == "1/2 of a horse and/or a zebra, org/model"
