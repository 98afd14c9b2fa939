"""The plugin without Krita: under PyQt5 and PyQt6, each binding in a process of its own.

A run uses the binding that DIFFEDIT_TEST_QT names (5 is the default); `test_other_binding.py` runs the folder again
under the other one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

KRITAS_FONT = 13  # px: Krita's own at 96 dpi is 12
BINDING = os.environ.get("DIFFEDIT_TEST_QT", "5")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
if BINDING == "6":
    sys.modules["PyQt5"] = None  # type: ignore[assignment]  # as in Krita 6: importing it raises ModuleNotFoundError
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "krita_plugin")]

import diffedit  # noqa: E402, F401  (before the stand-in: the plugin must not register itself)
import fake_krita  # noqa: E402

sys.modules["krita"] = fake_krita

from diffedit.model.settings import Store  # noqa: E402
from diffedit.qt import QtCore, QtWidgets  # noqa: E402
from diffedit.translation import use_language  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def application() -> QtWidgets.QApplication:
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    font = application.font()
    font.setPixelSize(KRITAS_FONT)
    application.setFont(font)
    return application


@pytest.fixture(autouse=True)
def no_slot_raises(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An exception in a slot fails the test: Qt itself can only pass it to sys.excepthook (Krita's opens a dialog)."""
    raised: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: raised.append(error))
    yield
    if raised:
        raise raised[0]


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "en")
    use_language("en")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("DIFFEDIT_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def apps_end_with_their_test() -> Iterator[None]:
    """An app lives as long as Krita does; in a test it must not see the next one's documents."""
    yield
    from apps import delete_apps

    delete_apps()


@pytest.fixture
def store(home: Path) -> Store:
    return Store()


@pytest.fixture
def krita() -> Iterator[fake_krita.Krita]:
    """A Krita in which nothing is open."""
    yield fake_krita.Krita.instance()
    for document in fake_krita.Krita.instance().documents():
        document.close()


@pytest.fixture
def until() -> Callable[..., None]:
    """`until(condition)`: runs Qt's event loop until it holds; gives up after a minute, far beyond any wait."""

    def wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
        loop, timer = QtCore.QEventLoop(), QtCore.QTimer()
        timer.setInterval(5)
        timer.timeout.connect(lambda: loop.quit() if condition() else None)
        timer.start()
        QtCore.QTimer.singleShot(round(1000 * seconds), loop.quit)
        loop.exec()
        timer.stop()
        assert condition(), f"waited {seconds} s in vain"

    return wait
