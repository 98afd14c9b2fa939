"""Who may enter: answers ZeroMQ's authentication requests (ZAP, RFC 27) from the allow list.

The handler lives in the server's own loop: a REP socket at an address that libzmq asks for every CURVE handshake. The
client's key becomes the User-Id of every frame of the link, which is the identity that blobs and jobs belong to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import zmq
from zmq.utils import z85

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"diffedit"
VERSION = b"1.0"
log = logging.getLogger("diffedit.authenticator")


class Authenticator:
    """`name_of` gives the name that a public key (Z85) was invited under, None for a key that may not enter."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], name_of: Callable[[str], str | None]) -> None:
        self._name_of = name_of
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(ZAP_ENDPOINT)
        self.admitted = 0
        self.refused = 0

    def answer(self) -> None:
        """Answer every request that waits."""
        while self.socket.poll(0):
            request = self.socket.recv_multipart()
            number = request[1] if len(request) > 1 else b""
            key = self._key(request)
            name = self._name(key)
            address = request[3].decode(errors="replace") if len(request) > 3 else ""
            if key is not None and name is not None:
                self.admitted += 1
                log.info("admitted", extra={"fields": {"client": name, "address": address}})
                self.socket.send_multipart([VERSION, number, b"200", b"OK", key.encode(), b""])
            else:
                self.refused += 1
                log.warning("refused", extra={"fields": {"key": (key or "")[:8], "address": address}})
                self.socket.send_multipart([VERSION, number, b"400", b"This key was not invited.", b"", b""])

    def _name(self, key: str | None) -> str | None:
        """Who the key belongs to; nobody enters while that cannot be found out."""
        try:
            return None if key is None else self._name_of(key)
        except Exception:
            log.exception("nobody enters")
            return None

    def status(self) -> dict[str, int]:
        return {"admitted": self.admitted, "refused": self.refused}

    def close(self) -> None:
        self.socket.close()

    @staticmethod
    def _key(request: list[bytes]) -> str | None:
        """The client's public key in Z85; None unless this is a CURVE handshake of our own socket."""
        if len(request) != 7:
            return None
        version, _number, domain, _address, _identity, mechanism, key = request
        if version != VERSION or domain != ZAP_DOMAIN or mechanism != b"CURVE" or len(key) != 32:
            return None
        return str(z85.encode(key), "ascii")
