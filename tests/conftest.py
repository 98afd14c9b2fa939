"""For every test: one thread for torch, here and in the processes that tests start; and a SIGTERM ends all of them.

Two threads wait for each other on a machine that does other work beside; the small models gain nothing from them. The
examples of Hypothesis have no deadline, which sound code would miss there too.
With `-n` (pytest-xdist) a file's tests stay in one process, and all of tests/krita in one: they share a Krita.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadFileScheduling

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure() -> None:
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    """Let fixtures end what they have started: a run that just died would leave Krita, Xvfb and backends behind.

    With `-n` the fixtures are those of the processes that run the tests, which pytest-xdist would give ten seconds.
    """
    running = [worker for worker in psutil.Process().children() if "execnet" in "".join(worker.cmdline())]
    for worker in running:
        worker.send_signal(number)
    psutil.wait_procs(running, timeout=60)
    pytest.exit(f"ended by {signal.Signals(number).name}", returncode=128 + number)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    """Files are handed out whole, the largest first; those of tests/krita together."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "tests/krita" if file.startswith("tests/krita/") else file

    return Scheduling(config, log)
