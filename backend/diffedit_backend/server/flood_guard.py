"""Cuts a link that sends more than it completes.

libzmq hands over whole messages only and gathers their frames without a limit, so one endless message grows the process
by hundreds of MiB in a second before the application sees a byte of it. The kernel counts what a TCP connection
received (bytes_received of TCP_INFO, as in RFC 4898; Linux); what arrived beyond what came out as messages is a link's
debt, and a link with too much of it is shut down. Links of the local socket are
not counted: they belong to this user.
Where the system has no such counter, the process's memory limit is what remains.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
from dataclasses import dataclass

log = logging.getLogger("diffedit.flood_guard")
DEBT_LIMIT = 48 << 20  # bytes: a window of chunks in libzmq's queues and the kernel's buffers, several times over
OVERHEAD = 256  # bytes that a frame costs on the wire beside its content, generously: ZMTP, CURVE
_INFO_BYTES, _BYTES_RECEIVED = 256, 128  # struct tcp_info: length asked for, offset of tcpi_bytes_received (Linux 4.1)


def bytes_received(descriptor: int) -> int | None:
    """What the kernel took from the other side of a TCP connection so far; None when it cannot be told."""
    if not hasattr(socket, "TCP_INFO"):
        return None
    borrowed = None
    try:
        borrowed = socket.socket(fileno=descriptor)
        info = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except OSError:
        return None  # closed meanwhile
    finally:
        if borrowed is not None:
            borrowed.detach()
    return struct.unpack_from("=Q", info, _BYTES_RECEIVED)[0] if len(info) >= _BYTES_RECEIVED + 8 else None


def cut(descriptor: int) -> None:
    """Shut a TCP connection down; its owner, libzmq, then closes it as one that the other side closed.

    Should the descriptor belong to a younger connection by now, that one is cut and connects again by itself.
    """
    with contextlib.suppress(OSError):
        borrowed = socket.socket(fileno=descriptor)
        try:
            borrowed.shutdown(socket.SHUT_RDWR)
        finally:
            borrowed.detach()


@dataclass
class _Account:
    received: int
    delivered: int = 0
    debt: int = 0


class FloodGuard:
    """Accounts of the open TCP connections by their descriptor."""

    def __init__(self, limit: int = DEBT_LIMIT) -> None:
        self._limit = limit
        self._accounts: dict[int, _Account] = {}
        self.cuts = 0

    def __len__(self) -> int:
        return len(self._accounts)

    def opened(self, descriptor: int) -> None:
        received = bytes_received(descriptor)
        if received is not None:
            self._accounts[descriptor] = _Account(received)

    def closed(self, descriptor: int) -> None:
        self._accounts.pop(descriptor, None)

    def delivered(self, descriptor: int, size: int, frames: int) -> None:
        """A whole message of `size` bytes came out of the connection."""
        account = self._accounts.get(descriptor)
        if account is not None:
            account.delivered += size + frames * OVERHEAD

    def check(self) -> None:
        """Cut every connection whose debt is over the limit. Called every tenth of a second or so."""
        for descriptor, account in list(self._accounts.items()):
            received = bytes_received(descriptor)
            if received is None:
                del self._accounts[descriptor]
                continue
            # Never below zero: small messages must not earn credit for a flood.
            account.debt = max(0, account.debt + received - account.received - account.delivered)
            account.received, account.delivered = received, 0
            if account.debt > self._limit:
                log.warning("flood cut", extra={"fields": {"debt": account.debt}})
                self.cuts += 1
                del self._accounts[descriptor]
                cut(descriptor)
