"""One edit on its way: capture, payload, events, result. Every session has at most one job; none waits for another."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from diffedit_protocol.messages import Cancelled, EditRequest, Event, Failed, Preview, Progress, Queued, Started, Task
from diffedit_protocol.requests import new_job_id

from ..qt import QtCore, Signal
from ..translation import tr
from . import progress, sentences
from .inputs import MAX_SEED, EditInputs
from .payload import JobPayload, JobResult, LinkState
from .ports import Capture
from .progress import Activity
from .session import EditSession
from .steps import CanvasRefusal, StepRunner
from .thumbnails import Surroundings, image_of

MaskOf = Literal["none", "kept", "selection"]


class JobClient(Protocol):
    """What carries jobs to the backend, with the signals of `ClientThread`."""

    state: LinkState
    state_changed: Any
    uploaded: Any
    delayed: Any
    job_event: Any
    job_finished: Any

    def submit(self, payload: JobPayload) -> None: ...
    def cancel(self, job: str) -> None: ...


@dataclass(frozen=True)
class JobOptions:
    """How a job is begun. `mask_of`: "kept" uses a mask that the capture found on the layer, "selection" uses the
    selection as the mask, "none" lets the backend search. `captions`: of a description, how many to choose from; 0 for
    one that becomes the first text."""

    model: str = ""
    preview: bool = True
    mask_of: MaskOf = "kept"
    captions: int = 0


@dataclass(frozen=True)
class Job:
    """A job that was handed to the client, with what its result needs. `own_mask`: its mask is the artist's.

    `capture` and `surroundings` are None for a job on words alone. `field`: of the inputs, that its words are for.
    `rest`: how many variations are to follow this one. `follows`: the job brings those ("rest"), or one more of an
    edit that is done ("more").
    """

    session: EditSession
    inputs: EditInputs
    capture: Capture | None
    payload: JobPayload
    surroundings: Surroundings | None
    own_mask: bool = False
    field: str = ""
    rest: int = 0
    follows: Literal["", "rest", "more"] = ""

    @property
    def task(self) -> Task:
        return self.payload.request.task

    @property
    def kind(self) -> progress.Kind:
        """What the weights of its stages are known by."""
        return "detailed" if self.payload.request.detail else self.task


class JobController(QtCore.QObject):
    """Signals: `submitted(Job)`; `job_finished(Job, JobResult)` when a result is here. Everything else is written into
    the session."""

    submitted = Signal(object)
    job_finished = Signal(object, object)

    def __init__(self, client: JobClient, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._client = client
        self._jobs: dict[str, Job] = {}
        self._captures: dict[EditSession, StepRunner] = {}
        client.uploaded.connect(self._uploaded)
        client.delayed.connect(self._delayed)
        client.job_event.connect(self._follow)
        client.job_finished.connect(self._finish)
        client.state_changed.connect(lambda state: self._link_changed())

    def edited(self) -> list[EditSession]:
        """The sessions with an edit under way."""
        running = [job.session for job in self._jobs.values() if job.task == "edit"]
        return list(dict.fromkeys([*running, *(s for s in self._captures if s.activity and s.activity.task == "edit")]))

    def begin(
        self,
        session: EditSession,
        task: Task,
        inputs: EditInputs,
        capture_steps: Generator[Any, None, Capture],
        options: JobOptions,
    ) -> None:
        """Captures and submits."""
        session.notice = None
        session.activity = Activity(task, "reading")

        def captured(capture: Capture) -> None:
            self._captures.pop(session, None)
            selected = bytes([255]) * capture.area.pixels if capture.all_selected else capture.selection
            mask = {"kept": capture.mask, "selection": selected, "none": None}[options.mask_of]
            if options.mask_of == "selection" and mask is None:
                sentence = tr("Select something first: Edit Selection repaints exactly what is selected.")
                refused(CanvasRefusal("NO_SELECTION", sentence))
                return
            side = max(capture.area.width, capture.area.height)
            session.side = side
            request = inputs.request(
                task, side=side, model_side=session.model_side, model=options.model, preview=options.preview
            )
            rest = request.variations - 1
            if rest:  # the first variation is made alone: it is seen while the others are made
                request = dataclasses.replace(request, variations=1)
            if options.captions:
                request = dataclasses.replace(request, variations=options.captions)
            payload = JobPayload(
                new_job_id(),
                request,
                capture.area.width,
                capture.area.height,
                capture.channels,
                capture.pixels,
                None if options.mask_of == "selection" else capture.selection,
                mask,
            )
            base = Surroundings(capture.pixels, capture.area, capture.channels)
            own_mask = options.mask_of == "kept" and mask is not None
            field = "source" if options.captions else ""
            self._submit(Job(session, inputs, capture, payload, base, own_mask, field, rest))

        def refused(refusal: CanvasRefusal) -> None:
            self._captures.pop(session, None)
            session.activity = None
            session.notice = sentences.of_refusal(refusal)

        runner = StepRunner(capture_steps, captured, refused, self)
        runner.waits.connect(session.show_waiting)
        self._captures[session] = runner

    def suggest(self, session: EditSession, inputs: EditInputs, field: str, count: int) -> None:
        """Asks for up to `count` wordings of the inputs' text `field`."""
        session.notice = None
        text = getattr(inputs, field).strip()
        request = EditRequest(text, "", "suggest", seed=secrets.randbelow(MAX_SEED), variations=count)
        self._submit(Job(session, inputs, None, JobPayload(new_job_id(), request), None, field=field))

    def again(self, job: Job, inputs: EditInputs) -> None:
        """Submits the pixels and the mask of `job` with another seed: the backend has all but the edit itself."""
        request = dataclasses.replace(job.payload.request, seed=inputs.seed, variations=inputs.variations)
        payload = dataclasses.replace(job.payload, job=new_job_id(), request=request)
        job.session.notice = None
        self._submit(dataclasses.replace(job, inputs=inputs, payload=payload, follows="more"))

    def follow_up(self, job: Job) -> None:
        """Submits the variations that follow the one of `job`: the backend has all stages but the edit itself."""
        request = job.payload.request
        seed = (request.seed + 1) % (MAX_SEED + 1)
        request = dataclasses.replace(request, seed=seed, variations=job.rest)
        payload = dataclasses.replace(job.payload, job=new_job_id(), request=request)
        self._submit(dataclasses.replace(job, payload=payload, rest=0, follows="rest"))

    def cancel(self, session: EditSession) -> None:
        """Ends what runs for `session`, at its next step."""
        runner = self._captures.pop(session, None)
        if runner is not None:
            runner.stop()
            session.activity = None
        for job_id, job in list(self._jobs.items()):
            if job.session is session:
                session.activity = Activity(job.task, "cancelling", job_id)
                self._client.cancel(job_id)

    def _submit(self, job: Job) -> None:
        self._jobs[job.payload.job] = job
        more = job.payload.request.variations if job.follows else 0
        job.session.activity = Activity(job.task, "sending", job.payload.job, own_mask=job.own_mask, more=more)
        self._client.submit(job.payload)
        self.submitted.emit(job)
        self._link_changed()

    def _link_changed(self) -> None:
        """Shows every session that waits for its job that the link is not up, and when it is up again."""
        notice = sentences.of_link(self._client.state)
        before, after = ("linking", "sending") if self._client.state.kind == "ready" else ("sending", "linking")
        for job_id, job in self._jobs.items():
            job.session.notice = notice
            activity = job.session.activity
            if activity is not None and activity.phase == before:
                self._update(job_id, phase=after)

    def _uploaded(self, job_id: str, sent: int, total: int) -> None:
        if job_id in self._jobs:
            self._update(job_id, phase="sending", lacking=sent < total, fraction=0.02 * sent / max(1, total))

    def _delayed(self, job_id: str, seconds: float) -> None:
        if job_id in self._jobs:
            self._update(job_id, phase="delayed", seconds_left=seconds)

    def _follow(self, job_id: str, event: Event) -> None:
        job = self._jobs.get(job_id)
        if job is None:
            return
        session = job.session
        match event:
            case Queued(position):
                self._update(job_id, phase="waiting", ahead=position)
            case Started():
                self._update(job_id, phase="working", ahead=0, seconds_left=None)
            case Progress(stage, step, total, seconds_left):
                before = 0.0 if session.activity is None else session.activity.fraction or 0.0
                share = max(progress.fraction(job.kind, event), before)
                values = {"stage": stage, "step": step, "total": total, "seconds_left": seconds_left}
                self._update(job_id, phase="working", fraction=share, **values)
            case Preview(width, height, rgb):
                session.preview = image_of(rgb, width, height, 3)
            case Failed(error):
                self._close(job_id)
                size = f"{job.payload.width} × {job.payload.height}"
                words = {"source": job.inputs.source, "target": job.inputs.target}
                session.notice = sentences.of_error(error, self._client.state, size=size, **words)
            case Cancelled():
                self._close(job_id)
                kept = tr("Cancelled. The results that are here stay.")
                sentence = kept if job.follows else tr("Cancelled. Nothing was changed.")
                session.notice = sentences.Notice("info", sentence)

    def _finish(self, job_id: str, result: JobResult) -> None:
        job = self._jobs.get(job_id)
        if job is not None:
            self._close(job_id)
            self.job_finished.emit(dataclasses.replace(job, inputs=job.inputs.without(result.left_out)), result)

    def _update(self, job_id: str, **values: Any) -> None:
        session = self._jobs[job_id].session
        if session.activity is not None and session.activity.phase != "cancelling":
            session.activity = dataclasses.replace(session.activity, **values)

    def _close(self, job_id: str) -> None:
        job = self._jobs.pop(job_id)
        job.session.activity = None
        job.session.notice = None
