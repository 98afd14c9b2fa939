"""Tells systemd how the server is (sd_notify): ready, alive, stopping. Without effect where it was not started by it.

A unit with `Type=notify` counts the start as done when the first job can be taken, and with `WatchdogSec` starts a
server anew whose loop has not turned for that long. The message is one datagram, as sd_notify(3) says.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"


class ServiceManager:
    """`environment`: where systemd names its socket (NOTIFY_SOCKET) and the watchdog's time (WATCHDOG_USEC)."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        try:
            self._interval = int(environment.get("WATCHDOG_USEC", "0")) / 1e6 / 3
        except ValueError:
            self._interval = 0.0
        self._alive = 0.0

    def ready(self) -> None:
        self._send(READY)

    def alive(self) -> None:
        """Called at every turn of the loop; sends three times in the watchdog's time."""
        if self._interval and time.monotonic() - self._alive >= self._interval:
            self._alive = time.monotonic()
            self._send(ALIVE)

    def stopping(self) -> None:
        self._send(STOPPING)

    def _send(self, message: str) -> None:
        if not self._address or not hasattr(socket, "AF_UNIX"):
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.setblocking(False)
            link.sendto(message.encode(), address)
