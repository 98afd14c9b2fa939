"""Edits whose results may still be at the backend when Krita ends: noted on disk, and fetched at the next start."""

from __future__ import annotations

import base64
import dataclasses
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from diffedit_protocol.messages import Bounds, Cancelled, EditRequest, Event, Failed

from ..qt import QtCore, Signal
from .inputs import EditInputs
from .jobs import Job
from .payload import JobPayload, JobResult, LinkState
from .ports import Capture, Fingerprint, FrameSpan, Geometry, LayerRef
from .session import EditSession
from .settings import Store
from .thumbnails import Surroundings

NAME = "pending"  # in the store
MOST = 50
DAYS = 7.0
LARGEST_ALPHA = 1 << 20  # bytes, packed: of a layer that is not opaque


class FollowingClient(Protocol):
    """What this needs of `ClientThread`."""

    state: LinkState
    state_changed: Any
    job_event: Any
    job_finished: Any

    def follow(self, job: str) -> None: ...
    def settle(self, job: str) -> None: ...


@dataclass(frozen=True)
class PendingJob:
    """What is needed to offer the result of `job` later. `backend`: which one has it. `path`: the document's file, ""
    for one that was never saved. `alpha`: of what was sent, None where it was opaque. `base`: see `Surroundings`.
    `decided`: the seeds of results that were accepted or are not wanted. `layers`: by seed, the ids of layers that
    show others."""

    job: str
    backend: str
    path: str
    noted: float
    layer_ref: LayerRef
    area: Bounds
    inputs: EditInputs
    alpha: bytes | None
    base: str
    decided: tuple[int, ...] = ()
    layers: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, job: Job, backend: str, path: str) -> PendingJob | None:
        """None for a job that brings no result for the canvas."""
        capture, surroundings = job.capture, job.surroundings
        if job.task != "edit" or capture is None or surroundings is None:
            return None
        alpha = None if capture.channels == 3 else capture.pixels[3::4]
        ref, base = capture.layer_ref, surroundings.to_text()
        return cls(job.payload.job, backend, path, time.time(), ref, capture.area, job.inputs, alpha, base)

    def as_job(self, session: EditSession) -> Job:
        """The job as far as its result needs it, for a session of the document that it was begun in."""
        ref = dataclasses.replace(self.layer_ref, document_id=session.document_id, document_name=session.name)
        pixels, channels = b"", 3
        if self.alpha is not None:
            rgba = bytearray(4 * len(self.alpha))
            rgba[3::4] = self.alpha
            pixels, channels = bytes(rgba), 4
        capture = Capture(ref, self.area, channels, pixels, None, None, "", Fingerprint(self.area, 1, ()))
        payload = JobPayload(self.job, EditRequest(self.inputs.source, self.inputs.target, "edit"))
        return Job(session, self.inputs, capture, payload, Surroundings.from_text(self.base, self.area))

    def undecided(self, result: JobResult) -> JobResult | None:
        """What nobody decided on of a result of its job; None where that is nothing."""
        both = zip(result.manifest.edits, result.edits, strict=True)
        waiting = [(edit, pixels) for edit, pixels in both if edit.seed not in self.decided]
        if not waiting:
            return None
        edits, pixels = zip(*waiting, strict=True)
        return dataclasses.replace(result, manifest=dataclasses.replace(result.manifest, edits=edits), edits=pixels)

    def as_map(self) -> dict[str, Any] | None:
        """For JSON; None where its alpha would be too large to be noted."""
        packed = b"" if self.alpha is None else zlib.compress(self.alpha)
        if len(packed) > LARGEST_ALPHA:
            return None
        ref = dataclasses.asdict(self.layer_ref)
        if self.layer_ref.geometry is not None:
            ref["geometry"]["thumbnail"] = _text(self.layer_ref.geometry.thumbnail)
        values = {name: getattr(self, name) for name in ("job", "backend", "path", "noted", "base")}
        rest = {"layer_ref": ref, "area": dataclasses.asdict(self.area), "inputs": self.inputs.as_map()}
        results = {"decided": list(self.decided), "layers": [list(entry) for entry in self.layers.items()]}
        return {**values, **rest, **results, "alpha": _text(packed)}

    @classmethod
    def from_map(cls, values: dict[str, Any]) -> PendingJob:
        """Raises KeyError, TypeError or ValueError for what `as_map` did not make."""
        ref = dict(values["layer_ref"])
        ref["position"] = tuple(ref["position"])
        if ref["span"] is not None:
            ref["span"] = FrameSpan(**ref["span"])
        if (geometry := ref["geometry"]) is not None:
            thumbnail = base64.b64decode(geometry["thumbnail"])
            ref["geometry"] = Geometry(int(geometry["width"]), int(geometry["height"]), thumbnail)
        packed = base64.b64decode(values["alpha"])
        try:
            alpha = zlib.decompress(packed) if packed else None
        except zlib.error as error:
            raise ValueError("the alpha of a noted edit is damaged") from error
        words = {name: str(values[name]) for name in ("job", "backend", "path", "base")}
        inputs = EditInputs.from_map(values["inputs"])
        return cls(
            **words,
            noted=float(values["noted"]),
            layer_ref=LayerRef(**ref),
            area=Bounds(**values["area"]),
            inputs=inputs,
            alpha=alpha,
            decided=tuple(int(seed) for seed in values.get("decided", [])),
            layers={int(seed): str(layer_id) for seed, layer_id in values.get("layers", [])},
        )


