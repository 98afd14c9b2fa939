"""Starts a server with its workers, tells this user's clients where it is, and ends it cleanly on a signal."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import numpy as np
from diffedit_protocol.connection import LOCAL_FILE, Connection, local_file
from diffedit_protocol.encodings import PixelFilter, use_filter
from diffedit_protocol.errors import BadInputError

from .. import __version__
from ..executors.base import Executor
from .logs import start as start_log
from .logs import stop as stop_log
from .process import Server
from .settings import ServerSettings
from .state_folder import Lock, StateFolder


def difference(data: bytes, channels: int) -> bytes:
    """Each byte minus the one `channels` before it, modulo 256; the first `channels` bytes stay."""
    values = np.frombuffer(data, np.uint8)
    found = values.copy()
    found[channels:] -= values[:-channels]
    return found.tobytes()


def running_sum(data: bytes, channels: int) -> bytes:
    """Undoes `difference`."""
    rows = -(-len(data) // channels)
    values = np.zeros(rows * channels, np.uint8)
    values[: len(data)] = np.frombuffer(data, np.uint8)
    sums = np.add.accumulate(values.reshape(rows, channels), axis=0, dtype=np.uint8)
    return sums.tobytes()[: len(data)]


# The protocol's filter of pixels: the same bytes ten to forty times as fast, so that threads that pack for slow links
# leave the interpreter to the server's loop.
BY_NUMPY = PixelFilter(difference, running_sum)


MOST_FILES = 8192
# How long a thread that packs pixels may keep Python's interpreter when the loop wants it. The loop gives it up several
# times in a turn: with the usual 5 ms, eight clients that pack made every other one wait for 30 ms.
SWITCH_SECONDS = 0.0005


def serve(
    settings: ServerSettings, executor: Executor, announce: Callable[[Server], None], *, verbose: bool = False
) -> None:
    """Run a server until SIGTERM, SIGINT or SIGHUP; a second signal ends it at once.

    `announce` is called when the first job can be taken; from then until the end the local connection file is there.
    Raises BadInputError, AuthError, ModelError when the server cannot run.
    """
    raise_file_limit()
    with contextlib.ExitStack() as stack:
        try:
            folder = StateFolder(settings.state)
            stack.enter_context(Lock(folder.lock))
            log = start_log(folder.log, verbose=verbose)
            stack.callback(stop_log)
            server = Server(settings, executor)
        except OSError as error:
            raise BadInputError(
                f"The backend cannot use the folder '{settings.state}': {error.strerror}"
                f"{f' ({error.filename})' if error.filename else ''}."
            ) from error
        file = local_file()
        sandboxed = [folder / LOCAL_FILE for folder in settings.sandboxes]

        def on_signal(number: int, _frame: FrameType | None) -> None:
            server.stop()

        def on_ready() -> None:
            other = _other_server(file)
            if other:
                log.warning("not this user's local backend", extra={"fields": {"file": str(file), "process": other}})
            else:
                _save(server.local_connection(), file)
                for sandbox in sandboxed:
                    _save(server.sandbox_connection(), sandbox)
            log.info("ready", extra={"fields": {"endpoints": list(server.endpoints), "device": server.info().device}})
            announce(server)

        previous = {number: signal.signal(number, on_signal) for number in _ends()}
        sys.setswitchinterval(SWITCH_SECONDS)
        use_filter(BY_NUMPY)
        gc.collect()
        gc.freeze()  # what was imported stays for good: a look through it takes tens of milliseconds of the loop's time
        try:
            server.serve(on_ready)
        finally:
            for written in (file, *sandboxed):
                _remove_own(written)
            server.close()
            for number, handler in previous.items():
                signal.signal(number, handler)


def _ends() -> list[signal.Signals]:
    """The signals that end it: SIGHUP too, when its terminal is closed, unless it was started with nohup."""
    found = [signal.SIGTERM, signal.SIGINT]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found


def raise_file_limit() -> None:
    """Take as many file descriptors as the system allows this process: every connection costs one."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(ValueError, OSError):  # macOS has a lower limit than it names
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _save(connection: Connection, file: Path) -> None:
    try:
        connection.save(file, pid=os.getpid(), version=__version__)
    except OSError as error:
        reason = {"file": str(file), "reason": str(error)}
        logging.getLogger("diffedit.server").error("local clients cannot find it", extra={"fields": reason})


def _holder(file: Path) -> int:
    """The process that wrote a local connection file; 0 for none."""
    try:
        return int(json.loads(file.read_text(encoding="utf-8"))["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _other_server(file: Path) -> int:
    """The process of another server of this user, with a folder of its own (--state), that is the local one; else 0."""
    import psutil  # an extra's: the command line imports this module without it

    holder = _holder(file)
    return holder if holder not in (0, os.getpid()) and psutil.pid_exists(holder) else 0


def _remove_own(file: Path) -> None:
    """Remove the local connection file unless another server wrote it."""
    if _holder(file) == os.getpid():
        file.unlink(missing_ok=True)
