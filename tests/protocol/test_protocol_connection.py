"""Connections: the line to paste, the private file, the keys, and what is refused in which words."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from diffedit_protocol import private_files
from diffedit_protocol.connection import (
    Connection,
    KeyPair,
    is_loopback,
    key_from_base64url,
    key_to_base64url,
    local_file,
)
from diffedit_protocol.errors import AuthError, BadInputError, LinkError
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

SERVER = KeyPair.generate()
posix = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")


def invitation(endpoint: str = "tcp://gpu1:5599", name: str = "anna") -> Connection:
    return Connection.invite(endpoint, SERVER.public, name)


@given(st.text(max_size=40), st.sampled_from(["gpu1", "10.0.0.7", "[2001:db8::1]", "box.studio.example"]))
def test_a_connection_comes_back_from_its_line(name: str, host: str) -> None:
    connection = invitation(f"tcp://{host}:5599", name.encode("utf-8", "ignore").decode())
    assert Connection.from_line(connection.to_line()) == connection


@given(st.binary(min_size=32, max_size=32))
def test_a_key_comes_back_from_base64url_of_43_harmless_characters(raw: bytes) -> None:
    key = str(z85.encode(raw), "ascii")
    text = key_to_base64url(key)
    assert len(text) == 43
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert key_from_base64url(text) == key


def test_a_line_that_a_mail_program_wrapped_is_taken() -> None:
    line = invitation().to_line()
    assert Connection.from_line(f"  {line[:40]}\r\n {line[40:]}\n") == Connection.from_line(line)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda line: line.replace("diffedit://", "http://"), "begins with diffedit://"),
        (lambda line: "", "begins with diffedit://"),
        (lambda line: line.replace(":5599", ""), "not whole"),
        (lambda line: line.replace(":5599", ":99999"), "port"),
        (lambda line: line.replace("gpu1", ""), "not whole"),
        (lambda line: line[:60], "not whole"),
        (lambda line: line.partition("?")[0][:-2], "43 characters"),
        (lambda line: line.replace("?", "ü?"), "43 characters"),
        (lambda line: line.replace("?", "/more?"), "not whole"),
    ],
)
def test_a_broken_line_is_refused_without_repeating_its_secret(change, words: str) -> None:  # type: ignore[no-untyped-def]
    connection = invitation()
    secret = key_to_base64url(connection.client_secret)
    with pytest.raises(BadInputError) as caught:
        Connection.from_line(change(connection.to_line()))
    assert words in caught.value.sentence
    assert secret[:20] not in str(caught.value) + caught.value.detail


def test_a_secret_never_shows_in_a_representation() -> None:
    connection = invitation()
    assert connection.client_secret not in repr(connection)
    assert SERVER.secret not in repr(SERVER)


@pytest.mark.parametrize(
    "endpoint", ["gpu1:5599", "udp://gpu1:5599", "tcp://gpu1", "tcp://:5599", "tcp://a/b:1", "ipc://"]
)
def test_an_address_of_another_kind_is_refused(endpoint: str) -> None:
    with pytest.raises(BadInputError):
        invitation(endpoint)


def test_tcp_without_the_servers_key_is_refused() -> None:
    with pytest.raises(AuthError, match="without the backend's key"):
        Connection("tcp://127.0.0.1:5599", "", "", "")


def test_a_socket_path_that_the_system_would_cut_is_refused() -> None:
    Connection("ipc://" + "x" * 107, "", "", "")
    for path in ("x" * 108, "x" * 100 + "ä" * 4):  # the system counts bytes
        with pytest.raises(BadInputError, match="at most 107"):
            Connection(f"ipc://{path}", "", "", "")


def test_ipc_has_no_line_to_paste() -> None:
    with pytest.raises(BadInputError, match="Only a tcp address"):
        Connection("ipc:///tmp/x", "", "", "").to_line()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("*", False),
        ("192.168.1.2", False),
        ("localhost.example", False),
        ("gpu1", False),
    ],
)
def test_only_what_cannot_be_another_machine_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_connection_names_its_host_for_people() -> None:
    assert invitation().host == "gpu1"
    assert invitation("tcp://127.0.0.1:1").host == "127.0.0.1"  # the near end of a tunnel, maybe
    assert replace(invitation("tcp://127.0.0.1:1"), name="local").host == "this machine"
    assert invitation("tcp://[2001:db8::1]:7").address == ("2001:db8::1", 7)
    ipc = Connection("ipc:///tmp/x", "", "", "")
    assert ipc.local
    assert ipc.host == "this machine"
    assert not ipc.encrypted


def test_a_connection_comes_back_from_its_file(tmp_path: Path) -> None:
    for connection in (invitation(), Connection("ipc:///tmp/x", "", "", "")):
        connection.save(tmp_path / "deep" / "c.json", pid=17, version="0.1.0")
        assert Connection.from_file(tmp_path / "deep" / "c.json") == connection
    assert json.loads((tmp_path / "deep" / "c.json").read_text())["pid"] == 17
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["c.json"]


@posix
def test_a_private_file_is_0600_even_under_a_generous_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        invitation().save(tmp_path / "c.json")
        private_files.private_folder(tmp_path / "folder")
    finally:
        os.umask(before)
    assert (tmp_path / "c.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o700


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_file_that_others_can_open_is_refused_with_the_way_out(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "c.json"
    invitation().save(path)
    path.chmod(mode)
    with pytest.raises(AuthError) as caught:
        Connection.from_file(path)
    assert f"(mode {mode:04o})" in caught.value.sentence
    assert "chmod 600" in caught.value.sentence


@posix
def test_a_folder_that_others_can_enter_is_refused_for_ipc(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with pytest.raises(AuthError, match="chmod 700"):
        Connection(f"ipc://{tmp_path}/socket", "", "", "").check_folder()
    tmp_path.chmod(0o700)
    Connection(f"ipc://{tmp_path}/socket", "", "", "").check_folder()
    with pytest.raises(AuthError):
        private_files.private_folder(Path("/"))


@posix
def test_a_missing_socket_folder_means_that_no_backend_runs(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="No backend is running"):
        Connection(f"ipc://{tmp_path}/gone/socket", "", "", "").check_folder()


@posix
def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.json"
    invitation().save(path)
    monkeypatch.setattr(os, "getuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(AuthError, match="another user"):
        Connection.from_file(path)


def test_where_there_are_no_file_modes_none_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.json"
    invitation().save(path)
    path.chmod(0o666)
    monkeypatch.setattr(private_files, "POSIX", False)
    assert Connection.from_file(path).name == "anna"


def test_a_missing_file_means_that_no_backend_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFEDIT_HOME", str(tmp_path))
    with pytest.raises(LinkError, match="No backend is running"):
        Connection.local_backend()
    invitation("tcp://127.0.0.1:9").save(local_file())
    assert Connection.local_backend().endpoint == "tcp://127.0.0.1:9"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"endpoint": 3, "server_key": "", "client_secret": ""}',
        '{"endpoint": "tcp://a:1", "server_key": "x", "client_secret": "short"}',
        '{"endpoint": "tcp://a:1", "server_key": "x", "client_secret": 7}',
        "\ud83d".encode("utf-16", "surrogatepass").decode("latin-1"),
    ],
)
def test_a_file_that_holds_no_connection_is_refused(tmp_path: Path, text: str) -> None:
    private_files.write_private(tmp_path / "c.json", text)
    with pytest.raises(BadInputError, match="holds no connection"):
        Connection.from_file(tmp_path / "c.json")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    private_files.write_private(path, "old")
    with pytest.raises(UnicodeEncodeError):
        private_files.write_private(path, "half a \ud83d")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.json"]


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "home/.local/share/diffedit"),
        ("linux", {"XDG_DATA_HOME": "xdg"}, "xdg/diffedit"),
        ("darwin", {}, "home/Library/Application Support/diffedit"),
        ("win32", {"APPDATA": "roaming"}, "roaming/diffedit"),
        ("win32", {}, "home/AppData/Roaming/diffedit"),
        ("linux", {"DIFFEDIT_HOME": "mine"}, "mine"),
    ],
)
def test_the_data_folder_is_where_the_platform_has_it(
    platform: str, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DIFFEDIT_HOME", "XDG_DATA_HOME", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("home"))
    assert private_files.data_folder() == Path(expected)
