"""Cuts a connection that sends more than it completes, and those that take up room and say nothing.

libzmq hands over whole messages only and gathers their frames without a limit, so one endless message grows the process
by hundreds of MiB in a second before the application sees a byte of it. The kernel counts what a TCP connection
received (bytes_received of TCP_INFO, as in RFC 4898; Linux); what arrived beyond what came out as messages is a link's
debt, and a link with too much of it is shut down. Links of the local socket are not counted: they belong to this user.
Where the system has no such counter, the process's memory limit is what remains.

A connection costs a file descriptor from the moment that it is accepted. Those from which no message came yet are
limited in number, the oldest goes first, and in time: an honest client says hello at once.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import time
from dataclasses import dataclass, field

log = logging.getLogger("diffedit.flood_guard")
DEBT_LIMIT = 48 << 20  # bytes: a window of chunks in libzmq's queues and the kernel's buffers, several times over
TOTAL_DEBT_LIMIT = 512 << 20  # bytes of all connections together
OVERHEAD = 256  # bytes that a frame costs on the wire beside its content, generously: ZMTP, CURVE
STRANGERS = 128  # connections from which no message came yet
SILENT_SECONDS = 20.0  # that a connection may take to its first message
_INFO_BYTES, _BYTES_RECEIVED = 256, 128  # struct tcp_info: length asked for, offset of tcpi_bytes_received (Linux 4.1)


def bytes_received(descriptor: int) -> int | None:
    """What the kernel took from the other side of a TCP connection so far; None when it cannot be known."""
    if not hasattr(socket, "TCP_INFO"):
        return None
    borrowed = None
    try:
        borrowed = socket.socket(fileno=descriptor)
        info = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except OSError:
        return None  # closed meanwhile, or no TCP connection
    finally:
        if borrowed is not None:
            borrowed.detach()
    return struct.unpack_from("=Q", info, _BYTES_RECEIVED)[0] if len(info) >= _BYTES_RECEIVED + 8 else None


def cut(descriptor: int) -> None:
    """Shut a connection down; its owner, libzmq, then closes it as one that the other side closed."""
    with contextlib.suppress(OSError):
        borrowed = socket.socket(fileno=descriptor)
        try:
            borrowed.shutdown(socket.SHUT_RDWR)
        finally:
            borrowed.detach()


@dataclass
class _Account:
    """One open connection. `received` None: its bytes are not counted."""

    received: int | None
    delivered: int = 0
    debt: int = 0
    spoke: bool = False
    opened: float = field(default_factory=time.monotonic)


class FloodGuard:
    """Accounts of the open connections by their descriptor, the one that was opened first at the front."""

    def __init__(self, limit: int = DEBT_LIMIT, total: int = TOTAL_DEBT_LIMIT, strangers: int = STRANGERS) -> None:
        self._limit = limit
        self._total = total
        self.strangers = strangers
        self._accounts: dict[int, _Account] = {}
        self._early: set[int] = set()  # descriptors whose first message was read before their opening was reported
        self.cuts = 0
        self.silent_cuts = 0

    def __len__(self) -> int:
        return len(self._accounts)

    def opened(self, descriptor: int, *, counted: bool = True) -> None:
        """A connection was accepted. `counted`: over TCP, from anyone; others are this user's own."""
        self._accounts.pop(descriptor, None)
        account = _Account(bytes_received(descriptor) if counted else None, spoke=descriptor in self._early)
        self._early.discard(descriptor)
        self._accounts[descriptor] = account
        strangers = [other for other, account in self._accounts.items() if not account.spoke]
        for other in strangers[: max(0, len(strangers) - self.strangers)]:
            self._cut_silent(other)

    def closed(self, descriptor: int) -> None:
        self._accounts.pop(descriptor, None)
        self._early.discard(descriptor)

    def delivered(self, descriptor: int, size: int, frames: int) -> None:
        """A whole message of `size` bytes came out of the connection."""
        account = self._accounts.get(descriptor)
        if account is None:
            self._early.add(descriptor)
        else:
            account.spoke = True
            account.delivered += size + frames * OVERHEAD

    def check(self) -> None:
        """Cut every connection whose debt is over the limit, and the silent ones. Called every tenth of a second."""
        now = time.monotonic()
        for descriptor, account in list(self._accounts.items()):
            if not account.spoke and now - account.opened > SILENT_SECONDS:
                self._cut_silent(descriptor)
                continue
            if account.received is None:
                continue
            received = bytes_received(descriptor)
            if received is None:
                del self._accounts[descriptor]
                continue
            # Never below zero: small messages must not earn credit for a flood.
            account.debt = max(0, account.debt + received - account.received - account.delivered)
            account.received, account.delivered = received, 0
            if account.debt > self._limit:
                self._cut_flood(descriptor, account)
        while sum(account.debt for account in self._accounts.values()) > self._total:
            self._cut_flood(*max(self._accounts.items(), key=lambda item: item[1].debt))

    def _cut_flood(self, descriptor: int, account: _Account) -> None:
        log.warning("flood cut", extra={"fields": {"debt": account.debt}})
        self.cuts += 1
        self._accounts.pop(descriptor, None)
        cut(descriptor)

    def _cut_silent(self, descriptor: int) -> None:
        self.silent_cuts += 1
        self._accounts.pop(descriptor, None)
        cut(descriptor)
