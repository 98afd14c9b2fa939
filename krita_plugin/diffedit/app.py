"""Where the plugin's parts meet: one per Krita. Actions and widgets call it; it changes the sessions they watch."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

from diffedit_protocol.connection import Connection
from diffedit_protocol.messages import Task
from diffedit_protocol.replies import DESCRIBE, SUGGEST

from .backend.backend_setup import BackendSetup
from .backend.client_thread import ClientThread
from .backend.connection_test import ConnectionTest
from .backend.local_backend import LocalBackend
from .canvas.krita_canvas import KritaCanvas
from .model import prompts, sentences
from .model.batch import BatchController
from .model.inputs import MODEL_SIDE, EditInputs
from .model.jobs import Job, JobController, JobOptions, MaskOf
from .model.masks import MaskController
from .model.payload import JobResult, LinkState
from .model.pending import PendingJob, PendingJobs
from .model.ports import LayerRef
from .model.results import ResultController
from .model.session import EditSession
from .model.settings import Settings, Store
from .model.steps import CanvasRefusal
from .qt import QtCore, Signal
from .translation import artists_language, tr, use_language

WATCH_MS = 300


class App(QtCore.QObject):
    """Signals: `session_changed(EditSession)`: another document is active now; `link_changed(LinkState)`;
    `settings_wanted()`, `diagnostics_wanted()`, `install_wanted()`,
    `add_model_wanted()`, `frames_wanted()`: an action or a button asks for the dialog."""

    session_changed = Signal(object)
    link_changed = Signal(object)
    settings_wanted = Signal()
    diagnostics_wanted = Signal()
    install_wanted = Signal()
    add_model_wanted = Signal()
    frames_wanted = Signal()

    def __init__(
        self, store: Store | None = None, link: ClientThread | None = None, parent: QtCore.QObject | None = None
    ) -> None:
        """`store` and `link` are made where none are given; a link that is given has `find_connection` of its own."""
        super().__init__(parent)
        self.store = store or Store()
        use_language(self.settings.language or artists_language())
        self.backend = LocalBackend(self)
        self.setup = BackendSetup(self.store, self.backend, self)
        self.setup.noticed.connect(self._show_notice)
        self.canvas = KritaCanvas()
        self.link = link or ClientThread(self.find_connection, self)
        self.link.state_changed.connect(self._link_changed)
        self.jobs = JobController(self.link, self)
        self.masks = MaskController(self.canvas, self.store, self)
        self.results = ResultController(self.canvas, self.store, self)
        self.pending = PendingJobs(self.store, self.link, self)
        self.jobs.submitted.connect(lambda job: self.pending.note(job, job.session.path))
        self.results.decided.connect(self.pending.decide)
        self.results.shown.connect(self.pending.show)
        self.results.settled.connect(self.pending.settle)
        self.results.settled.connect(self._fetched_settled)
        self.pending.arrived.connect(self._result_arrived)
        self.batch = BatchController(self)
        self.batch.edit_wanted.connect(self._edit_one)
        self.batch.frames_done.connect(self.results.add_frames)
        self.jobs.job_finished.connect(self._job_finished)
        self.results.adding.connect(self.masks.hide)
        self.results.more_wanted.connect(self.jobs.again)
        self.results.rest_wanted.connect(self.jobs.follow_up)
        self.results.document_gone.connect(self._document_gone)
        self.backend.state_changed.connect(self._backend_changed)
        self.store.listen(self._settings_changed)
        self._fetched: list[PendingJob] = []  # results of an earlier Krita, of pictures that were not open
        self._test: ConnectionTest | None = None
        self._sessions: dict[str, EditSession] = {}
        self._nowhere = EditSession(inputs=self._last_inputs())
        self._connection_of = self._connection_settings()
        self._model_side = MODEL_SIDE
        self._do_again: Callable[[], None] = self.edit_layer
        self.session = self._nowhere
        self._watch = QtCore.QTimer(self)  # Krita has no signal for an undo
        self._watch.setInterval(WATCH_MS)
        self._watch.timeout.connect(self._look_for_changes)
        self._watch.start()
        if self.store.complaint:
            self._nowhere.notice = sentences.Notice("error", self.store.complaint)

    @property
    def settings(self) -> Settings:
        return self.store.settings

    # -- beginning and end ------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connects, and starts the local backend if the artist wants it with Krita."""
        self.link.open()
        if self.settings.backend == "local" and self.settings.start_with_krita:
            self.start_backend()

    def close(self) -> None:
        """Krita ends: the thread is joined, a backend that was started here is stopped."""
        self.link.close()
        if self._test is not None:
            self._test.stop()
        self.setup.close()
        if self.settings.stop_with_krita:
            self.backend.stop(wait=True)

    # -- the active document ----------------------------------------------------------------------------------------

    def look(self) -> None:
        """Another document may be active now, or none."""
        try:
            session = self._session_of(self.canvas.active_document())
        except CanvasRefusal:
            session = self._nowhere
        self._activate(session)

    def session_in(self, window: object) -> EditSession:
        """The edits of what is in front in a window of Krita's, in whichever window the artist is."""
        document_id = self.canvas.document_in(window)
        try:
            return self._session_of(document_id) if document_id else self._nowhere
        except CanvasRefusal:
            return self._nowhere

    def _session_of(self, document_id: str) -> EditSession:
        """CanvasRefusal where the document was closed meanwhile."""
        if document_id not in self._sessions:
            name, side = self.canvas.document_name(document_id), self.canvas.document_side(document_id)
            session = EditSession(document_id, name, self._last_inputs())
            session.side, session.model_side = side, self._model_side
            session.path = self.canvas.document_path(document_id)
            self._sessions[document_id] = session
            self._fetched = [p for p in self._fetched if not session.path or p.path != session.path]
            self.results.recall(session)
        return self._sessions[document_id]

    def _look_for_changes(self) -> None:
        self.look()  # Krita has no signal for another window in front, either
        session = self.session
        with contextlib.suppress(CanvasRefusal):
            session.name = self.canvas.document_name(session.document_id)  # it may be saved under another one
            session.path = self.canvas.document_path(session.document_id)
            self.pending.moved(session.document_id, session.path)
        self.results.look(session)
        self.canvas.show_active_mask()
        if not (session.mask_shown and self.settings.mask_form == "selection"):  # that one is the mask's
            session.selection = self.canvas.has_selection()
        session.mask_in_use = self.canvas.mask_in_use() if session.document_id and not session.mask_shown else ""

    def forget_closed(self) -> None:
        """Drops the sessions of documents that are closed, unless something still runs for them."""
        self.look()
        open_ids = self.canvas.open_documents()
        for document_id, session in list(self._sessions.items()):
            if document_id not in open_ids and session.activity is None:
                self.masks.forget(session)
                self.results.forget(session)
                del self._sessions[document_id]

    def _document_gone(self, session: EditSession, notice: sentences.Notice) -> None:
        self.forget_closed()
        self.session.notice = notice

    def _activate(self, session: EditSession) -> None:
        if session is not self.session:
            self.masks.hide(self.session)
            if self.session is self._nowhere and session.notice is None:
                self._carry_over(session)
            self.session = session
            self.session_changed.emit(session)

    def _carry_over(self, session: EditSession) -> None:
        """What was said while no picture was open, and is more than "open one", goes on in the first picture: from 5.2
        on Krita shows no docker before."""
        notice = self._nowhere.notice
        if notice is not None and (notice.remedies or notice.sentence == self.store.complaint):
            session.notice, self._nowhere.notice = notice, None

    def _last_inputs(self) -> EditInputs:
        try:
            return EditInputs.from_map(self.store.get("inputs", {}))
        except TypeError:
            return EditInputs()

    # -- actions ----------------------------------------------------------------------------------------------------

    def find_mask(self) -> None:
        self._begin("mask", mask_of="none")

    def edit_layer(self) -> None:
        self._begin("edit", mask_of="kept")

    def edit_layers(self) -> None:
        """Edits every layer that is chosen in the layer list, each for itself: same words, same seed."""
        self._begin_batch(self.canvas.chosen_layers)

    def edit_frames(self, first: int, last: int) -> None:
        """Edits the frames `first` to `last` of an animated picture: same words, same seed. What shows the same is
        edited once; the results are one layer with a keyframe for each."""
        self._begin_batch(lambda: self.frames(first, last), frames=True)

    def frames(self, first: int, last: int) -> list[LayerRef]:
        """What `edit_frames` would edit. CanvasRefusal where there is no picture, or nothing of it is animated."""
        found = self.canvas.frames(self.settings.input, first, last)
        if not found:
            sentence = tr("This picture is not animated: it has no frames but one. Use Edit Layer.")
            if self.settings.input == "layer":
                sentence = tr("This layer is not animated. Choose one that is, or edit all visible layers.")
            raise CanvasRefusal("NOT_ANIMATED", sentence)
        return found

    def ask_frames(self) -> None:
        """Opens the dialog of *Edit Frames…*, or says why there is nothing to choose from."""
        self.look()
        try:
            self.frames(*self.canvas.frame_range())
        except CanvasRefusal as refusal:
            self.session.notice = sentences.of_refusal(refusal)
        else:
            self.frames_wanted.emit()

    def _begin_batch(self, find: Callable[[], list[LayerRef]], *, frames: bool = False) -> None:
        self.look()
        session = self.session
        complaint = session.inputs.complaint()
        if session.activity is not None:
            complaint = tr("An edit of this picture is under way. Wait for it, or cancel it.")
        elif any(variation.state != "added" for variation in session.variations):
            complaint = tr("Accept or discard the results first.")
        parts: list[LayerRef] = []
        try:
            parts = find()
        except CanvasRefusal as refusal:
            complaint = refusal.sentence
        if complaint:
            self._notify(complaint, "error")
            return
        if not session.inputs.seed_locked:
            session.inputs = session.inputs.with_new_seed()
        session.change_inputs(variations=1)
        self.batch.begin(session, parts, frames=frames)

    def edit_selection(self) -> None:
        self._begin("edit", mask_of="selection")

    def describe(self) -> None:
        """Asks the backend what the layer, or what is selected of it, shows: the answer becomes the first text."""
        self._begin("describe", mask_of="none")

    def suggest(self, field: str) -> None:
        """Asks for words to choose from for the text `field` ("source" or "target"): wordings of what stands there;
        while the first text is empty, captions of the layer."""
        self.look()
        session, info = self.session, self.link.state.info
        capabilities = info.capabilities if info is not None else ()
        text = getattr(session.inputs, field).strip().partition(prompts.BETWEEN)[0]
        if session.activity is not None:
            self._notify(tr("An edit of this picture is under way. Wait for it, or cancel it."))
        elif info is None:
            session.notice = sentences.of_link(self.link.state)
        elif field == "source" and DESCRIBE in capabilities and not (text and SUGGEST in capabilities):
            session.suggestions = None
            self._begin("describe", mask_of="none", captions=prompts.MOST_SUGGESTIONS)
        elif SUGGEST not in capabilities:
            self._notify(
                tr(
                    "This backend has no language model for suggestions. Put a FLAN-T5 model into its folder "
                    "'suggester'; the manual explains how."
                )
            )
        elif not text:
            self._notify(tr("Write a word or two first. Other wordings are suggested for them."))
        else:
            session.suggestions = None
            self._do_again = lambda: self.suggest(field)
            prompts.remember(self.store, session.inputs)
            inputs = dataclasses.replace(session.inputs, **{field: text})
            self.jobs.suggest(session, inputs, field, prompts.MOST_SUGGESTIONS)

    def repeat(self) -> None:
        """The last edit of this document once more, with its seed."""
        if not self.session.history:
            self._notify(tr("Nothing has been edited in this picture yet."))
            return
        last = self.session.history[-1].again()
        self.session.inputs = dataclasses.replace(last, seed_locked=self.session.inputs.seed_locked)
        self._begin("edit", mask_of="kept", keep_seed=True)

    def new_seed(self) -> None:
        """The same edit with another seed."""
        self.session.inputs = self.session.inputs.with_new_seed()
        self._begin("edit", mask_of="kept", keep_seed=True)

    def cancel(self) -> None:
        """Ends the job of this document; without one, puts suggested words away, then the mask that is shown."""
        self.batch.cancel(self.session)
        if self.session.activity is not None:
            if not self.results.cancel(self.session):
                self.jobs.cancel(self.session)
        elif self.session.suggestions is not None:
            self.session.suggestions = None
        else:
            self.masks.hide(self.session)

    def leave_mask(self) -> None:
        """The next edit searches again: the artist's selection mask is hidden."""
        self.canvas.leave_mask()
        self._look_for_changes()

    def swap(self) -> None:
        self.session.inputs = self.session.inputs.swapped()

    def mask_to_selection(self) -> None:
        """The mask of the last search or edit as Krita's own selection."""
        self.masks.to_selection(self.session)

    def remedy(self, name: str) -> None:
        """A button of a notice, by the name of a remedy (`sentences.Notice`)."""
        {
            "start": self.start_backend,
            "settings": self.settings_wanted.emit,
            "install": self.install_wanted.emit,
            "join": self.settings_wanted.emit,
            "choose": self.settings_wanted.emit,
            "log": self.settings_wanted.emit,
            "retry": self._do_again,
            "look": self.look_again,
            "forget": self._forget_fetched,
        }[name]()

    def look_again(self) -> None:
        """Asks the backend anew what it has; jobs that run are not disturbed."""
        self.session.notice = None
        self.link.reconnect()

    def choose(self, name: str) -> None:
        """An entry of the status line's menu, "model:NAME" or one of the others."""
        kind, _, value = name.partition(":")
        if kind == "model":
            self.store.change(model=value)
            return
        {
            "reconnect": self.link.reconnect,
            "start": self.start_backend,
            "stop": self.stop_backend,
            "settings": self.settings_wanted.emit,
            "install": self.install_wanted.emit,
            "add model": self.add_model_wanted.emit,
            "diagnostics": self.diagnostics_wanted.emit,
        }[kind]()

    def _begin(self, task: Task, *, mask_of: MaskOf, keep_seed: bool = False, captions: int = 0) -> None:
        self.look()
        session = self.session
        if session.activity is not None:
            self._notify(tr("An edit of this picture is under way. Wait for it, or cancel it."))
            return
        inputs = session.inputs
        if task == "edit" and not (inputs.seed_locked or keep_seed):
            inputs = inputs.with_new_seed()
        wanted, info = inputs, self.link.state.info
        if info is not None:
            inputs = inputs.within(info.capabilities)  # the switches of the rest are off, and say why
        complaint = "" if task == "describe" else inputs.complaint()
        try:
            layer_ref = self.canvas.active_layer(self.settings.input)
        except CanvasRefusal as refusal:
            session.notice = sentences.of_refusal(refusal)
            return
        if complaint:
            self._notify(complaint, "error")
            return
        if task != "describe":
            names = [adapter.name for adapter in inputs.adapters]
            session.notice = sentences.of_lack(self.link.state, self.settings.model, names)
            if session.notice is not None:
                return
        session.inputs = wanted
        self._do_again = lambda: self._begin(task, mask_of=mask_of, keep_seed=True, captions=captions)
        self.store.put("inputs", wanted.as_map())
        prompts.remember(self.store, inputs)
        settings = self.settings
        if mask_of == "kept":
            steps = self.masks.capture_steps(session, layer_ref, settings.context)
        else:
            if mask_of == "none":
                self.masks.hide(session)
            steps = self.canvas.capture_steps(layer_ref, settings.context)
        options = JobOptions(settings.model, settings.show_preview, mask_of, captions)
        self.jobs.begin(session, task, inputs, steps, options)

    def _edit_one(self, session: EditSession, layer_ref: LayerRef) -> None:
        """One layer of several, also while another picture is in front."""
        inputs, info, settings = session.inputs, self.link.state.info, self.settings
        if info is not None:
            inputs = inputs.within(info.capabilities)
        prompts.remember(self.store, inputs)
        steps = self.canvas.capture_steps(layer_ref, settings.context)
        options = JobOptions(settings.model, settings.show_preview, "kept")
        self.jobs.begin(session, "edit", inputs, steps, options)

    def _show_notice(self, notice: sentences.Notice | None) -> None:
        self.session.notice = notice

    def _notify(self, sentence: str, kind: sentences.NoticeKind = "info") -> None:
        self.session.notice = sentences.Notice(kind, sentence)

    def _job_finished(self, job: Job, result: JobResult) -> None:
        if job.task == "mask":
            self.masks.take(job, result)
        elif job.field:
            self._offer_words(job, result.manifest.words)
        elif job.task == "describe":
            prompts.remember(self.store, job.session.inputs)  # what stood there can be had again
            job.session.change_inputs(source=result.manifest.words[0])
        else:
            if not job.follows:
                self.masks.remember(job, result)
            self.results.take(job, result)
            job.session.notice = sentences.of_left_out(result.left_out) or job.session.notice
            if not job.rest:
                self._notify_finished(job.session)
            self._keep_of_closed(job.session)

    def _keep_of_closed(self, session: EditSession) -> None:
        """Results that wait to be chosen, of a document that was closed meanwhile: for its file, or in History."""
        closed = session.document_id in self._sessions and session.document_id not in self.canvas.open_documents()
        if closed and session.activity is None and session.part is None and session.variations:
            self.forget_closed()
            said = sentences.of_fetched(session.name, session.path)
            self.session.notice = dataclasses.replace(said, remedies=())

    def _result_arrived(self, pending: PendingJob, result: JobResult) -> None:
        """A result of an edit that an earlier Krita began."""
        self.look()
        session = next((s for s in self._sessions.values() if pending.path and s.path == pending.path), None)
        if session is not None:
            self.results.take(pending.as_job(session), result, late=True, layers=pending.layers)
            if any(variation.undecided for variation in session.variations):
                session.notice = sentences.of_waiting_results()
            return
        gone = EditSession("", pending.layer_ref.document_name)
        gone.path = pending.path
        self.results.keep_late(pending.as_job(gone), result, pending.layers)
        self._fetched.append(pending)
        self._notify_of_fetched()

    def _notify_of_fetched(self) -> None:
        """Says of the newest result whose picture is not open where it is."""
        if self._fetched:
            pending = self._fetched[-1]
            self.session.notice = sentences.of_fetched(pending.layer_ref.document_name, pending.path)

    def _fetched_settled(self, job: str) -> None:
        """A fetched result was used: what is said of it is true no more."""
        if any(pending.job == job for pending in self._fetched):
            notice = self.session.notice
            self._fetched = [pending for pending in self._fetched if pending.job != job]
            if notice is not None and "forget" in notice.remedies:
                self.session.notice = None
                self._notify_of_fetched()

    def _forget_fetched(self) -> None:
        """The results that the notice names are not wanted: not now, nor at the next start."""
        self.session.notice = None
        if not self._fetched:
            return
        path, name = self._fetched[-1].path, self._fetched[-1].layer_ref.document_name
        named = [p for p in self._fetched if (p.path, p.layer_ref.document_name) == (path, name)]
        self._fetched = [p for p in self._fetched if p not in named]
        for pending in named:
            self.results.drop(pending.job)
            self.pending.settle(pending.job)
        self._notify_of_fetched()

    def _notify_finished(self, session: EditSession) -> None:
        """What else the artist should know of a result: colours that were limited; that it is in another picture."""
        if session.document_id in self.canvas.open_documents():
            limited = self.canvas.colour_notice(session.document_id)
            if limited and session.notice is None:
                session.notice = sentences.Notice("info", limited)
        if session is not self.session and self.session.notice is None:
            self._notify(tr("Finished in {document}.", document=session.name))

    def _offer_words(self, job: Job, words: tuple[str, ...]) -> None:
        texts = tuple(dict.fromkeys(text for text in words if text))
        if texts:
            own = getattr(job.inputs, job.field)
            averaged = job.task == "suggest"
            job.session.suggestions = prompts.Suggestions(job.field, texts, own, averaged)
        else:
            job.session.notice = sentences.Notice("info", tr("The model found no other words. Try again."))

    # -- the backend ------------------------------------------------------------------------------------------------

    def find_connection(self) -> Connection:
        """Where the backend is, by the settings. Called on the client thread; raises a DiffEditError if nowhere."""
        if self.settings.backend == "remote":
            return Connection.from_file(self.store.remote_file)
        return Connection.local_backend()

    def start_backend(self) -> None:
        """Starts the local backend, or says which ways there are to one."""
        self.session.notice = None
        self.setup.start()

    def stop_backend(self) -> None:
        if self.backend.started_here:
            self.backend.stop()
        else:
            self._notify(tr("This Krita did not start the backend, so it cannot stop it."))

    def test_connection(self, done: Callable[[str, bool], None]) -> None:
        """Connects to the backend and calls `done(sentence, good)`. A test that still runs is ended."""
        if self._test is not None:
            self._test.stop()
        self._test = ConnectionTest(self.find_connection, self)
        self._test.done.connect(done)
        self._test.start()

    def join(self, line: str) -> None:
        """Uses the backend of a pasted diffedit:// line from now on. Raises BadInputError for a bad one."""
        Connection.from_line(line).save(self.store.remote_file)
        self.store.change(backend="remote")
        self.link.reconnect()

    def _settings_changed(self, settings: Settings) -> None:
        self._look_at_model()
        if self._connection_settings() != self._connection_of:
            self._connection_of = self._connection_settings()
            self.link.reconnect()

    def _look_at_model(self) -> None:
        """The mask of a model that is smaller than MODEL_SIDE is coarser: what is automatic about it is larger."""
        info = self.link.state.info
        model = info.model(self.settings.model) if info is not None else None
        if model is not None:
            self._model_side = min(model.size or MODEL_SIDE, MODEL_SIDE)
            for session in (self._nowhere, *self._sessions.values()):
                session.model_side = self._model_side

    def _connection_settings(self) -> tuple[str, str]:
        return self.settings.backend, self.settings.program

    def _link_changed(self, state: LinkState) -> None:
        notice = self.session.notice
        if state.kind == "ready" and notice is not None and {"start", "join"} & set(notice.remedies):
            self.session.notice = None
        self._look_at_model()
        self.link_changed.emit(state)
        self.setup.watch(state)

    def _backend_changed(self) -> None:
        if self.backend.state == "running":
            self.link.reconnect()
        elif self.backend.state == "failed":
            self.session.notice = sentences.Notice("error", self.backend.problem, "", ("start", "settings", "log"))
