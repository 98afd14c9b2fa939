"""Runs a generator of steps, one per turn of the event loop."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from ..qt import QtCore
from .refusal import CanvasRefusal


class StepRunner(QtCore.QObject):
    """Runs `steps` to their end and hands `done` what they return, or `refused` the CanvasRefusal that they raised.

    No event loop is nested: Krita holds back its own signals while one is. `stop()` ends it early; nothing is called
    then.
    """

    def __init__(
        self,
        steps: Generator[None, None, Any],
        done: Callable[[Any], None],
        refused: Callable[[CanvasRefusal], None],
        parent: QtCore.QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._steps = steps
        self._done = done
        self._refused = refused
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._step)
        self._timer.start()

    def _step(self) -> None:
        try:
            next(self._steps)
        except StopIteration as end:
            self._end()
            self._done(end.value)
        except CanvasRefusal as refusal:
            self._end()
            self._refused(refusal)
        except BaseException:
            self._end()  # else the same error would come with every turn; Krita's own hook shows it
            raise

    def stop(self) -> None:
        self._end()
        self._steps.close()

    def _end(self) -> None:
        self._timer.stop()
        self.deleteLater()  # its parent outlives it, and it holds pixels
