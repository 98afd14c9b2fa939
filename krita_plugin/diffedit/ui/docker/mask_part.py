"""The mask's part of the docker: threshold, grow, feather, live on the canvas."""

from __future__ import annotations

from ...app import App
from ...model.session import EditSession
from ...qt import QtWidgets
from ...translation import tr
from .pieces import LABEL_WIDTH, SPACING, Choice, Numbers, SliderRow, row, tool_button

AUTOMATIC = 0.5  # where the threshold's slider stands while nothing was found and nothing set
NEARLY_ALL = 0.9
NEXT_TO_NOTHING = 0.002


class MaskPart(QtWidgets.QWidget):
    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app
        self.threshold = SliderRow(
            tr("Threshold"),
            Numbers(0.01, 0.99, 0.01, 2),
            tr("How clearly a region must differ to be repainted; lower values take in more"),
        )
        self.automatic = tool_button("again", tr("Automatic threshold, grow and feather"), self._reset)
        self.threshold.add(self.automatic)
        self.grow = SliderRow(
            tr("Grow"), Numbers(-64, 128, suffix=" px"), tr("Makes the mask larger, or smaller below 0")
        )
        self.feather = SliderRow(tr("Feather"), Numbers(0, 128, suffix=" px"), tr("Softens the edge of the mask"))
        for slider in (self.grow, self.feather):
            slider.reserve_width(self.automatic)
        self.threshold.changed.connect(lambda value: self._change(threshold=round(value, 2)))
        self.grow.changed.connect(lambda value: self._change(grow=int(value)))
        self.feather.changed.connect(lambda value: self._change(feather=int(value)))
        self.form = Choice(
            {
                "overlay": (
                    tr("Red"),
                    tr("Show the mask over the canvas, in red, or in blue where the picture is red; nothing changes"),
                ),
                "selection": (tr("Selection"), tr("Show the mask as Krita's selection")),
                "selectionmask": (tr("Mask"), tr("Show it as a selection mask on the layer, to paint on")),
            }
        )
        self.form.changed.connect(lambda form: app.store.change(mask_form=form))
        self.keep = QtWidgets.QPushButton(tr("Keep mask"))
        self.keep.setToolTip(tr("Add it to the layer as a selection mask; paint on it, and Edit uses it as it is"))
        self.keep.clicked.connect(lambda: app.masks.keep(app.session))
        self.hide_button = QtWidgets.QPushButton(tr("Hide"))
        self.hide_button.setToolTip(tr("Take the mask off the canvas (Esc)"))
        self.hide_button.clicked.connect(lambda: app.masks.hide(app.session))
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(SPACING, 0, 0, SPACING)
        layout.setSpacing(4)
        for widget in (self.threshold, self.grow, self.feather):
            layout.addWidget(widget)
        show_as = QtWidgets.QLabel(tr("Show as"))
        show_as.setMinimumWidth(LABEL_WIDTH)
        layout.addLayout(row(show_as, self.form, 1))
        layout.addLayout(row(self.keep, 1, self.hide_button, 1))

    def refresh(self, session: EditSession) -> None:
        threshold = session.threshold
        automatic = tr("auto") if session.inputs.threshold is None else ""
        self.threshold.set_value(AUTOMATIC if threshold is None else threshold, automatic)
        self.threshold.set_remark(tr("Automatic: {value}", value=f"{threshold:.2f}") if automatic and threshold else "")
        own = (session.inputs.threshold, session.inputs.grow, session.inputs.feather)
        self.automatic.setEnabled(own != (None, None, None))
        self.grow.set_value(session.grow)
        self.feather.set_value(session.feather)
        self.form.set_value(self._app.settings.mask_form)
        self.keep.setEnabled(session.found is not None and session.activity is None)
        self.hide_button.setEnabled(session.mask_shown)

    def note(self, session: EditSession) -> str:
        """What the heading says: how much was found, in words where a number would mislead."""
        if session.found is None:
            return ""
        threshold = session.threshold
        share = session.found.share(session.found.threshold if threshold is None else threshold)
        if share < NEXT_TO_NOTHING:
            return tr("nothing at this threshold")
        if share > NEARLY_ALL:
            return tr("nearly everything")
        percent = max(1, round(100 * share))
        return tr("{percent} % found", percent=percent)

    def _reset(self) -> None:
        self._change(threshold=None, grow=None, feather=None)

    def _change(self, **values: object) -> None:
        session = self._app.session
        session.change_inputs(**values)
        self._app.masks.adjust(session)
