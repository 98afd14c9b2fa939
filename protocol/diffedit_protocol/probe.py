"""Looks at what answers behind an address when a handshake failed, so that the artist is told the true reason.

libzmq reports a failed handshake as a closed pipe for a wrong server key, and, by chance of timing, also for a peer
without encryption. The first 64 bytes that a ZeroMQ peer sends name its security mechanism in clear (ZMTP 3.0,
https://rfc.zeromq.org/spec/23/): signature 10, version 2, mechanism 20, as-server 1, filler 31.
"""

from __future__ import annotations

import socket

GREETING_BYTES = 64
SIGNATURE = b"\xff" + b"\x00" * 7 + b"\x01" + b"\x7f"
VERSION = b"\x03\x00"
MECHANISM = slice(12, 32)


def mechanism_behind(host: str, port: int, timeout: float) -> str | None:
    """The security mechanism ("CURVE", "NULL", ...) of the peer; "" for one that is no ZeroMQ; None for no answer.

    Blocks for at most about `timeout` seconds.
    """
    received = b""
    try:
        with socket.create_connection((host, port), timeout) as link:
            link.sendall(SIGNATURE + VERSION)  # no mechanism yet: the peer would hang up on one that is not its own
            while len(received) < GREETING_BYTES and (more := link.recv(GREETING_BYTES - len(received))):
                received += more
    except OSError:
        if not received:
            return None
    if not (received[:1] == b"\xff" and received[9:10] == b"\x7f"):
        return "" if received else None
    return received[MECHANISM].rstrip(b"\x00").decode("ascii", "replace")
