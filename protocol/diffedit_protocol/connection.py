"""Where a backend is and how both sides prove who they are: CURVE keys, one line to paste, one private file.

    diffedit://gpu1:5599/SERVER-PUBLIC-KEY/CLIENT-SECRET-KEY?name=anna

Keys are 32 bytes: in the line base64url without padding (43 characters: nothing that a shell or a URL would change), in
memory and in files Z85 (40 characters), as ZeroMQ takes them. The client's public key is computed from its secret one.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import zmq
from zmq.error import ZMQError
from zmq.utils import z85

from .errors import AuthError, BadInputError, LinkError
from .private_files import check_private, data_folder, read_private, write_private

SCHEME = "diffedit"
KEY_BYTES = 32
# Bytes: sun_path of a Unix socket, less its final zero.
IPC_PATH_LIMIT = 103 if sys.platform == "darwin" else 107
LOCAL_FILE = "local.json"
OWN_NAME = "local"  # of a user's own programs on the machine of the backend
NO_BACKEND = "No backend is running. Start it here, or paste a connection line in Settings."


@dataclass(frozen=True)
class KeyPair:
    """A CURVE key pair in Z85."""

    public: str
    secret: str = field(repr=False)

    @classmethod
    def generate(cls) -> KeyPair:
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())

    @classmethod
    def from_secret(cls, secret: str) -> KeyPair:
        """The pair of a secret key in Z85."""
        return cls(zmq.curve_public(secret.encode()).decode(), secret)


@dataclass(frozen=True)
class Connection:
    """One backend as one client reaches it. Keys are Z85; they are empty only for `ipc://` without encryption.

    `endpoint`: tcp://HOST:PORT, or ipc://PATH in a folder that only its owner may enter. `name`: what the server calls
    this client.
    """

    endpoint: str
    server_key: str
    client_secret: str = field(repr=False)
    client_public: str
    name: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"tcp://(\[[0-9A-Fa-f:.%]+\]|[^\[\]\s/?#@:]+):\d{1,5}|ipc://.+", self.endpoint):
            raise BadInputError(
                f"A backend's address is tcp://HOST:PORT (an IPv6 address in brackets) or ipc://PATH, "
                f"not {self.endpoint!r:.200}."
            )
        if self.endpoint.startswith("tcp://") and not 1 <= int(self.endpoint.rpartition(":")[2]) <= 65_535:
            raise BadInputError(f"The port of {self.endpoint} must be 1 to 65535: the one that the backend listens on.")
        if self.endpoint.startswith("tcp://") and not self.server_key:
            raise AuthError(f"The address {self.endpoint} comes without the backend's key. Ask for an invitation.")
        if self.endpoint.startswith("ipc://") and len(os.fsencode(self.endpoint)) - len("ipc://") > IPC_PATH_LIMIT:
            raise BadInputError(
                f"The path of {self.endpoint} is too long for a socket: at most {IPC_PATH_LIMIT} bytes."
            )

    @property
    def encrypted(self) -> bool:
        return bool(self.server_key)

    @property
    def host(self) -> str:
        """The host's name for sentences; "this machine" for this user's own backend."""
        return "this machine" if self.own else _split_host(self.endpoint)[0]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of a tcp endpoint."""
        host, port = _split_host(self.endpoint)
        return host.strip("[]"), int(port)

    @property
    def local(self) -> bool:
        """Whether the backend runs on this machine by its address: ipc, or a loopback address."""
        return self.endpoint.startswith("ipc://") or is_loopback(_split_host(self.endpoint)[0])

    @property
    def own(self) -> bool:
        """Whether it is this user's own backend on this machine. A loopback address that one was invited to is not: it
        may be the near end of a tunnel, and then nothing can be started or stopped here.
        """
        return self.local and self.name in ("", OWN_NAME)

    @classmethod
    def invite(cls, endpoint: str, server_key: str, name: str) -> Connection:
        """A connection with a fresh client key, as the server's side makes it for `diffedit invite`."""
        keys = KeyPair.generate()
        return cls(endpoint, server_key, keys.secret, keys.public, name)

    def to_line(self) -> str:
        """The line to paste, the client's secret in it. Raises BadInputError for ipc: no other machine reaches it."""
        if not self.endpoint.startswith("tcp://"):
            raise BadInputError(f"Only a tcp address can be invited to, not {self.endpoint}.")
        address = self.endpoint.removeprefix("tcp://")
        keys = f"{key_to_base64url(self.server_key)}/{key_to_base64url(self.client_secret)}"
        return f"{SCHEME}://{address}/{keys}?name={quote(self.name)}"

    @classmethod
    def from_line(cls, line: str) -> Connection:
        """The connection of a pasted line. Raises BadInputError that tells what is wrong and repeats no secret."""
        parts = urlsplit("".join(line.split()))  # a line that a mail program wrapped is whole again
        if parts.scheme != SCHEME:
            raise BadInputError("A connection line begins with diffedit:// (see `diffedit invite` on the backend).")
        keys = parts.path.strip("/").split("/")
        try:
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise BadInputError(f"The connection line's port is wrong: {error}.") from error
        if not host or port is None or len(keys) != 2:
            raise BadInputError("The connection line is not whole: it needs host, port and two keys. Copy it again.")
        keys_z85 = [key_from_base64url(key) for key in keys]
        pair = KeyPair.from_secret(keys_z85[1])
        bracketed = f"[{host}]" if ":" in host else host
        name = parse_qs(parts.query).get("name", [""])[0]
        return cls(f"tcp://{bracketed}:{port}", keys_z85[0], pair.secret, pair.public, name)

    @classmethod
    def from_file(cls, path: Path) -> Connection:
        """The connection in a private file that `save` or a running backend wrote.

        Raises LinkError when there is no such file (no backend runs), AuthError when others may read it, BadInputError
        when it holds something else.
        """
        try:
            text = read_private(path)
        except FileNotFoundError as error:
            raise LinkError(NO_BACKEND, detail=f"There is no file '{path}'.") from error
        try:
            values = json.loads(text)
            pair = KeyPair.from_secret(values["client_secret"]) if values["client_secret"] else KeyPair("", "")
            return cls(values["endpoint"], values["server_key"], pair.secret, pair.public, values.get("name", ""))
        except (ValueError, KeyError, TypeError, AttributeError, ZMQError) as error:
            raise BadInputError(f"'{path}' holds no connection. Delete it and start the backend again.") from error

    @classmethod
    def local_backend(cls) -> Connection:
        """The backend that runs on this machine under this user. Raises as `from_file` does."""
        return cls.from_file(local_file())

    def save(self, path: Path, **more: str | int | float) -> None:
        """Writes the connection as a private file; `more` (a pid, a version) stands beside it for people and tools."""
        values = {
            "endpoint": self.endpoint,
            "server_key": self.server_key,
            "client_secret": self.client_secret,
            "name": self.name,
            **more,
        }
        write_private(path, json.dumps(values, indent=2) + "\n")

    def check_folder(self) -> None:
        """For ipc: raises AuthError when others may enter the socket's folder. The folder is all that guards it."""
        if self.endpoint.startswith("ipc://"):
            folder = Path(self.endpoint.removeprefix("ipc://")).parent
            try:
                check_private(folder, 0o700)
            except FileNotFoundError as error:
                raise LinkError(NO_BACKEND, detail=f"There is no folder '{folder}'.") from error


def local_file() -> Path:
    """The private file in which the local backend tells where it is, while it runs."""
    return data_folder() / LOCAL_FILE


def is_loopback(host: str) -> bool:
    """Whether `host` (name or literal address) can only be this machine. Any other name counts as remote."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def key_to_base64url(key: str) -> str:
    """A key in Z85 as 43 characters of base64url."""
    return base64.urlsafe_b64encode(z85.decode(key.encode())).decode().rstrip("=")


def key_from_base64url(text: str) -> str:
    """A key in base64url as Z85. Raises BadInputError unless it holds 32 bytes; the text is not repeated."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) if text.isascii() else b""
    except binascii.Error:
        raw = b""
    if len(raw) != KEY_BYTES:
        raise BadInputError("The connection line is not whole: a key has 43 characters. Copy it again.")
    return str(z85.encode(raw), "ascii")


def _split_host(endpoint: str) -> tuple[str, str]:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return host, port
