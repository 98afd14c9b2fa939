"""A person's hands: mouse and keyboard on Krita's virtual screen, through xdotool; and eyes for the docker."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from diffedit_backend.krita.install import needed_program
from diffedit_krita_driver.backend_process import BackendProcess
from diffedit_krita_driver.display import screenshot
from diffedit_krita_driver.remote import RemoteKrita

STEP_SECONDS = 0.15  # s between two movements: a person is slower


class Hands:
    """`clicks`, `keys`: what was done so far; a shortcut is one key, a text one for each character."""

    def __init__(self, krita: RemoteKrita) -> None:
        self.clicks = self.keys = 0
        self._krita = krita
        self._program = str(needed_program("xdotool", "xdotool"))

    def click(self, widget: str, times: int = 1) -> None:
        """On the middle of a widget of the docker, by its path from the panel: "run.edit"."""
        self.click_at(self._krita.run(_middle_of, path=widget), times)

    def click_at(self, place: Sequence[float], times: int = 1) -> None:
        """At x, y of the screen."""
        x, y = map(round, place)
        self._do("mousemove", x, y, "click", "--repeat", times, "--delay", 80, 1)
        self.clicks += times

    def drag(self, widget: str, start: float, end: float) -> None:
        """The mouse, held down, along a widget's width: 0 is its left, 1 its right."""
        left, right, y = self._krita.run(_span_of, path=widget)
        at = [round(left + share * (right - left)) for share in (start, end)]
        self._do("mousemove", at[0], y, "mousedown", 1)
        for step in range(1, 9):
            self._do("mousemove", round(at[0] + step * (at[1] - at[0]) / 8), y)
        self._do("mouseup", 1)

    def paint(self, start: tuple[float, float], end: tuple[float, float], steps: int = 12) -> None:
        """The mouse, held down, over the canvas: places as shares of the canvas's width and height on the screen."""
        left, top, width, height = self._krita.run(_canvas)
        at = [(round(left + x * width), round(top + y * height)) for x, y in (start, end)]
        self._do("mousemove", *at[0], "mousedown", 1)
        for step in range(1, steps + 1):
            self._do("mousemove", *(round(a + step * (b - a) / steps) for a, b in zip(*at, strict=True)))
        self._do("mouseup", 1)

    def touch_canvas(self) -> None:
        """A click on the canvas with the middle button: the focus goes there, and nothing is painted."""
        left, top, width, height = self._krita.run(_canvas)
        self._do("mousemove", round(left + 0.6 * width), round(top + 0.6 * height), "click", 2)

    def type(self, text: str) -> None:
        self._do("type", "--delay", 12, text)
        self.keys += len(text)

    def key(self, *names: str) -> None:
        """e.g. "Return", "shift+Return", "ctrl+alt+e"."""
        self._do("key", "--clearmodifiers", *names)
        self.keys += len(names)

    def replace(self, widget: str, text: str) -> None:
        """Click, select all, type."""
        self.click(widget)
        self.key("ctrl+a")
        self.type(text)

    def _do(self, *words: object) -> None:
        environment = {**os.environ, "DISPLAY": self._krita.process.display}
        subprocess.run([self._program, *map(str, words)], env=environment, check=True, timeout=120)
        time.sleep(STEP_SECONDS)
        self._krita.run(_turns)


def _turns(stage):
    """What the hands did is handled: the screen's server answers a question after what it had to tell before."""
    from diffedit_driver.qt import QCursor

    for _ in range(4):
        QCursor.pos()
        yield 0.005


@contextmanager
def held(backend: BackendProcess) -> Iterator[list[int]]:
    """Halts the backend's workers, whose ids it gives: a job that is begun meanwhile lasts until the block is left."""
    workers = workers_of(backend)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + 60
        while not all(map(_has_stopped, workers)):
            assert time.monotonic() < deadline, f"Not all of {workers} have stopped."
            time.sleep(0.01)
        yield workers
    finally:
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGCONT)


def _has_stopped(process: int) -> bool:
    """Every thread of it: another core may still run one when the signal was sent."""
    threads = Path(f"/proc/{process}/task").glob("*/stat")
    try:
        return {thread.read_text().rpartition(")")[2].split()[0] for thread in threads} == {"T"}
    except (FileNotFoundError, ProcessLookupError):  # a thread ended just now
        return False


def workers_of(backend: BackendProcess) -> list[int]:
    """The ids of the processes that hold the model; there is at least one."""
    threads = Path(f"/proc/{backend.pid}/task").glob("*/children")
    children = [int(child) for thread in threads for child in thread.read_text().split()]
    workers = [child for child in children if b"diffedit_backend.worker" in _command_of(child)]
    assert workers, f"The backend {backend.pid} has no worker."
    return workers


