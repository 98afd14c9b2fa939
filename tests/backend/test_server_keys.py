"""Keys: who is let in, what is written down, and what is refused to be used."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import zmq
from diffedit_backend.server.addresses import Address
from diffedit_backend.server.allow_list import AllowList
from diffedit_backend.server.state_folder import Lock, StateFolder
from diffedit_protocol.connection import IPC_PATH_LIMIT, Connection, KeyPair
from diffedit_protocol.errors import AuthError, BadInputError

ENDPOINT = "tcp://gpu1:5599"


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "home" / "server")


@pytest.fixture
def allowed(folder: StateFolder) -> AllowList:
    return AllowList(folder.allow_list)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_invitation_is_a_line_from_which_the_client_gets_the_key_that_was_let_in(
    folder: StateFolder, allowed: AllowList
) -> None:
    invited = allowed.invite("anna", ENDPOINT, folder.server_keys().public)
    pasted = Connection.from_line(invited.to_line())
    assert allowed.name_of(pasted.client_public) == "anna"
    assert pasted.server_key == folder.server_keys().public


def test_the_server_writes_no_secret_of_a_client_down(folder: StateFolder, allowed: AllowList) -> None:
    invited = allowed.invite("anna", ENDPOINT, folder.server_keys().public)
    secrets = (invited.client_secret, invited.to_line().split("/")[4].partition("?")[0])
    for file in folder.root.rglob("*"):
        assert not any(secret in file.read_text() for secret in secrets), file


def test_keys_and_allow_list_are_private_and_the_keys_stay_the_same(folder: StateFolder, allowed: AllowList) -> None:
    keys, local = folder.server_keys(), folder.local_keys()
    allowed.invite("anna", ENDPOINT, keys.public)
    assert {file.name: oct(mode(file)) for file in folder.root.iterdir()} == dict.fromkeys(
        ("server.key", "local.key", "clients", "clients.lock"), "0o600"
    )
    assert mode(folder.root) == 0o700
    assert (folder.server_keys(), folder.local_keys()) == (keys, local)
    assert keys.public != local.public


@pytest.mark.parametrize("name", ["server.key", "local.key", "clients"])
def test_a_key_file_that_others_may_read_is_refused_with_what_to_do(
    folder: StateFolder, allowed: AllowList, name: str
) -> None:
    allowed.invite("anna", ENDPOINT, folder.server_keys().public)
    folder.local_keys()
    (folder.root / name).chmod(0o644)
    with pytest.raises(AuthError, match=r"mode 0644.*chmod 600"):
        _ = (folder.server_keys(), folder.local_keys(), AllowList(folder.allow_list))


def test_a_folder_that_others_may_enter_is_refused(folder: StateFolder) -> None:
    folder.root.chmod(0o755)
    with pytest.raises(AuthError, match="chmod 700"):
        StateFolder(folder.root)


def test_a_state_folder_may_lie_in_a_folder_that_others_may_enter_and_is_private_itself(tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir(mode=0o755)
    root = StateFolder(tmp_path / "srv" / "diffedit").root
    assert root.stat().st_mode & 0o777 == 0o700


def test_revoking_deletes_the_line_and_nothing_else(folder: StateFolder, allowed: AllowList) -> None:
    anna = allowed.invite("anna", ENDPOINT, folder.server_keys().public)
    bob = allowed.invite("bob", ENDPOINT, folder.server_keys().public)
    allowed.revoke("anna")
    assert allowed.name_of(anna.client_public) is None
    assert allowed.name_of(bob.client_public) == "bob"
    assert "anna" not in folder.allow_list.read_text()


def test_revoking_nobody_among_many_names_a_few_of_those_that_are_invited(allowed: AllowList) -> None:
    for number in range(40):
        allowed.invite(f"artist-{number:02}", ENDPOINT, "0" * 40)
    with pytest.raises(BadInputError, match=r"no client 'nobody' to revoke\. Invited: artist-00, .* and 28 more\.$"):
        allowed.revoke("nobody")


def test_a_line_deleted_in_an_editor_is_a_revocation(folder: StateFolder, allowed: AllowList) -> None:
    anna = allowed.invite("anna", ENDPOINT, folder.server_keys().public)
    lines = folder.allow_list.read_text().splitlines(keepends=True)
    folder.allow_list.write_text("".join(line for line in lines if not line.startswith("anna")))
    assert allowed.refresh()
    assert allowed.name_of(anna.client_public) is None


def test_an_allow_list_that_cannot_be_read_lets_nobody_in(folder: StateFolder, allowed: AllowList) -> None:
    anna = allowed.invite("anna", ENDPOINT, folder.server_keys().public)
    with folder.allow_list.open("a") as file:
        file.write("bob\n")
    with pytest.raises(BadInputError, match="Line 3 of"):
        allowed.refresh()
    assert allowed.name_of(anna.client_public) is None


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b", "x" * 65, "a\nb"])
def test_a_name_that_could_be_anything_else_is_refused(allowed: AllowList, name: str) -> None:
    with pytest.raises(BadInputError, match="A client's name is"):
        allowed.invite(name, ENDPOINT, KeyPair.generate().public)


def test_the_name_of_the_machines_own_programs_is_given_to_no_one(allowed: AllowList) -> None:
    with pytest.raises(BadInputError, match="own programs"):
        allowed.invite("local", "tcp://127.0.0.1:7860", KeyPair.generate().public)
    assert not allowed.clients


def test_a_name_is_given_once(allowed: AllowList) -> None:
    allowed.invite("anna", ENDPOINT, KeyPair.generate().public)
    with pytest.raises(BadInputError, match="already"):
        allowed.invite("anna", ENDPOINT, KeyPair.generate().public)
    with pytest.raises(BadInputError, match=r"no client 'bob'.*Invited: anna"):
        allowed.revoke("bob")


@pytest.mark.parametrize("text", ["", "gpu1:5599", "tcp://gpu1", "tcp://:5599", "tcp://gpu1:99999", "udp://gpu1:1"])
def test_an_address_that_is_none_is_told_with_its_text(text: str) -> None:
    with pytest.raises(BadInputError, match=r"tcp://HOST:PORT") as caught:
        Address.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("tcp://127.0.0.1:0", True),
        ("tcp://[::1]:5599", True),
        ("tcp://localhost:5599", True),
        ("tcp://0.0.0.0:5599", False),
        ("tcp://*:5599", False),
        ("tcp://192.168.0.7:5599", False),
        ("tcp://[::]:5599", False),
    ],
)
def test_only_an_address_that_must_be_this_machine_counts_as_loopback(text: str, loopback: bool) -> None:
    assert Address.parse(text).loopback is loopback


@pytest.mark.parametrize("text", ["tcp://0.0.0.0:5599", "tcp://127.0.0.1:5599"])
def test_without_encryption_no_tcp_address_is_opened_and_no_option_changes_that(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zmq, "has", lambda feature: feature != "curve")
    with pytest.raises(BadInputError, match="cannot encrypt"):
        Address.parse(text).check()


def test_a_folder_is_used_by_one_server_at_a_time(folder: StateFolder) -> None:
    script = (
        "import sys; from pathlib import Path; from diffedit_backend.server.state_folder import Lock\n"
        "with Lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(folder.lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(BadInputError, match=rf"process {holder.pid}\)"), Lock(folder.lock):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with Lock(folder.lock):
        assert folder.lock.with_name("server.pid").read_text() == str(os.getpid())


def test_the_local_socket_has_a_short_path_in_a_private_folder(tmp_path: Path) -> None:
    near = StateFolder(tmp_path / "server").socket_path()
    far = StateFolder(tmp_path / ("x" * 120)).socket_path()
    wide = StateFolder(tmp_path / ("ä" * 40)).socket_path()  # bytes count, not characters
    for path in (near, far, wide):
        assert len(os.fsencode(path)) <= IPC_PATH_LIMIT
        assert mode(path.parent) == 0o700
    for path in (far, wide):
        if path.parent.name != "run":
            path.parent.rmdir()
