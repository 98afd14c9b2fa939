"""Words that were suggested for a text, under it: a click takes some, another click takes others."""

from __future__ import annotations

from ...model.prompts import Suggestions
from ...qt import QtCore, QtWidgets, Signal
from ...translation import tr
from .pieces import row, tool_button

MOST_ROWS = 6
PAD = 4  # px above and below a suggestion


class WordChoice(QtWidgets.QWidget):
    """`taken(text)`: the artist wants it in place of what stands there; `dismissed()`."""

    taken = Signal(str)
    dismissed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._suggestions = Suggestions("", ())
        self.list = QtWidgets.QListWidget()
        self.list.setTextElideMode(QtCore.Qt.TextElideMode.ElideRight)
        self.list.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setTabKeyNavigation(False)
        self.list.setAccessibleName(tr("Suggested words"))
        self.list.setToolTip(tr("Click or Enter uses these words. Your own are kept among the earlier texts"))
        self.list.itemClicked.connect(lambda item: self.taken.emit(item.text()))
        self.list.itemActivated.connect(lambda item: self.taken.emit(item.text()))
        self.all = QtWidgets.QPushButton(tr("All of them"))
        self.all.setToolTip(tr("Use your words and these together: their common meaning counts"))
        self.all.clicked.connect(lambda: self.taken.emit(self._suggestions.together))
        self.close_button = tool_button("cross", tr("Close the suggestions"), self.dismissed.emit)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 2, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.list)
        layout.addLayout(row(self.all, 1, None, self.close_button))
        self.show_suggestions(None)

    @property
    def stops(self) -> tuple[QtWidgets.QWidget, ...]:
        """What Tab reaches, in order."""
        return self.list, self.all, self.close_button

    def show_suggestions(self, suggestions: Suggestions | None) -> None:
        had_focus = self.list.hasFocus()
        self.setVisible(suggestions is not None)
        self.list.clear()
        if suggestions is None:
            return
        self._suggestions = suggestions
        for text in suggestions.texts:
            item = QtWidgets.QListWidgetItem(text)
            item.setToolTip(text)
            self.list.addItem(item)
        height = self.list.fontMetrics().lineSpacing() + PAD
        self.list.setFixedHeight(min(len(suggestions.texts), MOST_ROWS) * height + 2 * self.list.frameWidth() + PAD)
        self.all.setVisible(suggestions.averaged)
        if had_focus:
            self.list.setFocus()
