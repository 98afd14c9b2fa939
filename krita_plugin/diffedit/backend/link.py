"""The link to the backend as Krita's main thread sees it: orders go in, signals come out. The socket belongs to the
courier's thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from diffedit_protocol.connection import Connection

from ..qt import QtCore, Signal
from .client_thread import Courier, Order
from .payload import JobPayload, LinkState

STOP_MILLISECONDS = 3000


class Link(QtCore.QObject):
    """Signals, received on the thread of the Link: `state_changed(LinkState)`; `uploaded(job, sent, total)` in bytes;
    `told(job, Event)` for every event but Done; `arrived(job, JobResult)` instead of Done."""

    state_changed = Signal(object)
    uploaded = Signal(str, object, object)  # object: an int of Qt has 32 bits
    told = Signal(str, object)
    arrived = Signal(str, object)

    def __init__(self, find_connection: Callable[[], Connection], parent: QtCore.QObject | None = None) -> None:
        """`find_connection` is called on the courier's thread before every attempt; it raises a DiffEditError that
        says why there is nothing to connect to."""
        super().__init__(parent)
        self.state = LinkState("connecting")
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._leave = threading.Event()
        self._find = find_connection
        self._thread: ClientThread | None = None
        self.state_changed.connect(self._remember)

    def start(self) -> None:
        """Connects, and keeps connecting."""
        if self._thread is None:
            self._leave.clear()
            courier = Courier(
                self._find,
                self._orders,
                self._leave,
                state=self.state_changed.emit,
                uploaded=self.uploaded.emit,
                told=self.told.emit,
                arrived=self.arrived.emit,
            )
            self._thread = ClientThread(courier, self)
            self._thread.start()

    def stop(self) -> bool:
        """Ends the thread; jobs at the backend go on there. False when it had not ended after three seconds."""
        if self._thread is None:
            return True
        self._leave.set()
        self._orders.put(("stop", None))  # wakes a courier that waits for an order
        if not self._thread.wait(STOP_MILLISECONDS):
            return False
        self._thread = None
        return True

    def submit(self, errand: JobPayload) -> None:
        """Does the errand as soon as there is a link; events and result come as signals."""
        self._orders.put(("submit", errand))

    def cancel(self, job: str) -> None:
        """Asks to end the job; `told(job, Cancelled)` follows, at once while there is no link."""
        self._orders.put(("cancel", job))

    def reconnect(self) -> None:
        """Drops the link and connects anew: the settings changed, or the artist does not want to wait."""
        self._orders.put(("reconnect", None))

    def _remember(self, state: LinkState) -> None:
        self.state = state


class ClientThread(QtCore.QThread):
    """The thread that one Courier lives in."""

    def __init__(self, courier: Courier, parent: QtCore.QObject) -> None:
        super().__init__(parent)
        self._courier = courier

    def run(self) -> None:
        self._courier.run()