class PendingJobs(QtCore.QObject):
    """Notes every edit until it is decided on. `arrived(PendingJob, JobResult)`: one of an earlier Krita is here.

    A result is kept at the backend until it is decided on (`settle`), or for as long as that keeps results.
    """

    arrived = Signal(object, object)

    def __init__(self, store: Store, client: FollowingClient, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._store = store
        self._client = client
        self._noted: dict[str, PendingJob] = {}
        self._earlier: dict[str, PendingJob] = _read(store.get(NAME, []))
        client.state_changed.connect(lambda _: self._link_changed())
        client.job_finished.connect(self._finished)
        client.job_event.connect(self._event)

    @property
    def earlier(self) -> Sequence[PendingJob]:
        """Those of an earlier Krita whose results are not here yet."""
        return tuple(self._earlier.values())

    def note(self, job: Job, path: str) -> None:
        """A job that was submitted now, for the document of that file."""
        pending = PendingJob.of(job, self._backend(), path)
        if pending is not None:
            self._noted[pending.job] = pending
            self._write()

    def moved(self, document_id: str, path: str) -> None:
        """The document is saved under another name now."""
        for job, pending in list(self._noted.items()):
            if pending.layer_ref.document_id == document_id and pending.path != path:
                self._noted[job] = dataclasses.replace(pending, path=path)
                self._write()

    def decide(self, job: str, seed: int) -> None:
        """That one of its results was taken or is not wanted: it is not offered at the next start."""
        pending = self._noted.get(job)
        if pending is not None and seed not in pending.decided:
            self._noted[job] = dataclasses.replace(pending, decided=(*pending.decided, seed))
            self._write()

    def show(self, job: str, seed: int, layer_id: str) -> None:
        """That one of its results is shown in this layer; "" for in none."""
        pending = self._noted.get(job)
        if pending is not None:
            layers = {**pending.layers, seed: layer_id}
            self._noted[job] = dataclasses.replace(pending, layers={s: i for s, i in layers.items() if i})
            self._write()

    def settle(self, job: str) -> None:
        """Its result was taken or is not wanted: the backend may forget it."""
        if self._forget(job):
            self._client.settle(job)

    def _forget(self, job: str) -> bool:
        known = self._noted.pop(job, None) or self._earlier.pop(job, None)
        if known is not None:
            self._write()
        return known is not None

    def _backend(self) -> str:
        state = self._client.state
        return "this machine" if state.local else state.host

    def _link_changed(self) -> None:
        if self._client.state.kind == "ready":
            for job, pending in self._earlier.items():
                if pending.backend == self._backend():
                    self._client.follow(job)

    def _finished(self, job: str, result: JobResult) -> None:
        pending = self._earlier.pop(job, None)
        if pending is None:
            return
        self._noted[job] = pending
        waiting = pending.undecided(result)
        if waiting is None:
            self.settle(job)
        else:
            self.arrived.emit(pending, waiting)

    def _event(self, job: str, event: Event) -> None:
        if isinstance(event, (Failed, Cancelled)):
            self._forget(job)  # also one that the backend does not know any more

    def _write(self) -> None:
        newest = [*self._earlier.values(), *self._noted.values()][-MOST:]
        self._store.put(NAME, [values for pending in newest if (values := pending.as_map()) is not None])


def _read(entries: object) -> dict[str, PendingJob]:
    found: dict[str, PendingJob] = {}
    for entry in entries if isinstance(entries, list) else []:
        try:
            pending = PendingJob.from_map(entry)
        except (KeyError, TypeError, ValueError):
            continue  # of another version: its result stays where it is
        if time.time() - pending.noted < DAYS * 86400:
            found[pending.job] = pending
    return found


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
