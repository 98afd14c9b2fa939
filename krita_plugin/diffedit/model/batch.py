"""Several layers edited in one go: the same words and seed, one after the other, one progress and one cancel."""

from __future__ import annotations

from ..qt import QtCore, Signal
from ..translation import tr
from .ports import LayerRef
from .sentences import Notice
from .session import EditSession


class BatchController(QtCore.QObject):
    """`edit_wanted(EditSession, LayerRef)`: the turn of that layer. A layer that fails ends the batch; what was added
    before it stays."""

    edit_wanted = Signal(object, object)

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._waiting: dict[EditSession, list[LayerRef]] = {}
        self._total: dict[EditSession, int] = {}

    def begin(self, session: EditSession, layers: list[LayerRef]) -> None:
        """Edits `layers`, of which there is at least one."""
        self._waiting[session] = list(layers)
        self._total[session] = len(layers)
        session.changed.connect(self._follow)
        self._next(session)

    def cancel(self, session: EditSession) -> None:
        """No further layer is begun."""
        if session in self._waiting:
            self._end(session)

    def _follow(self, aspect: str) -> None:
        session = self.sender()
        if aspect == "activity" and isinstance(session, EditSession) and session.activity is None:
            # One turn later it is known whether the result is being added now.
            QtCore.QTimer.singleShot(0, lambda: self._go_on(session))

    def _go_on(self, session: EditSession) -> None:
        if session not in self._waiting or session.activity is not None:
            return
        if session.notice is not None and session.notice.kind == "error":
            left = len(self._waiting[session])
            if left:
                sentence = f"{session.notice.sentence} {tr('Layers that were not edited: {count}.', count=left)}"
                session.notice = Notice("error", sentence, session.notice.detail, session.notice.remedies)
            self._end(session)
        elif self._waiting[session]:
            self._next(session)
        else:
            total = self._total[session]
            self._end(session)
            session.notice = Notice("info", tr("{count} layers were edited.", count=total))

    def _next(self, session: EditSession) -> None:
        layer_ref = self._waiting[session].pop(0)
        total = self._total[session]
        session.part = total - len(self._waiting[session]), total
        self.edit_wanted.emit(session, layer_ref)
        if session.activity is None:  # it was refused before it began
            self._go_on(session)

    def _end(self, session: EditSession) -> None:
        del self._waiting[session], self._total[session]
        session.changed.disconnect(self._follow)
        session.part = None