def _command_of(process: int) -> bytes:
    """b"" for one that ends just now."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def until(krita: RemoteKrita, condition: Callable[..., object], limit: float = 300.0, **arguments: object) -> object:
    """Looks until `condition(stage, ...)`, evaluated in Krita, is true, and returns what it said."""
    deadline = time.monotonic() + limit
    while not (shown := krita.run(condition, **arguments)):
        if time.monotonic() > deadline:
            shot = krita.folder / f"{condition.__name__}.png"
            screenshot(krita.process.display, shot)
            raise AssertionError(f"{condition.__name__} {arguments} did not come true in {limit:.0f} s, see {shot}")
        time.sleep(0.1)
    return shown


def is_working(stage):
    """A worker has the job: it began, or will as soon as it is let go."""
    from diffedit.extension import extension

    activity = extension().app.session.activity
    return activity is not None and activity.phase == "working"


def is_cancelling(stage):
    from diffedit.extension import extension

    activity = extension().app.session.activity
    return activity is not None and activity.phase == "cancelling"


def at_rest(stage):
    from diffedit.extension import extension

    return extension().app.session.activity is None


def show_docker(stage):
    """The docker beside the layers, in a window as large as the screen; words empty, nothing folded.

    An empty sheet is opened where there is no picture: from 5.2 on Krita hides its dockers then, and lays them out anew
    with the first one.
    """
    from diffedit.extension import DOCKER_ID
    from diffedit_driver.qt import QDockWidget, Qt

    if stage.document is None:
        yield from stage.new(64, 64)
    window = stage.window()
    window.setGeometry(window.screen().geometry())
    docks = {dock.objectName(): dock for dock in window.findChildren(QDockWidget)}
    for name, dock in docks.items():
        dock.setVisible(name in ("ToolBox", "KisLayerBox", DOCKER_ID))
    ours, layers = docks[DOCKER_ID], docks["KisLayerBox"]
    ours.setFloating(False)
    for dock in (ours, layers):
        window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    window.splitDockWidget(ours, layers, Qt.Orientation.Vertical)
    window.resizeDocks([ours, layers], [280, 280], Qt.Orientation.Horizontal)
    window.resizeDocks([ours, layers], [620, 180], Qt.Orientation.Vertical)
    window.activateWindow()
    yield 0.5


def _canvas(stage):
    from diffedit_driver.qt import QWidget

    found = stage.window().centralWidget().findChildren(QWidget)
    canvas = next(w for w in found if w.metaObject().className() == "KisQPainterCanvas" and w.isVisible())
    place = canvas.mapToGlobal(canvas.rect().topLeft())
    return place.x(), place.y(), canvas.width(), canvas.height()


def _middle_of(stage, path):
    from diffedit.extension import DOCKER_ID
    from diffedit_driver.qt import QDockWidget

    widget = panel = stage.window().findChild(QDockWidget, DOCKER_ID).panel
    for name in path.split("."):
        if isinstance(widget, dict):
            widget = widget[name]
        else:
            widget = widget[int(name)] if name.isdigit() else getattr(widget, name)
    places = [None, None]

    def rests():
        """It can be clicked on, and no notice or row that comes or goes moves it any more."""
        panel.ensureWidgetVisible(widget)
        point = widget.mapToGlobal(widget.rect().center())
        places[:] = [places[1], (point.x(), point.y())]
        return widget.isVisible() and widget.isEnabled() and places[0] == places[1]

    yield 0.1
    try:
        yield rests
    except TimeoutError:
        shown = "moves" if widget.isEnabled() else "is not enabled"
        raise AssertionError(f"{path} {shown if widget.isVisible() else 'is not visible'}") from None
    return places[1]


def _span_of(stage, path):
    from diffedit.extension import DOCKER_ID
    from diffedit_driver.qt import QDockWidget

    widget = panel = stage.window().findChild(QDockWidget, DOCKER_ID).panel
    for name in path.split("."):
        widget = widget[int(name)] if name.isdigit() else getattr(widget, name)
    panel.ensureWidgetVisible(widget)
    yield 0.1
    left, right = widget.mapToGlobal(widget.rect().topLeft()), widget.mapToGlobal(widget.rect().bottomRight())
    return left.x(), right.x(), (left.y() + right.y()) // 2


def fresh_sheet(stage, picture):
    """In Krita: `picture` alone is open; the docker is as at first, but for draft quality and a fixed seed."""
    from diffedit.extension import DOCKER_ID, extension
    from diffedit.model.inputs import EditInputs
    from diffedit_driver.qt import QDockWidget

    yield from stage.close_all()
    yield 0.2
    yield from stage.open(picture)
    app = extension().app
    yield lambda: app.session.document_id != ""
    app.session.offer((), -1)  # results that waited when the picture was closed come back with it
    app.store.put("inputs", {})
    app.store.change(mask_form="overlay")
    app.session.inputs = EditInputs(quality="draft", seed=41, seed_locked=True)
    app.session.notice = None
    panel = stage.window().findChild(QDockWidget, DOCKER_ID).panel
    for name, part in panel.parts.items():
        part.fold.heading.setChecked(name == "results")
    yield 0.2
