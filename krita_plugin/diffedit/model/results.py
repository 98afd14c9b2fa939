"""Results of edits: offered as variations, shown in place, added to the document, kept in its history."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Generator, Mapping
from typing import Any

from diffedit_protocol.messages import Bounds

from ..qt import QtCore, Signal
from ..translation import tr
from . import sentences, thumbnails
from .history import HistoryEntry, decode, encode
from .jobs import Job
from .kept_colours import changed_share
from .payload import JobResult
from .ports import Addition, Canvas, Capture, LayerRef
from .progress import Activity
from .session import EditSession
from .settings import Store
from .steps import CanvasRefusal, StepRunner
from .thumbnails import Surroundings
from .variations import Variation, VariationState, bounds_in_image, crop


class ResultController(QtCore.QObject):
    """Takes what jobs bring. A single result becomes a layer at once (a setting); of several the first is shown, and
    all wait to be chosen.

    The first variation that is shown becomes a layer, one undo step; showing another exchanges its pixels. `kept` are
    results of documents that were closed meanwhile; `kept_changed()` is for new ones.

    Signals beside it: `adding(EditSession)` before a result becomes a layer; `more_wanted(Job, EditInputs)`: the job
    once more with another seed; `rest_wanted(Job)`: the variations that follow its one, which is shown now;
    `document_gone(EditSession, Notice)`: its results are kept now; `decided(job, seed)`: that result was accepted,
    added from the history or dropped; `settled(job)`: every result of that job was; `shown(job, seed, layer id)`: it
    stands in that layer, and is not decided on.
    """

    decided = Signal(str, object)  # object: a seed has more than 31 bits
    settled = Signal(str)
    shown = Signal(str, object, str)
    kept_changed = Signal()
    adding = Signal(object)
    more_wanted = Signal(object, object)
    rest_wanted = Signal(object)
    document_gone = Signal(object, object)

    def __init__(self, canvas: Canvas, store: Store, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._canvas = canvas
        self._store = store
        self._last: dict[EditSession, Job] = {}
        self._runners: dict[EditSession, StepRunner] = {}
        self._unfinished: dict[EditSession, Job] = {}  # the rest of their variations is to be made
        self._undecided: dict[str, set[int]] = {}  # by job: the seeds of results that nobody decided on
        self._offered_in: dict[str, EditSession] = {}  # by job: where its results wait
        self._layers: dict[tuple[str, int], str] = {}  # by job and seed: in which layer a result was shown last
        self._watched: set[EditSession] = set()
        self._left: dict[str, tuple[Variation, ...]] = {}  # by file: results that waited when it was closed
        self._earlier: set[str] = set()  # jobs whose results came back with their picture, or with another Krita
        self.kept: tuple[HistoryEntry, ...] = ()

    def take(self, job: Job, result: JobResult, *, late: bool = False, layers: Mapping[int, str] | None = None) -> None:
        """Offers the variations of a finished edit. `late`: of an earlier Krita, so that none is added by itself;
        `layers`: by seed, the layers that showed some of them then."""
        session, capture, surroundings = job.session, job.capture, job.surroundings
        if capture is None or surroundings is None:
            return  # a job on words alone has no picture
        fresh = _variations_of(job, capture, surroundings, result)
        if late:
            self._earlier.add(job.payload.job)
        else:
            request = dataclasses.replace(job.payload.request, matting=False)  # this mask has its fine edges
            payload = dataclasses.replace(job.payload, request=request, mask=result.mask, selection=None)
            self._last[session] = dataclasses.replace(job, payload=payload, rest=0, follows="")
        if late:
            fresh = tuple(dataclasses.replace(v, layer_id=(layers or {}).get(v.seed, "")) for v in fresh)
        self._watch(session)
        self._undecided[job.payload.job] = {variation.seed for variation in fresh}
        self._offered_in[job.payload.job] = session
        when = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        model, layer = result.manifest.model, capture.layer_ref.layer_name
        records = tuple(
            HistoryEntry(job.inputs, v.seed, when, layer, model, thumbnails.to_text(v.thumbnail), v) for v in fresh
        )
        self._record(session, session.history + records)
        for _, sentence in result.manifest.notes:
            session.notice = sentences.Notice("info", sentence)
        at_once = self._store.settings.add_single or session.part is not None
        if job.follows:
            if session in self._runners:  # one of those before is being shown, and then what was chosen last
                session.activity = Activity("edit", "adding")
            session.offer(session.variations + fresh, session.selected)
            if job.follows == "more" and at_once:
                self.show(session, len(session.variations) - 1)
            return
        if late:
            session.offer(session.variations + self._found_again(fresh, session), max(0, session.selected))
            return
        # One that is shown was part of what this edit worked on: it stays.
        waiting = tuple(v for v in session.variations if v.state == "waiting")
        session.offer(waiting + fresh, len(waiting))
        if job.rest:
            self._unfinished[session] = job
            if at_once:
                self.adding.emit(session)
                self.show(session, len(waiting))
            else:
                self._go_on(session)
            return
        # One that an undo took away was decided upon; one of an earlier time does not hold up today's.
        undecided = [v for v in waiting if v.undone is None and v.job not in self._earlier]
        if session.gathers:
            return  # of frames: added with the others
        if len(fresh) == 1 and not undecided and at_once:
            self.accept(session)

    def _go_on(self, session: EditSession) -> None:
        """Asks for the variations that are still to be made, if there are any and nothing is being added."""
        job = self._unfinished.pop(session, None) if session.activity is None else None
        if job is not None:
            self.rest_wanted.emit(job)

    def show(self, session: EditSession, index: int) -> None:
        """Chooses a variation and shows it in the document, also while further ones are made; while one is being shown,
        after that."""
        session.offer(session.variations, index)
        wanted = session.variations[index]
        shown = _index_of(session, "shown")
        busy = session.activity is not None and not session.activity.more
        if busy or session in self._runners or wanted.state != "waiting":
            return
        if shown < 0:
            self._run(session, self._apply(wanted.layer_ref, wanted), self._set_shown(session, index))
            return
        now = session.variations[shown]

        def exchanged(_: None) -> None:
            session.replace_variation(shown, state="waiting", layer_id="", undone=None)
            session.replace_variation(index, state="shown", layer_id=now.layer_id, undone=None)
            self._show_chosen(session, index)

        def gone(refusal: CanvasRefusal) -> None:  # then this one is shown in a new layer
            if refusal.code == "PAINTED":
                session.replace_variation(shown, state="added")
            else:
                session.replace_variation(shown, state="waiting", layer_id="", undone=None)
            self.show(session, index)
            if refusal.code == "PAINTED":
                session.notice = sentences.Notice("info", refusal.sentence)

        steps = self._canvas.exchange_steps(now.layer_ref, now.layer_id, now.area, _addition(wanted))
        self._run(session, steps, exchanged, gone)

    def accept(self, session: EditSession) -> None:
        """The chosen variation stays in the document as a layer."""
        index = session.selected
        if not self.can_accept(session):
            return
        chosen = session.variations[index]
        self.adding.emit(session)
        if chosen.state == "shown":
            session.replace_variation(index, state="added")
        elif chosen.state == "waiting" and _index_of(session, "shown") < 0:

            def added(layer_id: str) -> None:
                session.replace_variation(index, state="added", layer_id=layer_id, undone=None)

            self._run(session, self._apply(chosen.layer_ref, chosen), added)

    def add_frames(self, session: EditSession, notice: sentences.Notice) -> None:
        """Adds the results of a batch of frames, all that wait, as one layer; `notice` is shown when it is there."""
        waiting = [i for i, v in enumerate(session.variations) if v.state == "waiting" and v.undone is None]
        if not waiting or session.activity is not None:
            return
        self.adding.emit(session)

        def added(layer_id: str) -> None:
            for index in waiting:
                session.replace_variation(index, state="added", layer_id=layer_id, undone=None)
            session.notice = notice

        parts = [(v.layer_ref, _addition(v)) for v in (session.variations[i] for i in waiting)]
        self._run(session, self._canvas.apply_frames_steps(parts), added)

    def can_accept(self, session: EditSession) -> bool:
        """Whether the chosen variation can become a layer now. One that is one already can while others are made."""
        if session.selected < 0 or session in self._runners:
            return False
        state, activity = session.variations[session.selected].state, session.activity
        if activity is None:
            return state != "added"
        return state == "shown" and activity.phase != "adding"

    def look(self, session: EditSession) -> None:
        """Notices results whose layers an undo took away, or a redo brought back: called some times a second."""
        if session.activity is not None and session.activity.phase == "adding":
            return
        for index, variation in enumerate(session.variations):
            if not variation.layer_id:
                continue
            there = self._canvas.has_layer(variation.layer_ref, variation.layer_id)
            if not there and variation.state != "waiting":
                session.replace_variation(index, state="waiting", undone=variation.state)
            elif there and variation.undone is not None:
                session.replace_variation(index, state=variation.undone, undone=None)

    def cancel(self, session: EditSession) -> bool:
        """Ends the adding of a result, which stays among the results and in the history. False when none is added.

        One that Krita is adding at this moment is there in the next: that cannot be ended."""
        if session.activity is None or session.activity.phase != "adding" or session not in self._runners:
            return False
        if self._runners[session].in_step:
            return True
        self._runners.pop(session).stop()
        self._unfinished.pop(session, None)
        session.activity = None
        session.notice = sentences.Notice("info", tr("The result was not added. It is kept in History."))
        return True

    def discard(self, session: EditSession) -> None:
        """Drops every variation that was not accepted; one that is shown leaves the document."""
        if session in self._runners:
            return
        shown = _index_of(session, "shown")
        if shown >= 0:
            variation = session.variations[shown]
            try:
                self._canvas.remove_layer(variation.layer_ref, variation.layer_id, variation.name)
            except CanvasRefusal as refusal:  # it went by an undo, say: what was wanted is so already
                session.notice = sentences.Notice("info", refusal.sentence)
        session.offer((), -1)

    def more(self, session: EditSession) -> None:
        """One more variation of the last edit, with a new seed: same pixels, same mask."""
        job = self._last.get(session)
        if job is None or session.activity is not None:
            return
        session.inputs = session.inputs.with_new_seed()
        inputs = dataclasses.replace(job.inputs, seed=session.inputs.seed, variations=1)
        self.more_wanted.emit(job, inputs)

    def put(self, session: EditSession, record: HistoryEntry | None) -> None:
        """Adds a result of the history above the active layer, where it was."""
        if record is None or record.kept is None or session.activity is not None:
            return
        try:
            layer_ref = self._canvas.active_layer(self._store.settings.input)
        except CanvasRefusal as refusal:
            session.notice = sentences.of_refusal(refusal)
            return
        kept = record.kept

        def added(layer_id: str) -> None:
            for index, variation in enumerate(session.variations):
                if variation.result == kept.result and variation.state == "waiting":
                    session.replace_variation(index, state="added", layer_id=layer_id, undone=None)
            self._decide(*kept.result)

        self._run(session, self._apply(layer_ref, kept), added)

    def use_again(self, session: EditSession, record: HistoryEntry) -> None:
        """Sets the words and sliders of an earlier edit."""
        session.inputs = record.again()

    def recall(self, session: EditSession) -> None:
        """Reads the history that the document carries; results that waited when it was closed are offered again."""
        left = self._left.pop(session.path, ()) if session.path else ()
        if left:
            self._watch(session)
            jobs = [variation.job for variation in left]
            self._offered_in |= dict.fromkeys(jobs, session)
            self._earlier.update(jobs)
            found = self._found_again(left, session)
            session.offer(found, 0)
            if any(variation.undecided for variation in found):
                session.notice = sentences.of_waiting_results()
            else:
                session.offer((), -1)
        try:
            session.history = decode(self._canvas.read_history(session.document_id))
        except ValueError as error:
            session.notice = sentences.Notice(
                "info", tr("The history in this file could not be read. A new one was started."), str(error)
            )

    def forget(self, session: EditSession) -> None:
        """The session ends: the pixels that its last edit sent go. Results that wait are kept: for its file, or without
        one in the history."""
        self._last.pop(session, None)
        self._unfinished.pop(session, None)
        self._watched.discard(session)
        waiting = tuple(variation for variation in session.variations if variation.undecided)
        self._offered_in = {job: other for job, other in self._offered_in.items() if other is not session}
        if waiting and session.path:
            self._left[session.path] = (*self._left.get(session.path, ()), *waiting)
        elif waiting:
            self._keep_records(session, waiting)

    def _keep_records(self, session: EditSession, waiting: tuple[Variation, ...]) -> None:
        results = {variation.result for variation in waiting}
        self.kept += tuple(r for r in session.history if r.kept is not None and r.kept.result in results)
        self.kept_changed.emit()

    def keep_late(self, job: Job, result: JobResult, layers: Mapping[int, str] | None = None) -> None:
        """Keeps results of an earlier Krita whose document is not open: for its file, without one in the history."""
        session = job.session
        self.take(job, result, late=True, layers=layers)
        self.forget(session)

    def drop(self, job: str) -> None:
        """Forgets results of `job` that are kept for a picture that is not open."""
        left = {path: tuple(v for v in waiting if v.job != job) for path, waiting in self._left.items()}
        self._left = {path: waiting for path, waiting in left.items() if waiting}
        self._earlier.discard(job)
        self._undecided.pop(job, None)
        self.kept = tuple(record for record in self.kept if record.kept is None or record.kept.job != job)
        self.kept_changed.emit()

    def _watch(self, session: EditSession) -> None:
        if session not in self._watched:
            self._watched.add(session)
            session.changed.connect(lambda aspect: self._settle(session) if aspect == "variations" else None)

    def _settle(self, session: EditSession) -> None:
        """Tells which results were decided on, and of the others in which layers they are."""
        waiting = {variation.result: variation for variation in session.variations if variation.undecided}
        for result, variation in waiting.items():
            if variation.layer_id != self._layers.get(result, ""):
                self._layers[result] = variation.layer_id
                self.shown.emit(*result, variation.layer_id)
        for job in [job for job, other in self._offered_in.items() if other is session]:
            for seed in sorted(self._undecided.get(job, ())):
                if (job, seed) not in waiting:
                    self._decide(job, seed)

    def _decide(self, job: str, seed: int) -> None:
        undecided = self._undecided.get(job, set())
        if seed not in undecided:
            return
        undecided.discard(seed)
        self._layers.pop((job, seed), None)
        self.decided.emit(job, seed)
        if not undecided:
            del self._undecided[job]
            self._offered_in.pop(job, None)
            self.settled.emit(job)

    def _found_again(self, variations: tuple[Variation, ...], session: EditSession) -> tuple[Variation, ...]:
        """Results of an earlier time in a document that is open now. One that the document was saved with is a part of
        it: it counts as accepted, for it may have been painted on since."""
        found = []
        for variation in variations:
            ref, layer_id = variation.layer_ref, variation.layer_id
            ref = dataclasses.replace(ref, document_id=session.document_id, document_name=session.name)
            variation = dataclasses.replace(variation, layer_ref=ref, state="waiting", undone=None)
            if layer_id and session.document_id:
                there = self._canvas.has_layer(ref, layer_id)
                variation = dataclasses.replace(
                    variation, state="added" if there else "waiting", layer_id=layer_id if there else ""
                )
            found.append(variation)
        return tuple(found)

    def _apply(self, layer_ref: LayerRef, variation: Variation) -> Generator[Any, None, str]:
        return self._canvas.apply_steps(layer_ref, _addition(variation), self._store.settings.result_form)

    def _set_shown(self, session: EditSession, index: int) -> Callable[[str], None]:
        def set_shown(layer_id: str) -> None:
            session.replace_variation(index, state="shown", layer_id=layer_id, undone=None)
            self._show_chosen(session, index)

        return set_shown

    def _show_chosen(self, session: EditSession, shown: int) -> None:
        """Another one was chosen while `shown` was being shown. However many were clicked, only the last one is."""
        if session.selected not in (-1, shown):
            self.show(session, session.selected)

    def _run(
        self,
        session: EditSession,
        steps: Generator[Any, None, Any],
        done: Callable[[Any], None],
        gone: Callable[[CanvasRefusal], None] | None = None,
    ) -> None:
        """Runs canvas steps with the session marked as busy, which it is already while further variations are made. A
        refusal keeps the result; `gone` is called instead when it is the shown layer that is not there any more, or was
        painted on."""
        beside = session.activity is not None

        def ended() -> None:
            self._runners.pop(session, None)
            if session.activity is not None and session.activity.phase == "adding":
                session.activity = None

        def finished(value: Any) -> None:
            ended()
            done(value)
            self._go_on(session)

        def refused(refusal: CanvasRefusal) -> None:
            ended()
            if gone is not None and refusal.code in ("LAYER_GONE", "PAINTED"):
                gone(refusal)
            else:
                self._keep(session, refusal)
                self._go_on(session)

        if not beside:
            session.activity = Activity("edit", "adding")
        runner = StepRunner(steps, finished, refused, self)
        if not beside:
            runner.waits.connect(session.show_waiting)
        self._runners[session] = runner

    def _keep(self, session: EditSession, refusal: CanvasRefusal) -> None:
        notice = sentences.of_refusal(refusal)
        session.notice = notice
        if refusal.code == "DOCUMENT_GONE":
            waiting = tuple(variation for variation in session.variations if variation.undecided)
            self._offered_in = {job: other for job, other in self._offered_in.items() if other is not session}
            session.offer((), -1)
            self._unfinished.pop(session, None)
            self._keep_records(session, waiting)
            self.document_gone.emit(session, notice)

    def _record(self, session: EditSession, records: tuple[HistoryEntry, ...]) -> None:
        """Sets the history of a session and writes it into its document, if that is still open."""
        session.history = records
        self._canvas.write_history(session.document_id, encode(records, 1024 * self._store.settings.history_kib))


def _variations_of(job: Job, capture: Capture, surroundings: Surroundings, result: JobResult) -> tuple[Variation, ...]:
    bounds = result.manifest.bounds
    area = bounds_in_image(capture.area, bounds)
    mask = crop(result.mask, capture.area.width, bounds)
    alpha = None if capture.channels == 3 else crop(capture.pixels[3::4], capture.area.width, bounds)
    return tuple(
        Variation(
            capture.layer_ref,
            area,
            pixels,
            mask,
            job.inputs,
            edit.seed,
            surroundings.with_edit(pixels, area),
            alpha,
            _changed(capture, bounds, pixels),
            job=job.payload.job,
        )
        for edit, pixels in zip(result.manifest.edits, result.edits, strict=True)
    )


def _changed(capture: Capture, bounds: Bounds, edit: bytes) -> bytes | None:
    """How much of each px is the edit's; None where the source has no more than what was sent, or that is gone."""
    if not capture.coarser or not capture.pixels:
        return None
    sent = crop(capture.pixels, capture.area.width, bounds, capture.channels)
    return changed_share(sent, capture.channels, edit, bounds.width, bounds.height)


def _addition(variation: Variation) -> Addition:
    return Addition(
        variation.name,
        variation.area,
        variation.pixels,
        variation.mask,
        variation.area,
        variation.source_alpha,
        variation.changed,
    )


def _index_of(session: EditSession, state: VariationState) -> int:
    return next((i for i, variation in enumerate(session.variations) if variation.state == state), -1)
