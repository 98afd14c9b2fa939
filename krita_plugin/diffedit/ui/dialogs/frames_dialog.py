"""*Edit Frames…*: which frames of an animated picture, and how many edits that is."""

from __future__ import annotations

from ...app import App
from ...model.steps import CanvasRefusal
from ...qt import QtCore, QtWidgets
from ...translation import tr
from ..docker.pieces import row

MOST_FRAMES = 1_000_000


class FramesDialog(QtWidgets.QDialog):
    """Not modal. The range is at first the one that Krita plays; it follows the picture that is in front."""

    def __init__(self, app: App, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._app = app
        self.setWindowTitle(tr("Edit frames"))
        self.setAttribute(QtCore.Qt.WidgetAttribute.WA_DeleteOnClose, False)
        intro = QtWidgets.QLabel(
            tr(
                "Each of these frames is edited with the same words and the same seed. Frames that show the same are "
                "edited once. The results become one layer with keyframes."
            )
        )
        intro.setWordWrap(True)
        self.first, self.last = QtWidgets.QSpinBox(), QtWidgets.QSpinBox()
        for box in (self.first, self.last):
            box.setRange(0, MOST_FRAMES)
            box.valueChanged.connect(lambda _: self._refresh())
        self.count = QtWidgets.QLabel()
        self.count.setWordWrap(True)
        self.edit = QtWidgets.QPushButton(tr("Edit"))
        self.edit.clicked.connect(self._edit)
        self.cancel = QtWidgets.QPushButton(tr("Cancel"))
        self.cancel.clicked.connect(self.close)
        layout = QtWidgets.QVBoxLayout(self)
        layout.addWidget(intro)
        form = QtWidgets.QFormLayout()
        form.addRow(tr("From frame"), self.first)
        form.addRow(tr("To frame"), self.last)
        layout.addLayout(form)
        layout.addWidget(self.count, 1)
        layout.addLayout(row(None, self.edit, self.cancel))
        self.edit.setDefault(True)
        app.session_changed.connect(lambda _: self._begin())
        self.resize(380, 200)
        self._begin()

    def _begin(self) -> None:
        """The range of the picture in front."""
        try:
            first, last = self._app.canvas.frame_range()
        except CanvasRefusal:
            first, last = 0, 0
        for box, value in ((self.first, first), (self.last, last)):
            box.blockSignals(True)
            box.setValue(value)
            box.blockSignals(False)
        self._refresh()

    def _refresh(self) -> None:
        first, last = self.first.value(), self.last.value()
        count = 0
        if first > last:
            text = tr("The first frame comes after the last.")
        else:
            try:
                count = len(self._app.frames(first, last))
                text = tr("Edits: {count}", count=count)
            except CanvasRefusal as refusal:
                text = refusal.sentence
        self.count.setText(text)
        self.edit.setEnabled(count > 0)

    def _edit(self) -> None:
        self._app.edit_frames(self.first.value(), self.last.value())
        self.close()
