"""The addresses that a server listens on, and which of them are allowed."""

from __future__ import annotations

import re
from dataclasses import dataclass

import zmq
from diffedit_protocol.connection import is_loopback
from diffedit_protocol.errors import BadInputError

LOCAL_SOCKET = "local"  # a Unix socket in a private folder, or a loopback port where the platform has none
_TCP = re.compile(r"tcp://(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\[\]/:\s]+):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class Address:
    """A TCP address to listen on; port 0 takes a free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises BadInputError with the text when it is not tcp://HOST:PORT."""
        found = _TCP.fullmatch(text)
        if found is None or int(found["port"]) > 65_535:
            raise BadInputError(
                f"--listen takes tcp://HOST:PORT with a port of 0 to 65535 (0: any free one), not {text!r:.200}."
            )
        return cls(found["host"], int(found["port"]))

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def endpoint(self) -> str:
        """As ZeroMQ binds it: a wildcard host is spelled `*` for IPv4."""
        return f"tcp://{'*' if self.host == '*' else self.host}:{self.port}"

    def check(self) -> None:
        """Raises BadInputError when this machine's ZeroMQ cannot encrypt: such a server takes no TCP address at all.

        There is no switch to listen without encryption and allow list, least of all beyond this machine.
        """
        if not zmq.has("curve"):
            where = "this machine" if self.loopback else f"other machines ({self.host})"
            raise BadInputError(
                f"This ZeroMQ cannot encrypt (no CURVE), so the backend does not listen to {where}. "
                "Install pyzmq from PyPI: its wheels can."
            )


def has_local_socket() -> bool:
    """Whether this platform's ZeroMQ has Unix sockets."""
    return bool(zmq.has("ipc"))
