"""Several layers or frames edited in one go: the same words and seed, one after the other, one progress, one cancel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..qt import QtCore, Signal
from ..translation import tr
from .ports import LayerRef
from .sentences import Notice
from .session import EditSession

NOTHING_THERE = ("EMPTY", "NOTHING_SELECTED")  # of a frame: nothing to edit in it, which ends no batch


@dataclass
class _Batch:
    """`frames`: their results are kept until the end and become one layer then."""

    waiting: list[LayerRef]
    frames: bool
    total: int = field(init=False)
    ended: Notice | None = None

    def __post_init__(self) -> None:
        self.total = len(self.waiting)


class BatchController(QtCore.QObject):
    """`edit_wanted(EditSession, LayerRef)`: the turn of that layer or frame. `frames_done(EditSession, Notice)`: the
    results of the frames that were edited can be added, and what is to be said then.

    A layer or frame that fails, and *Cancel*, end the batch; what was done before it stays.
    """

    edit_wanted = Signal(object, object)
    frames_done = Signal(object, object)

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._batches: dict[EditSession, _Batch] = {}

    def begin(self, session: EditSession, parts: Sequence[LayerRef], *, frames: bool = False) -> None:
        """Edits `parts`, of which there is at least one."""
        self._batches[session] = _Batch(list(parts), frames)
        session.gathers = frames
        session.changed.connect(self._follow)
        self._next(session)

    def cancel(self, session: EditSession) -> None:
        """No further layer is begun."""
        batch = self._batches.get(session)
        if batch is None or batch.ended is not None:
            return
        done = batch.total - len(batch.waiting) - (session.activity is not None)
        text = tr("Cancelled. Frames that were edited: {done} of {total}.", done=done, total=batch.total)
        if not batch.frames:
            text = tr("Cancelled. Layers that were edited: {done} of {total}.", done=done, total=batch.total)
        if done:
            batch.ended = Notice("info", text)
        else:
            batch.ended = Notice("info", tr("Cancelled. Nothing was changed."))
        session.part = None
        if session.activity is None:  # between two of them
            QtCore.QTimer.singleShot(0, lambda: self._go_on(session))

    def _follow(self, aspect: str) -> None:
        session = self.sender()
        if aspect == "activity" and isinstance(session, EditSession) and session.activity is None:
            # One turn later it is known whether the result is being added now.
            QtCore.QTimer.singleShot(0, lambda: self._go_on(session))

    def _go_on(self, session: EditSession) -> None:
        batch = self._batches.get(session)
        if batch is None or session.activity is not None:
            return
        failed = session.notice if session.notice is not None and session.notice.kind == "error" else None
        if failed is not None and batch.frames and failed.code in NOTHING_THERE:
            failed = session.notice = None
        if batch.ended is not None:
            self._end(session, batch.ended)
        elif failed is not None:
            self._end(session, _with_left(failed, batch))
        elif batch.waiting:
            self._next(session)
        else:
            text = tr("{count} frames were edited.", count=batch.total)
            if not batch.frames:
                text = tr("{count} layers were edited.", count=batch.total)
            self._end(session, Notice("info", text))

    def _next(self, session: EditSession) -> None:
        batch = self._batches[session]
        part = batch.waiting.pop(0)
        session.part = batch.total - len(batch.waiting), batch.total
        self.edit_wanted.emit(session, part)
        if session.activity is None:  # it was refused before it began
            self._go_on(session)

    def _end(self, session: EditSession, notice: Notice) -> None:
        batch = self._batches.pop(session)
        session.changed.disconnect(self._follow)
        session.part = None
        session.gathers = False
        session.notice = notice
        if batch.frames:
            self.frames_done.emit(session, notice)


def _with_left(failed: Notice, batch: _Batch) -> Notice:
    """The notice of what ended a batch, with how many were not begun."""
    left = len(batch.waiting)
    if not left:
        return failed
    said = tr("Frames that were not edited: {count}.", count=left)
    if not batch.frames:
        said = tr("Layers that were not edited: {count}.", count=left)
    return Notice("error", f"{failed.sentence} {said}", failed.detail, failed.remedies)
