"""The mask that was found: shown in the document, moved with the sliders, handed back to the edit as it then is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator
from typing import Any

from ..qt import QtCore
from ..translation import shortened, tr
from . import sentences
from .jobs import Job
from .payload import JobResult
from .ports import Canvas, Capture, FoundMask, LayerRef, LiveMask, MaskValues
from .session import EditSession
from .settings import Settings, Store
from .steps import CanvasRefusal, StepRunner

WATCH_MS = 150  # Krita has no signal for another active layer, a moved or a painted one
SETTLE_MS = 150  # after the last move of a slider the mask is made from all px


class MaskController(QtCore.QObject):
    """Takes the masks that jobs bring and shows them live: a moved slider costs no message to the backend.

    A mask whose layer was painted on since is out of date, and said to be: the red goes, and comes back when the
    painting is undone; a selection or a selection mask, which may be the artist's by now, stays.
    """

    def __init__(self, canvas: Canvas, store: Store, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._canvas = canvas
        self._store = store
        self._live: dict[EditSession, LiveMask] = {}
        self._form = store.settings.mask_form
        store.listen(self._settings_changed)
        self._due: EditSession | None = None
        # A slider signals every px that it moves; once per turn of the event loop is as often as it can be seen.
        self._timer = QtCore.QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._show_due)
        self._settle = QtCore.QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self._come_to_rest)
        self._resting: StepRunner | None = None
        self._outdated: dict[EditSession, sentences.Notice] = {}
        self._watch = QtCore.QTimer(self)  # runs while a mask is shown, or waits for an undo
        self._watch.setInterval(WATCH_MS)
        self._watch.timeout.connect(self._follow)

    def take(self, job: Job, result: JobResult) -> None:
        """Shows the mask of a search."""
        self.remember(job, result)
        self.adjust(job.session)  # first from fewer px: all of a large mask take a second

    def remember(self, job: Job, result: JobResult) -> None:
        """Remembers the soft map that a job found, so that its threshold can be moved later; shows nothing."""
        session = job.session
        self.hide(session)
        capture = job.capture
        if result.soft_map is not None and capture is not None:
            found = FoundMask(
                capture.layer_ref,
                capture.area,
                result.soft_map,
                result.manifest.threshold,
                capture.fingerprint,
                capture.selection,
                result.manifest.ground,
            )
            self._live[session] = self._live_mask(session, found)
            session.found = found

    def adjust(self, session: EditSession) -> None:
        """A slider of the mask was moved: shows the mask as it is now."""
        if session.found is not None:
            self._stop_resting()
            self._due = session
            self._timer.start(0)

    def hide(self, session: EditSession) -> None:
        """Takes the shown mask off the canvas; the artist's own selection is back."""
        self._stop_resting()
        self._current(session)
        self._take_off(session)

    def _take_off(self, session: EditSession) -> None:
        live = self._live.get(session)
        if live is not None and session.mask_shown:
            live.hide()
            session.mask_shown = False

    def forget(self, session: EditSession) -> None:
        """The session ends."""
        self._outdated.pop(session, None)
        if self._due is session:
            self._timer.stop()
            self._stop_resting()
        live = self._live.pop(session, None)
        if live is not None:
            live.hide()

    def keep(self, session: EditSession) -> None:
        """Adds the mask to its layer as a selection mask, for the artist to paint on."""
        live = self._live.get(session)
        found = session.found
        if live is None or found is None:
            self._notify_missing(session)
            return
        self.hide(session)
        name = tr("{source} (mask)", source=shortened(session.inputs.source.strip(), 50))

        def steps() -> Generator[Any, None, str]:
            plane = yield from live.plane_steps(_values(session, found))
            return (yield from self._canvas.keep_mask_steps(found.layer_ref, name, plane, found.area))

        def kept(_: str) -> None:
            session.notice = sentences.Notice(
                "info", tr("The mask is now a selection mask. Paint on it to correct it; Edit uses it as it is.")
            )

        StepRunner(steps(), kept, self._refused(session), self)

    def to_selection(self, session: EditSession) -> None:
        """Makes the mask the artist's selection."""
        live, found = self._live.get(session), session.found
        if live is None or found is None:
            self._notify_missing(session)
            return
        self.hide(session)

        def steps() -> Generator[None, None, None]:
            plane = yield from live.plane_steps(_values(session, found))
            self._canvas.select(found.layer_ref, plane, found.area)

        StepRunner(steps(), lambda _: None, self._refused(session), self)

    def capture_steps(self, session: EditSession, layer_ref: LayerRef, context: int) -> Generator[Any, None, Capture]:
        """Captures for an edit. A mask that is shown and was painted on becomes the capture's mask; one that is shown
        as it was found is left to the backend, which makes it from the same values."""
        live = self._live.get(session)
        found = session.found
        if live is None or found is None or not session.mask_shown or not live.in_document:
            return (yield from self._canvas.capture_steps(layer_ref, context))
        painted = live.painted()
        self.hide(session)  # else it would be captured as the artist's selection
        capture = yield from self._canvas.capture_steps(layer_ref, context)
        if painted is None:
            yield from live.rest_steps(_values(session, found))
            mask, selection = None, capture.selection
        else:
            mask, selection = (yield from self._canvas.read_plane(painted, capture.area)), None
            live.show_painted(painted)
        self._is_shown(session)
        return dataclasses.replace(capture, mask=mask, selection=selection)

    def _live_mask(self, session: EditSession, found: FoundMask) -> LiveMask:
        def leave() -> None:
            self.hide(session)

        return self._canvas.live_mask(found, self._store.settings.mask_form, leave)

    def _follow(self) -> None:
        watched = [s for s in self._live if s.mask_shown or s in self._outdated]
        for session in watched:
            live = self._live[session]
            if session.mask_shown and not live.in_document and not live.follow():
                self.hide(session)
            elif not (self._settle.isActive() or self._resting):  # while a slider is dragged, its steps come first
                self._look_for_changes(session, live)
        if not watched:
            self._watch.stop()

    def _look_for_changes(self, session: EditSession, live: LiveMask) -> None:
        try:
            changed = live.changed()
        except CanvasRefusal:
            self.hide(session)  # its document or its layer is gone
            return
        if changed and session not in self._outdated:
            self._outdated[session] = self._notify_outdated(session)
            if not live.in_document:
                self._take_off(session)
        elif not changed and session in self._outdated:
            self._current(session)
            if not session.mask_shown and live.belongs():
                self._due = session
                self._show_due()

    def _notify_outdated(self, session: EditSession) -> sentences.Notice:
        layer = "" if session.found is None else session.found.layer_ref.layer_name
        sentence = tr("'{layer}' was changed since its mask was found. Find the mask again, or undo.", layer=layer)
        notice = sentences.Notice("info", sentence)
        if session.activity is None:
            session.notice = notice
        return notice

    def _current(self, session: EditSession) -> None:
        """Its mask is not out of date any more, or nobody looks at it any more."""
        notice = self._outdated.pop(session, None)
        if notice is not None and session.notice == notice:
            session.notice = None

    def _settings_changed(self, settings: Settings) -> None:
        """Shows masks in the form that is wanted now, what the artist painted on them included."""
        if settings.mask_form == self._form:
            return
        self._form = settings.mask_form
        for session, live in list(self._live.items()):
            shown, found = session.mask_shown, session.found
            if found is None:
                continue
            try:
                painted = live.painted() if shown else None
                self.hide(session)
                self._live[session] = self._live_mask(session, found)
                if painted is not None:
                    self._live[session].show_painted(painted)
                    self._is_shown(session)
                elif shown:
                    self._due = session
                    self._show_due()
            except CanvasRefusal as refusal:
                self._refused(session)(refusal)

    def _show_due(self) -> None:
        if self._due is not None:
            self._show(self._due)
        self._settle.start()

    def _come_to_rest(self) -> None:
        """Shows all px of the mask that was adjusted, if it is still shown."""
        session = self._due
        live, found = (None, None) if session is None else (self._live.get(session), session.found)
        if session is None or live is None or found is None or not session.mask_shown or session in self._outdated:
            return
        try:
            if self._canvas.active_document() != session.document_id:
                return
        except CanvasRefusal:
            return

        def rested(_: None) -> None:
            self._resting = None

        def refused(refusal: CanvasRefusal) -> None:
            self._resting = None
            self._refused(session)(refusal)

        self._resting = StepRunner(live.rest_steps(_values(session, found)), rested, refused, self)

    def _stop_resting(self) -> None:
        """What is shown is about to be another."""
        self._settle.stop()
        if self._resting is not None:
            self._resting.stop()
            self._resting = None

    def _show(self, session: EditSession) -> None:
        """With as many px as are seen at once; all of them follow at rest."""
        live, found = self._live.get(session), session.found
        if live is None or found is None:
            return
        if session in self._outdated and not live.in_document:
            self._notify_outdated(session)
            return
        try:
            if self._canvas.active_document() != session.document_id:
                return  # the artist looks at another picture; its own selection is not touched
            live.show(_values(session, found), dragged=True)
        except CanvasRefusal as refusal:
            self._refused(session)(refusal)
            return
        self._is_shown(session)

    def _is_shown(self, session: EditSession) -> None:
        session.mask_shown = True
        self._watch.start()

    def _refused(self, session: EditSession) -> Callable[[CanvasRefusal], None]:
        def show(refusal: CanvasRefusal) -> None:
            session.notice = sentences.of_refusal(refusal)

        return show

    def _notify_missing(self, session: EditSession) -> None:
        session.notice = sentences.Notice("info", tr("There is no mask yet. Find one first."))


def _values(session: EditSession, found: FoundMask) -> MaskValues:
    threshold = session.inputs.threshold
    return MaskValues(found.threshold if threshold is None else threshold, *_edge(session, found))


def _edge(session: EditSession, found: FoundMask) -> tuple[int, int]:
    sides = max(found.area.width, found.area.height), session.model_side
    return session.inputs.grow_px(*sides, ground=found.ground), session.inputs.feather_px(*sides)
