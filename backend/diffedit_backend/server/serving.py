"""Starts a server with its workers, tells this user's clients where it is, and ends it cleanly on a signal."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from diffedit_protocol.connection import local_file

from .. import __version__
from ..executors.base import Executor
from .logs import start as start_log
from .process import Server
from .settings import ServerSettings
from .state_folder import Lock, StateFolder


def serve(
    settings: ServerSettings, executor: Executor, announce: Callable[[Server], None], *, verbose: bool = False
) -> None:
    """Run a server until SIGTERM or SIGINT; a second signal ends it at once.

    `announce` is called when the first job can be taken; from then until the end the local connection file is there.
    Raises BadInputError, AuthError, ModelError when the server cannot run.
    """
    folder = StateFolder(settings.state)
    with Lock(folder.lock):
        log = start_log(folder.log, verbose=verbose)
        server = Server(settings, executor)
        file = local_file()

        def on_signal(number: int, _frame: FrameType | None) -> None:
            server.stop()

        def on_ready() -> None:
            server.local_connection().save(file, pid=os.getpid(), version=__version__)
            log.info("ready", extra={"fields": {"endpoints": list(server.endpoints), "device": server.info().device}})
            announce(server)

        previous = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            server.serve(on_ready)
        finally:
            _remove_own(file)
            server.close()
            for number, handler in previous.items():
                signal.signal(number, handler)


def _remove_own(file: Path) -> None:
    """Remove the local connection file; the lock says that no other server of this user wrote it."""
    file.unlink(missing_ok=True)
