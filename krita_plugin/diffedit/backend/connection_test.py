"""*Test connection*: connects to a backend on a thread of its own and reports in one sentence how it went."""

from __future__ import annotations

import threading
from collections.abc import Callable

from diffedit_protocol.client import Client
from diffedit_protocol.connection import Connection
from diffedit_protocol.errors import CancelledError, DiffEditError

from ..model import sentences
from ..model.payload import LinkState
from ..qt import QtCore, Signal
from ..translation import tr

MILLISECONDS = 1000


class ConnectionTest(QtCore.QThread):
    """`done(sentence, good)` once, on the thread that made it."""

    done = Signal(str, bool)

    def __init__(self, find_connection: Callable[[], Connection], parent: QtCore.QObject) -> None:
        super().__init__(parent)
        self._find = find_connection
        self._leave = threading.Event()

    def stop(self) -> None:
        """Ends the test, if it still runs; no signal then."""
        self._leave.set()
        self.wait()

    def _check_leave(self) -> None:
        if self._leave.is_set():
            raise CancelledError("The test was stopped.")

    def run(self) -> None:
        connection = None
        try:
            connection = self._find()
            with Client(connection, on_turn=self._check_leave) as client:
                round_trip = client.ping()
                info = client.hello
        except CancelledError:
            return
        except DiffEditError as error:
            self.done.emit(_complaint(error, connection), False)
            return
        self.done.emit(
            tr(
                "It works: DiffEdit {version} on {device}, answers in {milliseconds} ms.",
                version=info.version,
                device=info.device or tr("an unnamed device"),
                milliseconds=max(1, round(MILLISECONDS * round_trip)),
            ),
            True,
        )


def _complaint(error: DiffEditError, connection: Connection | None) -> str:
    if connection is None:
        return error.sentence
    return sentences.of_link_error(LinkState("down", connection.host, connection.own, None, error), error).sentence
