"""A app with a link that the test answers, and pictures to edit."""

from __future__ import annotations

from collections.abc import Callable

import fake_krita
import numpy as np
from diffedit.app import App
from diffedit.model.payload import JobPayload, JobResult, LinkState
from diffedit.model.settings import Store
from diffedit.qt import QtCore, Signal
from diffedit_protocol.blobs import pack_picture, pack_plane
from diffedit_protocol.messages import Bounds, EditResult, Event, Manifest
from diffedit_protocol.replies import ModelInfo, ServerInfo
from numpy.typing import NDArray

READY = LinkState("ready", "this machine", True, ServerInfo("0.1.0", "boot", (ModelInfo("bundled"),), "a device"))


class ScriptedLink(QtCore.QObject):
    """A link without a thread: keeps the payloads, and tells what the test wants told."""

    state_changed = Signal(object)
    uploaded = Signal(str, object, object)
    delayed = Signal(str, float)
    job_event = Signal(str, object)
    job_finished = Signal(str, object)

    def __init__(self) -> None:
        super().__init__()
        self.state = READY
        self.payloads: list[JobPayload] = []
        self.cancelled: list[str] = []
        self.followed: list[str] = []
        self.settled: list[str] = []
        self.reconnects = 0

    @property
    def last(self) -> JobPayload:
        return self.payloads[-1]

    def open(self) -> None:
        """Is up."""

    def close(self) -> bool:
        return True

    def submit(self, payload: JobPayload) -> None:
        self.payloads.append(payload)

    def cancel(self, job: str) -> None:
        self.cancelled.append(job)

    def follow(self, job: str) -> None:
        self.followed.append(job)

    def settle(self, job: str) -> None:
        self.settled.append(job)

    def reconnect(self) -> None:
        self.reconnects += 1

    def become(self, state: LinkState) -> None:
        self.state = state
        self.state_changed.emit(state)

    def report(self, event: Event) -> None:
        self.job_event.emit(self.last.job, event)

    def finish(
        self,
        soft: NDArray[np.uint8] | None,
        threshold: float = 0.5,
        notes: tuple = (),
        left_out: tuple = (),
        before: int = 0,
        ground: bool = False,
    ) -> None:
        """Brings the result of the last payload: the mask is `soft` cut at `threshold` (the payload's own mask without
        a `soft`), and variation i after the `before` that are here has the grey value 10 (i + 1)."""
        payload = self.last
        shape = (payload.height, payload.width)
        if soft is None:
            mask = np.frombuffer(payload.mask, np.uint8).reshape(shape)
        else:
            mask = np.where(soft >= round(threshold * 255), 255, 0).astype(np.uint8)
        rows, columns = np.nonzero(mask)
        left, top = int(columns.min()), int(rows.min())
        bounds = Bounds(left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top)
        alpha = mask[top : top + bounds.height, left : left + bounds.width]
        edits, pixels = [], []
        for i in range(payload.request.variations if payload.request.task == "edit" else 0):
            grey = np.full((*alpha.shape, 3), 10 * (before + i + 1), np.uint8)
            pixels.append(np.dstack((grey, alpha)).tobytes())
            reference, _ = pack_picture(np.dstack((grey, alpha)).tobytes(), bounds.width, bounds.height, 4)
            edits.append(EditResult(payload.request.seed + i, reference))
        reference, _ = pack_plane(mask.tobytes(), payload.width, payload.height)
        manifest = Manifest(
            reference, bounds, threshold, edits=tuple(edits), model="bundled", notes=notes, ground=ground
        )
        plane = None if soft is None else soft.tobytes()
        self.job_finished.emit(payload.job, JobResult(manifest, mask.tobytes(), plane, tuple(pixels), left_out))


def finish_all(app: App, link: ScriptedLink, until: Callable[[Callable[[], bool]], None]) -> None:
    """Answers an edit, and then its further variations, which are asked for when the first one is shown."""

    def rests_or_sends() -> bool:
        return app.session.activity is None or app.session.activity.phase == "sending"

    link.finish(square())
    until(rests_or_sends)
    if app.session.activity is not None:
        link.finish(square(), before=1)
    until(lambda: app.session.activity is None)


_made: list[App] = []


def delete_apps() -> None:
    """Ends what `make_app` made: the timers of an app that is left over look at the next test's documents."""
    while _made:
        _made.pop().deleteLater()
    QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)


def make_app(store: Store, input: str = "layer") -> tuple[App, ScriptedLink]:
    """`input`: what an edit works on; the stand-in mixes no half-transparent layers."""
    store.change(input=input)
    link = ScriptedLink()
    app = App(store, link)
    _made.append(app)
    return app, link


def open_picture(name: str = "sketch", width: int = 64, height: int = 48) -> fake_krita.Document:
    """A document whose layer is opaque noise; it is the active one."""
    krita = fake_krita.Krita.instance()
    document = krita.createDocument(width, height, name, *fake_krita.SRGB, 72.0)
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 4), np.uint8)
    pixels[..., 3] = 255
    document.activeNode().setPixelData(pixels.tobytes(), 0, 0, width, height)
    krita.setActiveDocument(document)
    return document


def square(width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """A soft map: 200 in the square, 100 in a ring of 3 px around it, 20 elsewhere."""
    area = Bounds(10, 12, 20, 16)
    soft = np.full((height, width), 20, np.uint8)
    soft[area.y - 3 : area.bottom + 3, area.x - 3 : area.right + 3] = 100
    soft[area.y : area.bottom, area.x : area.right] = 200
    return soft


def layer_names(document: fake_krita.Document) -> list[str]:
    return [node.name() for node in document.topLevelNodes()]
