"""What is shown instead of the plugin when a part of it is missing: Krita itself would only grey it out."""

from __future__ import annotations

from krita import DockWidget, DockWidgetFactory, DockWidgetFactoryBase, Krita

from .qt import QtCore, QtWidgets

_sentence = ""


class MissingPartDocker(DockWidget):
    """Says what is missing and what to do."""

    def __init__(self) -> None:
        super().__init__()
        self.setWindowTitle("DiffEdit")
        label = QtWidgets.QLabel(_sentence)
        label.setWordWrap(True)
        label.setMargin(8)
        label.setAlignment(QtCore.Qt.AlignmentFlag.AlignTop)
        label.setTextInteractionFlags(QtCore.Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setWidget(label)

    def canvasChanged(self, canvas: object) -> None:
        """Nothing here depends on the canvas."""


def register_notice(sentence: str) -> None:
    global _sentence
    _sentence = sentence
    factory = DockWidgetFactory("diffedit_docker", DockWidgetFactoryBase.DockPosition.DockRight, MissingPartDocker)
    Krita.instance().addDockWidgetFactory(factory)
