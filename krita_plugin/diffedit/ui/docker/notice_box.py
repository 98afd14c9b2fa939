"""What the artist should know before going on, with buttons for the ways out."""

from __future__ import annotations

from ...model.sentences import Notice
from ...qt import QtCore, QtGui, QtWidgets, Signal
from ...translation import tr
from .pieces import SPACING, row, tool_button

STRIPE = 3  # px: the coloured edge that tells an error from a remark
ERROR, INFO = QtGui.QColor(0xD0, 0x50, 0x40), QtGui.QColor(0x40, 0x80, 0xC0)


class NoticeBox(QtWidgets.QWidget):
    """`remedy_wanted(name)`: one of a notice's remedies; `dismissed()`."""

    remedy_wanted = Signal(str)
    dismissed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.sentence = QtWidgets.QLabel()
        self.sentence.setWordWrap(True)
        self.sentence.setTextInteractionFlags(QtCore.Qt.TextInteractionFlag.TextSelectableByMouse)
        names = {
            "start": tr("Start"),
            "retry": tr("Try again"),
            "settings": tr("Settings"),
            "log": tr("Show log"),
            "look": tr("Refresh"),
            "forget": tr("Forget it"),
        }
        ways = {
            "install": tr("Install it here…"),
            "join": tr("Join another machine…"),
            "choose": tr("I have one…"),
        }
        self.buttons: dict[str, QtWidgets.QToolButton] = {}
        for name, text in (names | ways).items():
            button = QtWidgets.QToolButton()  # narrower than a push button: three fit side by side
            button.setText(text)
            button.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
            button.clicked.connect(lambda _=False, name=name: self.remedy_wanted.emit(name))
            self.buttons[name] = button
        close = tool_button("cross", tr("Dismiss"), self.dismissed.emit)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(STRIPE + SPACING, 4, 0, 4)
        layout.setSpacing(4)
        head = row(self.sentence, 1, close)
        head.setAlignment(close, QtCore.Qt.AlignmentFlag.AlignTop)
        layout.addLayout(head)
        layout.addLayout(row(*(self.buttons[name] for name in names), None))
        for name in ways:  # one below the other: their words are long
            layout.addWidget(self.buttons[name], 0, QtCore.Qt.AlignmentFlag.AlignLeft)
        self._colour = INFO
        self.show_notice(None)

    def show_notice(self, notice: Notice | None) -> None:
        self.setVisible(notice is not None)
        if notice is None:
            return
        self.sentence.setText(notice.sentence)
        self.sentence.setToolTip(notice.detail)
        for name, button in self.buttons.items():
            button.setVisible(name in notice.remedies)
        self._colour = ERROR if notice.kind == "error" else INFO
        self.update()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        wash = QtGui.QColor(self._colour)
        wash.setAlpha(32)
        painter.fillRect(self.rect(), wash)
        painter.fillRect(0, 0, STRIPE, self.height(), self._colour)
        painter.end()
