"""Steps that run one a turn, and end when they are stopped, also in the middle of one."""

from __future__ import annotations

import pytest
from diffedit.model.steps import CanvasRefusal, StepRunner
from diffedit.qt import QtCore


def nested() -> None:
    """What Krita does while it adds a layer: it reads the mouse and serves timers before its call returns."""
    loop = QtCore.QEventLoop()
    QtCore.QTimer.singleShot(20, loop.quit)
    loop.exec()


@pytest.mark.parametrize("ending", ["goes on", "returns", "refuses"])
def test_a_runner_that_is_stopped_in_the_middle_of_a_step_runs_no_other_and_tells_nothing(until, ending: str) -> None:
    ran: list[str] = []
    told: list[object] = []

    def steps():
        try:
            yield
            QtCore.QTimer.singleShot(0, stop)
            nested()
            ran.append("the step under way")
            if ending == "refuses":
                raise CanvasRefusal("EMPTY", "nothing")
            if ending == "returns":
                return
            yield
            ran.append("another step")
        finally:
            ran.append("closed")

    runner = StepRunner(steps(), told.append, told.append)

    def stop() -> None:
        assert runner.in_step
        runner.stop()

    until(lambda: "closed" in ran)
    nested()
    assert (ran, told) == (["the step under way", "closed"], [])


def test_no_step_runs_within_another(until) -> None:
    ran: list[int] = []
    ended: list[object] = []

    def steps():
        for number in range(3):
            ran.append(number)
            nested()
            yield
        return "all"

    runner = StepRunner(steps(), ended.append, ended.append)
    until(lambda: bool(ended))
    assert (ran, ended, runner.in_step) == ([0, 1, 2], ["all"], False)
