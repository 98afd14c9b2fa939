"""What an operator looks at and gives: /healthz and /metrics, invitations with an end, systemd's questions."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from backends import (
    TCP,
    client_of,
    failure,
    invited,
    last_event,
    run_edit,
    scripted_backend,
    scripted_edit,
    wait_until,
    worker_pid,
)
from diffedit_backend.cli.program import main
from diffedit_backend.server.allow_list import HEADER, AllowList
from diffedit_backend.server.monitoring import Monitoring, metrics_address
from diffedit_backend.server.private_backend import PrivateBackend
from diffedit_backend.server.service_manager import ServiceManager
from diffedit_backend.server.state_folder import StateFolder
from diffedit_protocol.connection import Connection, key_to_base64url
from diffedit_protocol.errors import AuthError, BadInputError
from prometheus_client.parser import text_string_to_metric_families

KEY = "0" * 40


def asked(url: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBackend]:
    folder = tmp_path_factory.mktemp("metrics")
    with scripted_backend(folder, listen=["local", TCP], metrics="0") as backend:  # a port that is free
        yield backend


@pytest.fixture(scope="module")
def port(backend: PrivateBackend) -> int:
    """Of its metrics."""
    url = next(word for word in backend.ready_line.split() if word.startswith("http://"))
    return int(url.rpartition(":")[2])


class TestMonitoring:
    def test_metrics_count_what_happened_in_prometheus_text(self, backend: PrivateBackend, port: int) -> None:
        with client_of(backend.connection) as client:
            run_edit(client, scripted_edit())
            assert failure(last_event(client, client.submit(*scripted_edit("oom")))) == "OOM"

            def found() -> dict[tuple[str, str], float]:
                status, text = asked(f"http://127.0.0.1:{port}/metrics")
                assert status == 200
                return {
                    (sample.name, next(iter(sample.labels.values()), "")): sample.value
                    for family in text_string_to_metric_families(text)
                    for sample in family.samples
                }

            wait_until(
                lambda: (
                    found().get(("diffedit_jobs_finished_total", "")) == 2.0
                    and found().get(("diffedit_workers", "idle")) == 1
                ),
                what="the count of the jobs",
            )
            metrics = found()
        assert metrics["diffedit_workers", "idle"] == 1
        assert metrics["diffedit_jobs", "kept_results"] == 1  # the other job left none
        assert (
            metrics["diffedit_loop_turn_seconds_count", ""] == metrics["diffedit_loop_turn_seconds_bucket", "+Inf"] > 0
        )
        assert metrics["diffedit_loop_longest_turn_seconds", ""] > 0
        assert metrics["diffedit_memory_bytes", "process"] > 1 << 20
        assert metrics["diffedit_faults_total", ""] == 0

    def test_no_client_and_no_job_is_named(self, backend: PrivateBackend, port: int) -> None:
        with client_of(invited(backend, "a-name-of-a-person")) as client:
            done = client.submit(*scripted_edit())
            text = asked(f"http://127.0.0.1:{port}/metrics")[1] + asked(f"http://127.0.0.1:{port}/healthz")[1]
        assert "a-name-of-a-person" not in text
        assert done not in text

    def test_healthz_is_200_while_edits_can_run(self, backend: PrivateBackend, port: int) -> None:
        wait_until(lambda: asked(f"http://127.0.0.1:{port}/healthz")[0] == 200, what="health")
        wait_until(  # the job of another test may still run
            lambda: json.loads(asked(f"http://127.0.0.1:{port}/healthz")[1])["workers"] == {"idle": 1}, what="the rest"
        )

    def test_any_other_path_is_not_found(self, backend: PrivateBackend, port: int) -> None:
        assert asked(f"http://127.0.0.1:{port}/../server.key")[0] == 404

    def test_it_is_off_and_on_this_machine_alone_unless_said(self) -> None:
        assert metrics_address("9400").host == "127.0.0.1"
        assert metrics_address("0.0.0.0:9400").host == "0.0.0.0"
        with pytest.raises(BadInputError, match="takes PORT or HOST:PORT, not 'here'"):
            metrics_address("here")

    def test_healthz_says_why_no_edit_can_run(self) -> None:
        monitoring = Monitoring(metrics_address("0"))
        try:
            url = f"http://127.0.0.1:{monitoring.port}/healthz"
            assert (asked(url)[0], json.loads(asked(url)[1])["reasons"]) == (503, ["the server is starting"])
            report = {"workers": [{"state": "unusable"}], "memory": {"disk_full": True}, "stopping": False}
            monitoring.publish(report)
            assert json.loads(asked(url)[1])["reasons"] == ["no worker can load its model", "the disk is full"]
        finally:
            monitoring.close()

    def test_a_port_that_is_taken_is_named(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(BadInputError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
                Monitoring(metrics_address(str(port)))


class TestInvitations:
    def test_one_with_an_end_lets_in_until_then(self, tmp_path: Path) -> None:
        allowed = AllowList(tmp_path / "clients")
        connection = allowed.invite("anna", "tcp://gpu1:1", KEY, days=7)
        assert allowed.name_of(connection.client_public) == "anna"
        over = (datetime.now(timezone.utc) - timedelta(seconds=1)).isoformat(timespec="seconds")
        key = key_to_base64url(connection.client_public)
        (tmp_path / "clients").write_text(f"{HEADER}anna {key} 2026-01-01T00:00:00+00:00 {over}\n")
        allowed.refresh()
        assert allowed.name_of(connection.client_public) is None
        assert allowed.lists(connection.client_public)

    def test_whose_time_is_over_loses_its_link_and_keeps_its_results(self, tmp_path: Path) -> None:
        with scripted_backend(tmp_path, listen=["local", TCP]) as backend, client_of(backend.connection) as admin:
            file = StateFolder(backend.state).allow_list
            connection = invited(backend, "anna")
            with client_of(connection) as client:
                run_edit(client, scripted_edit())
                lines = file.read_text()
                file.write_text(lines.rstrip("\n") + " 2026-01-01T00:00:00+00:00\n")
                wait_until(lambda: len(admin.status()["clients"]) == 1, what="the cut of the link")
            with pytest.raises(AuthError), client_of(connection):
                pass
            file.write_text(lines)
            with client_of(connection) as client:
                assert [info.state for info in client.jobs()] == ["done"]

    def test_a_client_is_given_a_new_key_for_another_address(self, tmp_path: Path) -> None:
        allowed = AllowList(tmp_path / "clients")
        old = allowed.invite("anna", "tcp://gpu1:1", KEY)
        with pytest.raises(BadInputError, match="--again"):
            allowed.invite("anna", "tcp://gpu2:1", KEY)
        new = allowed.invite("anna", "tcp://gpu2:1", KEY, again=True)
        assert allowed.name_of(old.client_public) is None
        assert allowed.name_of(new.client_public) == "anna"
        assert len(allowed.clients) == 1

    @pytest.mark.parametrize(
        ("host", "match"),
        [
            ("gpu1:0", "port of tcp://gpu1:0 must be 1 to 65535"),
            ("gpu1:99999", "must be 1 to 65535"),
            ("gpu box:7860", "not 'tcp://gpu box:7860'"),
            ("gpu1", "HOST:PORT"),
            ("::1:7860", "in brackets"),
        ],
    )
    def test_an_address_that_cannot_be_is_refused(
        self, host: str, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("DIFFEDIT_HOME", str(tmp_path))
        assert main(["invite", "anna", "--host", host]) == 1
        assert match in capsys.readouterr().err
        assert AllowList(tmp_path / "server" / "clients").clients == ()

    def test_a_folder_that_no_backend_has_used_is_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["invite", "anna", "--host", "gpu1:7860", "--state", str(tmp_path / "wrong")]) == 1
        assert "No backend has run with the folder" in capsys.readouterr().err
        assert not (tmp_path / "wrong").exists()


def test_status_fails_while_no_worker_can_load_its_model_and_names_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = tmp_path / "away"
    with scripted_backend(tmp_path / "home", script={"away": str(away)}, timeouts={"back_off": 0.05}) as backend:
        monkeypatch.setenv("DIFFEDIT_HOME", str(backend.folder))
        assert main(["status"]) == 0
        with client_of(backend.connection) as client:
            away.write_text("")
            os.kill(worker_pid(client), signal.SIGKILL)
            wait_until(lambda: client.status()["workers"][0]["state"] == "unusable", what="the end of the worker")
        capsys.readouterr()
        assert main(["status"]) == 1
        found = capsys.readouterr()
        assert "unusable" in found.out
        assert "No edit can run there: its model cannot be loaded." in found.err


class TestServiceManager:
    def test_systemd_is_told_of_start_life_and_end(self, tmp_path: Path) -> None:
        path = str(tmp_path / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(path)
            systemd.settimeout(60)
            manager = ServiceManager({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"})
            manager.ready()
            manager.alive()
            manager.stopping()
            assert [systemd.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]

    def test_a_server_that_systemd_started_reports_to_it(self, tmp_path: Path) -> None:
        path = str(tmp_path / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(path)
            systemd.settimeout(60)
            os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"] = path, "900000"
            try:
                backend = scripted_backend(tmp_path)
            finally:
                del os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"]
            with backend:
                assert {systemd.recv(100) for _ in range(2)} >= {b"READY=1"}
                while systemd.recv(100) != b"WATCHDOG=1":
                    pass
            while systemd.recv(100) != b"STOPPING=1":
                pass

    def test_without_systemd_nothing_happens(self) -> None:
        manager = ServiceManager({})
        manager.ready()
        manager.alive()
        manager.stopping()


def test_a_name_with_several_addresses_is_tried_at_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend on 0.0.0.0 is not at the IPv6 address that a dual-stack name gives first."""
    real = socket.getaddrinfo

    def dual_stack(host: str, port: int, *args: object, **kwargs: object) -> list[object]:
        if host != "gpu-box.test":
            return real(host, port, *args, **kwargs)  # type: ignore[arg-type]
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", dual_stack)
    with scripted_backend(tmp_path, listen=["tcp://127.0.0.1:0"]) as backend:
        here = invited(backend, "anna")
        named = Connection(
            here.endpoint.replace("127.0.0.1", "gpu-box.test"),
            here.server_key,
            here.client_secret,
            here.client_public,
            "anna",
        )
        with client_of(named) as client:
            client.ping()
