"""The two buttons, which become a progress bar and Cancel while something is done."""

from __future__ import annotations

from ...model.progress import Activity
from ...qt import QtCore, QtGui, QtWidgets, Signal
from ...translation import tr
from .pieces import SPACING, ElidedLabel, quiet, row, tool_button

PREVIEW_HEIGHT = 120  # px
BAR_STEPS = 1000
BAR_LEAST = 24  # px


class PreviewPicture(QtWidgets.QWidget):
    """What the picture is becoming, as large as there is room for."""

    def __init__(self) -> None:
        super().__init__()
        self._image: QtGui.QImage | None = None
        self.setFixedHeight(PREVIEW_HEIGHT)

    def show_image(self, image: QtGui.QImage | None) -> None:
        self._image = image
        self.setVisible(image is not None)
        self.update()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        if self._image is None:
            return
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.SmoothPixmapTransform)
        size = self._image.size().scaled(self.size(), QtCore.Qt.AspectRatioMode.KeepAspectRatio)
        target = QtCore.QRect(QtCore.QPoint(0, 0), size)
        target.moveCenter(self.rect().center())
        painter.drawImage(target, self._image)
        painter.end()


class MaskInUse(QtWidgets.QWidget):
    """Says that the next edit uses a mask of the artist. `left()`: they want it found again."""

    left = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.text = ElidedLabel()
        close = tool_button("cross", tr("Do not use this mask: hide it"), self.left.emit)
        layout = row(self.text, 1, close)
        self.setLayout(layout)
        self.hide()

    def show_name(self, name: str) -> None:
        """Shows it, or nothing for ""."""
        self.setVisible(bool(name))
        if name:
            self.text.set_text(tr("Mask: “{name}” is used", name=name))


class RunRow(QtWidgets.QWidget):
    """`find_wanted()`, `edit_wanted()`, `repaint_wanted()`, `cancel_wanted()`."""

    find_wanted = Signal()
    edit_wanted = Signal()
    repaint_wanted = Signal()
    cancel_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.find = QtWidgets.QPushButton(tr("Find mask"))
        self.find.setToolTip(tr("Find what the two texts change, and show it (Shift+Enter)"))
        self.edit = QtWidgets.QPushButton(tr("Edit"))
        self.edit.setToolTip(tr("Find what changes and repaint it on a new layer (Enter)"))
        self.edit.setDefault(True)
        self.edit.setStyleSheet("QPushButton { font-weight: bold; }")
        self.cancel = QtWidgets.QPushButton(tr("Cancel"))
        self.cancel.setToolTip(tr("Cancel; nothing is changed (Esc)"))
        self.repaint_selection = QtWidgets.QPushButton(tr("Repaint all of it"))
        self.repaint_selection.setToolTip(tr("Repaint exactly what is selected, without finding a mask in it"))
        self.inside = quiet(ElidedLabel(tr("In selection")))
        self.inside.setToolTip(tr("Find mask and Edit work inside the selection"))
        for button, wanted in (
            (self.find, self.find_wanted),
            (self.edit, self.edit_wanted),
            (self.repaint_selection, self.repaint_wanted),
            (self.cancel, self.cancel_wanted),
        ):
            button.clicked.connect(lambda _=False, wanted=wanted: wanted.emit())
        self._idle, self._selection = True, False
        self.bar = QtWidgets.QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Preferred)
        self.bar.setMinimumWidth(BAR_LEAST)  # its own least would make the row wider than a narrow docker
        self.title = ElidedLabel()
        self.preview = PreviewPicture()
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACING)
        layout.addWidget(self.title)
        layout.addLayout(row(self.find, 1, self.edit, 1, self.bar, 2, self.cancel, 1))
        layout.addLayout(row(self.inside, 1, self.repaint_selection, 1))
        layout.addWidget(self.preview)
        self._starting = False
        self.show_activity(None)

    def buttons_height(self) -> int:
        """px that the row takes with a margin around, without the picture below the buttons."""
        preview = 0 if self.preview.isHidden() else self.preview.height() + SPACING
        return self.sizeHint().height() - preview + 2 * SPACING

    def show_starting(self, starting: bool) -> None:
        """A busy bar while the backend starts, unless something else is shown."""
        if starting != self._starting:
            self._starting = starting
            if self.title.isHidden():
                self.bar.setRange(0, 0)
                self.bar.setVisible(starting)

    def show_selection(self, selection: bool) -> None:
        """Offers to repaint the selection where there is one."""
        self._selection = selection
        for widget in (self.inside, self.repaint_selection):
            widget.setVisible(self._idle and selection)

    def show_activity(self, activity: Activity | None) -> None:
        self._idle = activity is None
        self.show_selection(self._selection)
        had_focus = any(button.hasFocus() for button in (self.find, self.edit, self.cancel))
        for widget in (self.find, self.edit):
            widget.setVisible(activity is None)
        for widget in (self.bar, self.cancel, self.title):
            widget.setVisible(activity is not None)
        if had_focus:
            (self.edit if activity is None else self.cancel).setFocus()
        if activity is None:
            self.preview.show_image(None)
            return
        self.title.set_text(activity.title)
        self.cancel.setEnabled(activity.phase != "cancelling" and (activity.phase != "adding" or activity.waits))
        if activity.share is None:
            self.bar.setRange(0, 0)  # busy, no telling how long
        else:
            self.bar.setRange(0, BAR_STEPS)
            self.bar.setValue(round(BAR_STEPS * activity.share))
