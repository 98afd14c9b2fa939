"""The two texts, what there is and what there should be; and words that were suggested for one, under it."""

from __future__ import annotations

from collections.abc import Callable

from ...model.prompts import Suggestions
from ...model.texts import one_line
from ...qt import QtCore, QtGui, QtWidgets, Signal
from ...translation import tr
from .pieces import quiet, row, tool_button

MOST_LINES = 4
MENU_CHARACTERS = 60


class PromptEdit(QtWidgets.QPlainTextEdit):
    """A text of one to four lines that grows with it. `submitted(shift)`: Enter was pressed; `edited(text)`;
    `words_wanted()`: Ctrl+Space."""

    words_wanted = Signal()
    submitted = Signal(bool)
    edited = Signal(str)

    def __init__(self, placeholder: str, tip: str) -> None:
        super().__init__()
        self.setPlaceholderText(placeholder)
        self.setToolTip(tip)
        self.setTabChangesFocus(True)
        self.setVerticalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.document().setDocumentMargin(3)
        self._most_lines = MOST_LINES
        self.textChanged.connect(self._changed)
        self._fit()

    def set_text(self, text: str) -> None:
        """Shows `text` without telling of it; the cursor stays where the artist writes."""
        if text != self.toPlainText():
            blocked = self.blockSignals(True)
            self.setPlainText(text)
            self.blockSignals(blocked)
            self._fit()

    def limit_lines(self, lines: int) -> None:
        """Shows at most that many lines at once; of more it scrolls."""
        if lines != self._most_lines:
            self._most_lines = lines
            self._fit()

    def keyPressEvent(self, event: QtGui.QKeyEvent) -> None:
        if event.key() in (QtCore.Qt.Key.Key_Return, QtCore.Qt.Key.Key_Enter):
            self.submitted.emit(bool(event.modifiers() & QtCore.Qt.KeyboardModifier.ShiftModifier))
        elif event.key() == QtCore.Qt.Key.Key_Space and event.modifiers() == QtCore.Qt.KeyboardModifier.ControlModifier:
            self.words_wanted.emit()
        else:
            super().keyPressEvent(event)

    def insertFromMimeData(self, source: QtCore.QMimeData) -> None:
        """Pasted text becomes one line: a prompt has no paragraphs."""
        self.textCursor().insertText(one_line(" ".join(source.text().split())))

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def _changed(self) -> None:
        self._fit()
        self.edited.emit(one_line(self.toPlainText()))

    def _fit(self) -> None:
        lines = max(1, round(self.document().size().height()))  # a plain text document measures itself in lines
        room = 2 * (self.frameWidth() + round(self.document().documentMargin()))
        self.setFixedHeight(min(lines, self._most_lines) * self.fontMetrics().lineSpacing() + room + 2)
        always, never = QtCore.Qt.ScrollBarPolicy.ScrollBarAsNeeded, QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        self.setVerticalScrollBarPolicy(always if lines > self._most_lines else never)


class PromptField(QtWidgets.QWidget):
    """A named text with a button that offers earlier ones; `more` are further buttons beside the name."""

    def __init__(
        self, name: str, placeholder: str, tip: str, recall: Callable[[], list[str]], *more: QtWidgets.QWidget
    ) -> None:
        super().__init__()
        self.edit = PromptEdit(placeholder, tip)
        label = quiet(QtWidgets.QLabel(name))
        label.setBuddy(self.edit)
        self.edit.setAccessibleName(name)
        self._recall = recall
        self._earlier = tool_button("clock", tr("Earlier texts"), self._offer)
        self._earlier.setFocusPolicy(QtCore.Qt.FocusPolicy.ClickFocus)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(1)
        layout.addLayout(row(label, None, *more, self._earlier, spacing=0))
        layout.addWidget(self.edit)

    def menu(self) -> QtWidgets.QMenu:
        """Earlier texts; one that is chosen takes the place of what stands there."""
        menu = QtWidgets.QMenu(self)
        texts = self._recall()
        for text in texts:
            short = text if len(text) <= MENU_CHARACTERS else text[: MENU_CHARACTERS - 1] + "…"
            menu.addAction(short.replace("&", "&&")).triggered.connect(
                lambda _=False, text=text: self.edit.setPlainText(text)
            )
        if not texts:
            menu.addAction(tr("No earlier texts")).setEnabled(False)
        menu.setAttribute(QtCore.Qt.WidgetAttribute.WA_DeleteOnClose)
        return menu

    def _offer(self) -> None:
        self.menu().popup(self._earlier.mapToGlobal(self._earlier.rect().bottomLeft()))


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
