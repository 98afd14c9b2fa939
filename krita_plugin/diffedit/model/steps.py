"""What may take long on the canvas is a generator of short steps; one runs per turn of the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

from ..qt import QtCore, Signal


class CanvasRefusal(Exception):
    """`sentence` is for the artist, in their language; `code` for programs:

    NO_DOCUMENT, NO_LAYER: nothing is open or no layer active · LAYER_KIND, LOCKED, HIDDEN, EMPTY: the layer cannot be
    worked with · NOT_ANIMATED: there are no frames · NOTHING_SELECTED: it has nothing inside the selection ·
    DOCUMENT_GONE, LAYER_GONE: closed or deleted meanwhile · NOT_ADDED: Krita did not add the layer ·
    HISTORY_TOO_LARGE: not kept in the file · NO_CANVAS: the active view shows none that is known.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


BUSY = "busy"  # what a step yields that could do nothing: the document is being painted on, or computes
BUSY_NOTICE_SECONDS = 1.0
Steps: TypeAlias = Generator[Any, None, Any]


class StepRunner(QtCore.QObject):
    """Runs `steps` to their end and hands `done` what they return, or `refused` the CanvasRefusal that they raised.

    No event loop is nested: Krita holds back its own signals while one is. `stop()` ends it early; nothing is called
    then. `waits(whether)`: the document has been busy for a second, with a tool that is in use for example; and when it
    goes on.
    """

    waits = Signal(bool)

    def __init__(
        self,
        steps: Steps,
        done: Callable[[Any], None],
        refused: Callable[[CanvasRefusal], None],
        parent: QtCore.QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._steps = steps
        self._done = done
        self._refused = refused
        self._stopped = False
        self.in_step = False  # whether one is under way: while Krita adds a layer it goes on reading the mouse
        self._busy_since: float | None = None
        self._reported_busy = False
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._step)
        self._timer.start()

    def _step(self) -> None:
        try:
            busy = self._next()
        except StopIteration as end:
            self._end()
            if not self._stopped:
                self._done(end.value)
        except CanvasRefusal as refusal:
            self._end()
            if not self._stopped:
                self._refused(refusal)
        except BaseException:
            self._end()  # else the same error would come with every turn; Krita's own hook shows it
            raise
        else:
            if self._stopped:
                self._steps.close()
            else:
                self._track_busy(busy)

    def _next(self) -> bool:
        """Runs a step; whether it could do nothing."""
        self.in_step = True
        try:
            return bool(next(self._steps) == BUSY)
        finally:
            self.in_step = False

    def _track_busy(self, busy: bool) -> None:
        if not busy:
            self._busy_since = None
        elif self._busy_since is None:
            self._busy_since = time.monotonic()
        waits = self._busy_since is not None and time.monotonic() - self._busy_since > BUSY_NOTICE_SECONDS
        if waits != self._reported_busy:
            self._reported_busy = waits
            self._timer.setInterval(20 if waits else 0)
            self.waits.emit(waits)

    def stop(self) -> None:
        """A step that is under way is the last one."""
        self._end()
        self._stopped = True
        if not self.in_step:
            self._steps.close()

    def _end(self) -> None:
        if not self._stopped:
            self._timer.stop()
            self.deleteLater()  # its parent outlives it, and it holds pixels
