"""Runs one task: a function that came as source text, stepped by the event loop when it is a generator."""

import __future__

import inspect
import time
import traceback
from pathlib import Path

from .qt import QApplication, QDialog, QLabel, QTimer

DIALOG_SECONDS = 10.0
WAIT_SECONDS = 90.0  # ten times what a busy machine needs
POLL_MS = 10


class Task:
    """A function called with a Stage and its arguments; what it returns must fit into JSON.

    A generator function is stepped from the top of the event loop:
        yield 0.2                lets Krita run for 0.2 s
        yield condition          lets Krita run until condition() is true (90 s, else TimeoutError)
        yield condition, 300     the same with another limit
    Never nest an event loop instead (QEventLoop.exec, processEvents): Krita holds back node-added and node-removed
    meanwhile, a new layer cannot be made active, and what is seen is not what an artist gets.
    A modal dialog that holds a step up for 10 s is rejected and reported, unless the stage says `expect_dialogs`.
    """

    def __init__(self, described, stage, finished):
        self.described = described
        self.stage = stage
        self.finished = finished
        self.generator = None
        self.busy_since = None
        self.dialogs = []
        self.watchdog = QTimer()
        self.watchdog.setInterval(250)
        self.watchdog.timeout.connect(self.reject_dialog)

    def start(self):
        self.watchdog.start()
        self.step(self.call)

    def call(self):
        """Calls the function; like next() on a generator, it answers with a wish or raises StopIteration."""
        source = "\n" * (self.described["line"] - 1) + self.described["source"]
        names = {"__name__": "task", "__file__": self.described["file"], "Path": Path}
        # Its annotations name what its own module has imported.
        flags = __future__.annotations.compiler_flag
        exec(compile(source, self.described["file"], "exec", flags), names)
        value = names[self.described["function"]](self.stage, **self.described["arguments"])
        if not inspect.isgenerator(value):
            raise StopIteration(value)
        self.generator = value
        return next(value)

    def step(self, go):
        """One step, then the wait for what it yields. Every exception belongs to the task, SystemExit too."""
        self.busy_since = time.monotonic()
        try:
            wish = go()
        except StopIteration as stop:
            self.end(value=stop.value)
            return
        except BaseException:
            self.end(error=traceback.format_exc())
            return
        self.busy_since = None
        condition, limit = wish if isinstance(wish, tuple) else (wish, WAIT_SECONDS)
        if callable(condition):
            self.wait(condition, time.monotonic() + limit)
        else:
            QTimer.singleShot(int(1000 * (condition or 0)), lambda: self.step(lambda: next(self.generator)))

    def wait(self, condition, deadline):
        try:
            met = condition()
            if not met and time.monotonic() > deadline:
                raise TimeoutError("waited in vain")
        except BaseException as error:
            raised = error
            self.step(lambda: self.generator.throw(raised))
            return
        if met:
            self.step(lambda: next(self.generator))
        else:
            QTimer.singleShot(POLL_MS, lambda: self.wait(condition, deadline))

    def reject_dialog(self):
        dialog = QApplication.activeModalWidget()
        held = self.busy_since is not None and time.monotonic() - self.busy_since > DIALOG_SECONDS
        if dialog is None or not held or self.stage.expect_dialogs:
            return
        texts = [label.text() for label in dialog.findChildren(QLabel) if label.text()]
        self.dialogs.append({"class": type(dialog).__name__, "title": dialog.windowTitle(), "texts": texts[:8]})
        self.busy_since = time.monotonic()
        if isinstance(dialog, QDialog):
            dialog.reject()
        else:
            dialog.close()

    def end(self, value=None, error=None):
        self.watchdog.stop()
        self.stage.clear()
        self.finished({"value": value, "error": error, "dialogs": self.dialogs, "log": self.stage.lines})
