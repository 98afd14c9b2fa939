"""Takes tasks from a folder, one at a time, and leaves their results there."""

import json
import os
import sys
import threading
import traceback
from pathlib import Path

from krita import Extension, Krita

from .qt import QTimer
from .stage import Stage
from .tasks import Task

POLL_MS = 20


def write_json(path, value):
    """Atomically: the reader sees the whole file or none."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value))
    os.replace(partial, path)


class Driver(Extension):
    """Says `ready.json` when the first window stands, then answers `N.task.json` with `N.result.json`."""

    def __init__(self, parent):
        super().__init__(parent)
        self.folder = Path(os.environ["DIFFEDIT_DRIVER"])
        self.task = None
        self.uncaught = []
        self.timer = None

    def setup(self):
        pass

    def createActions(self, window):
        if self.timer is None:
            self.timer = QTimer()
            self.timer.setInterval(POLL_MS)
            self.timer.timeout.connect(self.wait_for_window)
            self.timer.start()

    def wait_for_window(self):
        window = Krita.instance().activeWindow()
        if window is None or window.qwindow() is None or not window.qwindow().isVisible():
            return
        self.timer.timeout.disconnect(self.wait_for_window)
        self.timer.timeout.connect(self.look)
        # Krita's own hook opens a modal dialog, from a worker thread too, where that may crash.
        sys.excepthook = self.report_uncaught
        threading.excepthook = lambda args: self.report_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
        write_json(self.folder / "ready.json", {"pid": os.getpid(), "python": sys.version.split()[0]})

    def report_uncaught(self, kind, error, trace):
        self.uncaught.append("".join(traceback.format_exception(kind, error, trace)))
        print(self.uncaught[-1], file=sys.stderr, flush=True)

    def look(self):
        """Starts the next task when none runs."""
        waiting = sorted(self.folder.glob("*.task.json"))
        if self.task is not None or not waiting:
            return
        path = waiting[0]
        described = json.loads(path.read_text())
        path.unlink()
        self.task = Task(described, Stage(), lambda outcome: self.finish(path, outcome))
        self.task.start()

    def finish(self, path, outcome):
        self.task = None
        outcome["uncaught"], self.uncaught = self.uncaught, []
        write_json(path.with_name(path.name.replace(".task.", ".result.")), outcome)
