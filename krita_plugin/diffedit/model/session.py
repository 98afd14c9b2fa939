"""The observable state of one document's edits. Widgets watch it, the app changes it; no Krita, no socket here."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..qt import QtCore, QtGui, Signal
from .history import HistoryEntry
from .inputs import MODEL_SIDE, EditInputs
from .ports import FoundMask
from .progress import Activity
from .prompts import Suggestions
from .sentences import Notice
from .variations import Variation


class EditSession(QtCore.QObject):
    """Edits of one document. `changed(aspect)` tells which of the attributes is another now, by its name."""

    changed = Signal(str)

    def __init__(self, document_id: str = "", name: str = "", inputs: EditInputs | None = None) -> None:
        """`document_id` "" is the session that stands for no document: it keeps the words, and nothing can be run."""
        super().__init__()
        self.document_id = document_id
        self.name = name
        self._inputs = inputs or EditInputs()
        self._activity: Activity | None = None
        self._preview: QtGui.QImage | None = None
        self._notice: Notice | None = None
        self._found: FoundMask | None = None
        self._mask_shown = False
        self._variations: tuple[Variation, ...] = ()
        self._selected = -1
        self._history: tuple[HistoryEntry, ...] = ()
        self._suggestions: Suggestions | None = None
        self._side, self._model_side = 0, MODEL_SIDE
        self.part: tuple[int, int] | None = None  # of a batch: which one of how many
        self.path = ""  # the document's file, "" for none
        self.gathers = False  # a batch of frames, whose results are added together at its end
        self._mask_in_use = ""
        self._selection = False

    @property
    def inputs(self) -> EditInputs:
        return self._inputs

    @inputs.setter
    def inputs(self, inputs: EditInputs) -> None:
        self._set("inputs", inputs)

    def change_inputs(self, **values: Any) -> None:
        """Replaces some of the inputs."""
        self._set("inputs", dataclasses.replace(self._inputs, **values))

    @property
    def activity(self) -> Activity | None:
        """What is being done at the moment; None at rest."""
        return self._activity

    @activity.setter
    def activity(self, activity: Activity | None) -> None:
        if activity is None:
            self._set("preview", None)
        else:
            activity = dataclasses.replace(activity, part=self.part)
        self._set("activity", activity)

    def show_waiting(self, waits: bool) -> None:
        """What is being done waits for a tool that is in use, or goes on."""
        if self._activity is not None:
            self.activity = dataclasses.replace(self._activity, waits=waits)

    @property
    def preview(self) -> QtGui.QImage | None:
        """What the picture is becoming, while a job runs."""
        return self._preview

    @preview.setter
    def preview(self, image: QtGui.QImage) -> None:
        self._set("preview", image)

    @property
    def notice(self) -> Notice | None:
        """What the artist should know before going on."""
        return self._notice

    @notice.setter
    def notice(self, notice: Notice | None) -> None:
        self._set("notice", notice)

    @property
    def side(self) -> int:
        """px: the larger side of what was captured last, else of the picture; 0 without one."""
        return self._side

    @side.setter
    def side(self, side: int) -> None:
        if side != self._side:
            self._side = side
            self.changed.emit("inputs")  # automatic values are others now

    @property
    def model_side(self) -> int:
        """px: the size of the chosen model, as far as it makes masks coarser than those of MODEL_SIDE."""
        return self._model_side

    @model_side.setter
    def model_side(self, side: int) -> None:
        if side != self._model_side:
            self._model_side = side
            self.changed.emit("inputs")

    @property
    def selection(self) -> bool:
        """Whether the artist has something selected, of their own: a mask that is shown as a selection is not."""
        return self._selection

    @selection.setter
    def selection(self, selection: bool) -> None:
        self._set("selection", selection)

    @property
    def mask_in_use(self) -> str:
        """The name of the artist's selection mask that the next edit uses; "" for none."""
        return self._mask_in_use

    @mask_in_use.setter
    def mask_in_use(self, name: str) -> None:
        self._set("mask_in_use", name)

    @property
    def suggestions(self) -> Suggestions | None:
        """Words to choose from for one of the texts; None when none are offered."""
        return self._suggestions

    @suggestions.setter
    def suggestions(self, suggestions: Suggestions | None) -> None:
        self._set("suggestions", suggestions)

    @property
    def found(self) -> FoundMask | None:
        """The mask that was found last; its threshold can be moved without the backend."""
        return self._found

    @found.setter
    def found(self, found: FoundMask | None) -> None:
        self._set("found", found)

    @property
    def mask_shown(self) -> bool:
        """Whether the found mask stands in the document now, as the artist's selection or a selection mask."""
        return self._mask_shown

    @mask_shown.setter
    def mask_shown(self, shown: bool) -> None:
        self._set("mask_shown", shown)

    @property
    def threshold(self) -> float | None:
        """The threshold in force: the artist's, else what the backend chose for the found mask, else None."""
        if self._inputs.threshold is not None or self._found is None:
            return self._inputs.threshold
        return self._found.threshold

    @property
    def grow(self) -> int:
        """px: the grow in force, the artist's or the automatic one of the found mask."""
        ground = self._found is not None and self._found.ground
        return self._inputs.grow_px(self._side, self._model_side, ground=ground)

    @property
    def feather(self) -> int:
        """px: the feather in force."""
        return self._inputs.feather_px(self._side, self._model_side)

    @property
    def variations(self) -> tuple[Variation, ...]:
        """The results that wait to be chosen, in the order in which they came."""
        return self._variations

    @property
    def selected(self) -> int:
        """The index of the variation that is chosen, -1 for none."""
        return self._selected

    def offer(self, variations: tuple[Variation, ...], selected: int) -> None:
        """Replaces the variations and chooses one of them."""
        self._selected = selected if 0 <= selected < len(variations) else -1
        self._variations = variations
        self.changed.emit("variations")

    def replace_variation(self, index: int, **values: Any) -> None:
        """Changes one variation, e.g. `state="shown"`."""
        changed = list(self._variations)
        changed[index] = dataclasses.replace(changed[index], **values)
        self.offer(tuple(changed), self._selected)

    @property
    def history(self) -> tuple[HistoryEntry, ...]:
        """What was done with this document, oldest first."""
        return self._history

    @history.setter
    def history(self, records: tuple[HistoryEntry, ...]) -> None:
        self._set("history", records)

    def _set(self, aspect: str, value: Any) -> None:
        if getattr(self, f"_{aspect}") is not value and getattr(self, f"_{aspect}") != value:
            setattr(self, f"_{aspect}", value)
            self.changed.emit(aspect)
