"""One edit on its way: capture, payload, events, result. Every session has at most one job; none waits for another's."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffedit_protocol.messages import Cancelled, EditRequest, Event, Failed, Preview, Progress, Queued, Started
from diffedit_protocol.requests import new_job_id

from ..backend.link import Link
from ..backend.payload import JobPayload, JobResult
from ..canvas.refusal import CanvasRefusal
from ..canvas.steps import StepRunner
from ..qt import QtCore, Signal
from ..translation import tr
from ..ui.thumbnails import Surroundings, image_of
from . import progress, sentences
from .inputs import MAX_SEED, EditInputs
from .progress import Activity
from .session import EditSession

if TYPE_CHECKING:
    from ..canvas.capture import Capture


@dataclass(frozen=True)
class Job:
    """A job that was handed to the link, with what its result needs. `own_mask`: its mask is the artist's.

    `capture` and `surroundings` are None for a job on words alone. `field`: of the inputs, that its words are for.
    """

    session: EditSession
    inputs: EditInputs
    capture: Capture | None
    payload: JobPayload
    surroundings: Surroundings | None
    own_mask: bool = False
    field: str = ""

    @property
    def task(self) -> str:
        return self.payload.request.task

    @property
    def kind(self) -> str:
        """What the weights of its stages are known by."""
        return "detailed" if self.payload.request.detail else self.task


class JobController(QtCore.QObject):
    """Signals: `arrived(Job, JobResult)` when a result is here. Everything else is written into the session."""

    arrived = Signal(object, object)

    def __init__(self, link: Link, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._link = link
        self._tickets: dict[str, Job] = {}
        self._captures: dict[EditSession, StepRunner] = {}
        link.uploaded.connect(self._uploaded)
        link.told.connect(self._told)
        link.arrived.connect(self._arrived)
        link.state_changed.connect(lambda state: self._link_changed())

    def busy(self) -> bool:
        return bool(self._tickets or self._captures)

    def begin(
        self,
        session: EditSession,
        task: str,
        inputs: EditInputs,
        capture_steps: Generator[None, None, Capture],
        *,
        model: str = "",
        preview: bool = True,
        mask_of: str = "kept",
        captions: int = 0,
    ) -> None:
        """Captures and submits. `mask_of`: "kept" uses a mask that the capture found on the layer, "selection" uses the
        selection as the mask, "none" lets the backend search. `captions`: of a description, how many to choose from; 0
        for one that becomes the first text."""
        session.notice = None
        session.activity = Activity(task, "reading")

        def captured(capture: Capture) -> None:
            self._captures.pop(session, None)
            mask = {"kept": capture.mask, "selection": capture.selection, "none": None}[mask_of]
            if mask_of == "selection" and mask is None:
                sentence = tr("Select something first: Edit Selection repaints exactly what is selected.")
                refused(CanvasRefusal("NO_SELECTION", sentence))
                return
            request = inputs.request(task, model=model, preview=preview)
            if captions:
                request = dataclasses.replace(request, variations=captions)
            payload = JobPayload(
                new_job_id(),
                request,
                capture.area.width,
                capture.area.height,
                capture.channels,
                capture.pixels,
                None if mask_of == "selection" else capture.selection,
                mask,
            )
            base = Surroundings(capture.pixels, capture.area, capture.channels)
            own_mask = mask_of == "kept" and mask is not None
            self._submit(Job(session, inputs, capture, payload, base, own_mask, "source" if captions else ""))

        def refused(refusal: CanvasRefusal) -> None:
            self._captures.pop(session, None)
            session.activity = None
            session.notice = sentences.of_refusal(refusal.sentence)

        self._captures[session] = StepRunner(capture_steps, captured, refused, self)

    def suggest(self, session: EditSession, inputs: EditInputs, field: str, count: int) -> None:
        """Asks for up to `count` wordings of the inputs' text `field`."""
        session.notice = None
        text = getattr(inputs, field).strip()
        request = EditRequest(text, "", "suggest", seed=secrets.randbelow(MAX_SEED), variations=count)
        self._submit(Job(session, inputs, None, JobPayload(new_job_id(), request), None, field=field))

    def again(self, ticket: Job, inputs: EditInputs) -> None:
        """Submits the pixels and the mask of `ticket` with another seed: the backend has all but the edit itself."""
        request = dataclasses.replace(ticket.payload.request, seed=inputs.seed, variations=inputs.variations)
        payload = dataclasses.replace(ticket.payload, job=new_job_id(), request=request)
        ticket.session.notice = None
        self._submit(dataclasses.replace(ticket, inputs=inputs, payload=payload))

    def cancel(self, session: EditSession) -> None:
        """Ends what runs for `session`, at its next step."""
        runner = self._captures.pop(session, None)
        if runner is not None:
            runner.stop()
            session.activity = None
        for job, ticket in self._tickets.items():
            if ticket.session is session:
                session.activity = Activity(ticket.task, "cancelling", job)
                self._link.cancel(job)

    def _submit(self, ticket: Job) -> None:
        self._tickets[ticket.payload.job] = ticket
        ticket.session.activity = Activity(ticket.task, "sending", ticket.payload.job, own_mask=ticket.own_mask)
        self._link.submit(ticket.payload)
        self._link_changed()

    def _link_changed(self) -> None:
        """Tells every session that waits for its job that the link is not up, and when it is up again."""
        notice = sentences.of_link(self._link.state)
        before, after = ("linking", "sending") if self._link.state.kind == "ready" else ("sending", "linking")
        for job, ticket in self._tickets.items():
            ticket.session.notice = notice
            if ticket.session.activity.phase == before:
                self._update(job, phase=after)

    def _uploaded(self, job: str, sent: int, total: int) -> None:
        if job in self._tickets:
            self._update(job, phase="sending", fraction=0.02 * sent / max(1, total))

    def _told(self, job: str, event: Event) -> None:
        ticket = self._tickets.get(job)
        if ticket is None:
            return
        session = ticket.session
        match event:
            case Queued(position):
                self._update(job, phase="waiting", ahead=position)
            case Started():
                self._update(job, phase="working", ahead=0)
            case Progress(stage, step, total, seconds_left):
                share = max(progress.fraction(ticket.kind, event), session.activity.fraction or 0.0)
                values = {"stage": stage, "step": step, "total": total, "seconds_left": seconds_left}
                self._update(job, phase="working", fraction=share, **values)
            case Preview(width, height, rgb):
                session.preview = image_of(rgb, width, height, 3)
            case Failed(error):
                self._close(job)
                size = f"{ticket.payload.width} × {ticket.payload.height}"
                words = {"source": ticket.inputs.source, "target": ticket.inputs.target}
                session.notice = sentences.of_error(error, self._link.state, size=size, **words)
            case Cancelled():
                self._close(job)
                session.notice = sentences.Notice("info", tr("Cancelled. Nothing was changed."))

    def _arrived(self, job: str, result: JobResult) -> None:
        ticket = self._tickets.get(job)
        if ticket is not None:
            self._close(job)
            self.arrived.emit(dataclasses.replace(ticket, inputs=ticket.inputs.without(result.left_out)), result)

    def _update(self, job: str, **values: Any) -> None:
        session = self._tickets[job].session
        if session.activity is not None and session.activity.phase != "cancelling":
            session.activity = dataclasses.replace(session.activity, **values)

    def _close(self, job: str) -> None:
        ticket = self._tickets.pop(job)
        ticket.session.activity = None
        ticket.session.notice = None
