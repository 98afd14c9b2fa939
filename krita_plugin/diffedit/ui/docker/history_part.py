"""What was done with this picture, and results that could not be added."""

from __future__ import annotations

import datetime

from ...app import App
from ...model import thumbnails
from ...model.history import HistoryEntry
from ...model.inputs import describe
from ...model.session import EditSession
from ...qt import QtCore, QtGui, QtWidgets
from ...translation import tr
from .pieces import SPACING, quiet, row

ICON = 36  # px
ROWS = 4  # shown without scrolling


class HistoryPart(QtWidgets.QWidget):
    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app
        self._records: list[HistoryEntry] = []
        self.list = QtWidgets.QListWidget()
        self.list.setIconSize(QtCore.QSize(ICON, ICON))
        self.list.setTextElideMode(QtCore.Qt.TextElideMode.ElideRight)
        self.list.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setTabKeyNavigation(False)
        self.list.currentRowChanged.connect(lambda _: self._enable())
        self.list.itemActivated.connect(lambda _: self._use())
        self.empty = quiet(QtWidgets.QLabel(tr("The edits of this picture are listed here and saved with it.")))
        self.empty.setWordWrap(True)
        self.use = QtWidgets.QPushButton(tr("Use again"))
        self.use.setToolTip(tr("Restore its texts, sliders and seed (double-click)"))
        self.use.clicked.connect(self._use)
        self.put = QtWidgets.QPushButton(tr("Add"))
        self.put.setToolTip(tr("Add this result above the active layer"))
        self.put.clicked.connect(lambda: app.results.put(app.session, self._chosen()))
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(SPACING, 0, 0, SPACING)
        layout.setSpacing(4)
        layout.addWidget(self.empty)
        layout.addWidget(self.list)
        layout.addLayout(row(self.use, 1, self.put, 1))
        app.results.kept_changed.connect(lambda: self.refresh(app.session))

    def refresh(self, session: EditSession) -> None:
        self._records = [*reversed(session.history), *reversed(self._app.results.kept)]
        self.list.clear()
        today = datetime.date.today().isoformat()
        for record in self._records:
            day, _, time = record.when.partition("T")
            words = describe(record.inputs.source, record.inputs.target)
            when = time[:5] if day == today else day
            about = " · ".join((tr("seed {seed}", seed=record.seed), when))
            item = QtWidgets.QListWidgetItem(f"{words}\n{about}")
            adapters = [f"{adapter.name} {adapter.weight:g}" for adapter in record.inputs.adapters]
            made_with = " · ".join(part for part in (record.model, *adapters) if part)
            item.setToolTip(f"{record.name}\n{record.layer} · {day} {time[:5]}\n{made_with}".strip())
            if record.thumbnail:
                item.setIcon(QtGui.QIcon(QtGui.QPixmap.fromImage(thumbnails.from_text(record.thumbnail))))
            self.list.addItem(item)
        count = len(self._records)
        self.empty.setVisible(not count)
        for widget in (self.list, self.use, self.put):
            widget.setVisible(bool(count))
        height = max(0, self.list.sizeHintForRow(0))
        self.list.setFixedHeight(min(ROWS, count) * height + 2 * self.list.frameWidth())
        self._enable()

    def note(self, session: EditSession) -> str:
        count = len(session.history) + len(self._app.results.kept)
        return str(count) if count else ""

    def _chosen(self) -> HistoryEntry | None:
        index = self.list.currentRow()
        return self._records[index] if 0 <= index < len(self._records) else None

    def _enable(self) -> None:
        chosen = self._chosen()
        self.use.setEnabled(chosen is not None)
        self.put.setEnabled(chosen is not None and chosen.kept is not None)

    def _use(self) -> None:
        chosen = self._chosen()
        if chosen is not None:
            self._app.results.use_again(self._app.session, chosen)
