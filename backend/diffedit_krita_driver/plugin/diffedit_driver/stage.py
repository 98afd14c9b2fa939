"""What a task gets: Krita, ways to wait for it, and a stopwatch for its main thread."""

import time
from itertools import pairwise

from krita import Krita

from .qt import QApplication, QDialog, QTimer

LAYER_DOCKER_SECONDS = 0.3


class Heartbeat:
    """Measures how long the main thread was away: the longest time between two beats that are due every millisecond."""

    def __init__(self):
        self.beats = [time.perf_counter()]
        self.timer = QTimer()
        self.timer.setInterval(1)
        self.timer.timeout.connect(self.beat)
        self.timer.start()

    def beat(self):
        self.beats.append(time.perf_counter())

    def stop(self):
        """-> the longest stall in ms since the start."""
        self.beat()
        self.timer.stop()
        return self.longest()

    def longest(self, start=0.0, end=0.0):
        """-> the longest stall in ms, of each only what lies outside `start` to `end`, in seconds of perf_counter."""

        def outside(before, after):
            return after - before - max(0.0, min(after, end) - max(before, start))

        return 1000 * max(outside(*gap) for gap in pairwise(self.beats))


class Stage:
    """Krita as a task sees it."""

    def __init__(self):
        self.app = Krita.instance()
        self.expect_dialogs = False  # true: the task handles dialogs itself
        self.lines = []
        self.kept = []

    def log(self, *words):
        line = " ".join(str(word) for word in words)
        self.lines.append(line)
        print("[driver]", line, flush=True)

    def keep(self, thing):
        """Holds a reference until the task ends, for a Qt object that must outlive a step."""
        self.kept.append(thing)
        return thing

    def clear(self):
        self.kept.clear()

    @property
    def document(self):
        return self.app.activeDocument()

    def window(self):
        return self.app.activeWindow().qwindow()

    def new(self, width, height, model="RGBA", depth="U8", profile="sRGB-elle-V2-srgbtrc.icc", name="sheet"):
        """`document = yield from stage.new(...)`: an empty document with a view, its first layer active."""
        document = self.app.createDocument(width, height, name, model, depth, profile, 120.0)
        return (yield from self.show(document))

    def open(self, path):
        """`document = yield from stage.open(path)`, without questions (a PNG of 16 bits would ask for a profile)."""
        self.app.setBatchmode(True)
        try:
            document = self.app.openDocument(str(path))
        finally:
            self.app.setBatchmode(False)
        if document is None:
            raise FileNotFoundError(f"Krita could not open {path}")
        return (yield from self.show(document))

    def show(self, document):
        self.app.activeWindow().addView(document)
        self.app.setActiveDocument(document)
        yield lambda: self.document is not None and self.document == document and document.activeNode() is not None
        yield from self.settle()
        return document

    def settle(self, document=None):
        """`yield from stage.settle()`: strokes and queued signals are done. It refreshes nothing: what is seen after it
        is what an artist sees."""
        document = document or self.document
        document.waitForDone()
        yield 0
        document.waitForDone()
        yield 0.02

    def add(self, node, parent=None):
        """`yield from stage.add(node)`: adds a layer to the document, on top, or to a group `parent`.

        One in a turn of the event loop, as the plugin does: Krita 5.1 crashed once as a layer was added to a group in
        the turn in which the group was added.
        """
        (self.document.rootNode() if parent is None else parent).addChildNode(node, None)
        yield from self.settle()

    def refresh(self, document=None):
        """`yield from stage.refresh()` after a test's own setPixelData, which Krita does not draw by itself."""
        (document or self.document).refreshProjection()
        yield from self.settle(document)

    def undo(self, times=1, action="edit_undo"):
        """`yield from stage.undo(2)`. Krita drops an undo silently while the image is busy, so wait around each."""
        for _ in range(times):
            self.document.waitForDone()
            yield 0
            self.document.waitForDone()
            self.app.action(action).trigger()
            self.document.waitForDone()
            yield 0.02

    def redo(self, times=1):
        yield from self.undo(times, "edit_redo")

    def run(self, steps):
        """`value = yield from stage.run(steps)`: a plugin's generator, one turn of the event loop per step."""
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return stop.value
            yield 0

    def save(self, path, document=None):
        document = document or self.document
        document.setBatchmode(True)
        if not document.saveAs(str(path)):
            raise OSError(f"Krita could not save {path}")

    def grab(self, path, widget=None):
        """A picture of the window or of one widget, painted by Qt."""
        (widget or self.window()).grab().save(str(path))

    def dialogs(self):
        return [w for w in QApplication.topLevelWidgets() if isinstance(w, QDialog) and w.isVisible()]

    def close_all(self):
        """`yield from stage.close_all()`: closes every document without a question."""
        # Krita 5.1 crashes in KisNodeModel::processUpdateQueue when a document goes within moments of a change of its
        # layers or its selection, sooner than a person could close it.
        yield LAYER_DOCKER_SECONDS
        for document in self.app.documents():
            document.setBatchmode(True)
            document.waitForDone()
            document.setModified(False)
            document.close()
        yield lambda: not self.app.documents()
