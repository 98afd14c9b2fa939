"""For every test: one thread for torch, here and in the processes that tests start; and a SIGTERM ends all of them.

Two threads wait for each other on a machine that does other work beside; the small models gain nothing from them. The
examples of Hypothesis have no deadline, which sound code would miss there too.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure() -> None:
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    """Let fixtures end what they have started: a run that just died would leave Krita, Xvfb and backends behind."""
    pytest.exit(f"ended by {signal.Signals(number).name}", returncode=128 + number)
