"""The names of QtCore, QtGui and QtWidgets from the binding that this Krita has, e.g. `from .qt import QImage`.

PyQt5 in Krita 5, PyQt6 in Krita 6, which refuses `import PyQt5` with ModuleNotFoundError. Enums are written in full
(`Qt.Orientation.Vertical`), which both understand.
"""

try:
    from PyQt5 import QtCore, QtGui, QtWidgets
except ModuleNotFoundError:
    from PyQt6 import QtCore, QtGui, QtWidgets


def __getattr__(name):
    for module in (QtCore, QtGui, QtWidgets):
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(f"Neither QtCore nor QtGui nor QtWidgets has {name!r}.")
