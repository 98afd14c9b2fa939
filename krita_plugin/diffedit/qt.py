"""The one door to Qt: PyQt5 in Krita 5, PyQt6 in Krita 6.

Krita 6 refuses `import PyQt5` with ModuleNotFoundError, so the first binding that can be imported is Krita's own. Enums
are written in full (`QtCore.Qt.AlignmentFlag.AlignLeft`), which both bindings understand; what moved between them
stands below.
"""

from __future__ import annotations

try:
    from PyQt5 import QtCore, QtGui, QtWidgets, sip
    from PyQt5.QtWidgets import QAction, QActionGroup, QShortcut

    QT_MAJOR = 5
except ModuleNotFoundError:
    from PyQt6 import QtCore, QtGui, QtWidgets, sip
    from PyQt6.QtGui import QAction, QActionGroup, QShortcut

    QT_MAJOR = 6

Signal = QtCore.pyqtSignal
Slot = QtCore.pyqtSlot

__all__ = [
    "QT_MAJOR",
    "QAction",
    "QActionGroup",
    "QShortcut",
    "QtCore",
    "QtGui",
    "QtWidgets",
    "Signal",
    "Slot",
    "sip",
]
