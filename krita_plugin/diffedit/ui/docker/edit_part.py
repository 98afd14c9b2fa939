"""How the edit is done: strength, quality, detail, edges, seed, number of variations, what to avoid, presets."""

from __future__ import annotations

from diffedit_protocol.replies import BLEND, DETAIL, MATTING, SEGMENT, ServerInfo

from ...app import App
from ...model import prompts
from ...model.inputs import MAX_SEED, EditInputs
from ...model.session import EditSession
from ...qt import QtCore, QtWidgets
from ...translation import tr
from .pieces import LABEL_WIDTH, SPACING, Choice, Numbers, SliderRow, row, scrolls_past, tool_button
from .prompt import PromptField

MOST_VARIATIONS = 8


class EditPart(QtWidgets.QWidget):
    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app
        self._backend: ServerInfo | None = None
        self.strength = SliderRow(
            tr("Strength"),
            Numbers(0.05, 1.0, 0.05, 2),
            tr("How far the result may depart from the picture; high values change shapes"),
        )
        self.quality = Choice(
            {
                "draft": (tr("Draft"), tr("Fast, for trying out texts")),
                "normal": (tr("Normal"), tr("For most edits")),
                "fine": (tr("Fine"), tr("Slower, the best result")),
            }
        )
        self.input = Choice(
            {
                "visible": (
                    tr("All visible"),
                    tr("Edit the picture as you see it; the result is added above all layers"),
                ),
                "layer": (tr("This layer"), tr("Edit the active layer only; the result is added above it")),
            }
        )
        self.switches = {DETAIL: QtWidgets.QCheckBox(tr("Full detail")), MATTING: QtWidgets.QCheckBox(tr("Fine edges"))}
        self.blend = QtWidgets.QCheckBox(tr("Blend in"))
        self.segment = Choice(
            {
                "": (tr("Difference"), tr("Where the two texts make a difference to the model")),
                "multiply": (
                    tr("Both"),
                    tr("Where the texts make a difference and the segmenter sees the words that change"),
                ),
                "replace": (
                    tr("Words"),
                    tr("Where the segmenter sees the words of the first text that the second changes"),
                ),
            }
        )
        self._finding = QtWidgets.QWidget()
        self._finding.setLayout(row(self._label(tr("Find by")), self.segment, 1))
        self.seed = QtWidgets.QDoubleSpinBox()  # a QSpinBox ends at 2³¹
        self.seed.setDecimals(0)
        self.seed.setRange(0, MAX_SEED)
        self.seed.setButtonSymbols(QtWidgets.QAbstractSpinBox.ButtonSymbols.NoButtons)
        self.seed.setMinimumWidth(70)
        self.seed.setToolTip(tr("The same seed gives the same edit"))
        self.dice = tool_button("dice", tr("New seed"), lambda: self._set(app.session.inputs.with_new_seed()))
        self.lock = tool_button("unlock", tr("Keep this seed for the next edits"))
        self.lock.setCheckable(True)
        self.variations = SliderRow(
            tr("Variations"), Numbers(1, MOST_VARIATIONS), tr("How many results to choose from")
        )
        self.negative = PromptField(
            tr("Avoid"),
            tr("blurry, text"),
            tr("What the result should not show"),
            lambda: prompts.earlier(app.store, "negative"),
        )
        self.presets = QtWidgets.QComboBox()
        self.presets.setEditable(True)
        self.presets.setInsertPolicy(QtWidgets.QComboBox.InsertPolicy.NoInsert)
        self.presets.lineEdit().setPlaceholderText(tr("Name"))
        self.presets.setToolTip(tr("Choose a preset, or enter a name and save the texts and sliders under it"))
        self.presets.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Fixed)
        for control in (self.seed, self.presets):
            scrolls_past(control)
        self.save = tool_button("save", tr("Save as preset"), self._save_preset)
        self.delete = tool_button("cross", tr("Delete this preset"), self._delete_preset)

        def change(**values: object) -> None:
            app.session.change_inputs(**values)

        self.strength.changed.connect(lambda value: change(strength=round(value, 2)))
        self.quality.changed.connect(lambda key: change(quality=key))
        self.input.changed.connect(lambda key: app.store.change(input=key))
        for name, switch in self.switches.items():
            switch.clicked.connect(lambda on, name=name: change(**{name: bool(on)}))
        self.blend.clicked.connect(lambda on: change(blend=bool(on)))
        self.segment.changed.connect(lambda key: change(segment=key))
        self.seed.valueChanged.connect(lambda value: change(seed=int(value)))
        self.lock.clicked.connect(lambda locked: change(seed_locked=bool(locked)))
        self.variations.changed.connect(lambda value: change(variations=int(value)))
        self.negative.edit.edited.connect(lambda text: change(negative=text))
        self.presets.activated.connect(lambda index: self._use_preset(self.presets.itemText(index)))
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(SPACING, 0, 0, SPACING)
        layout.setSpacing(4)
        layout.addLayout(row(self._label(tr("Input")), self.input, 1))
        layout.addWidget(self.strength)
        layout.addLayout(row(self._label(tr("Quality")), self.quality, 1))
        layout.addLayout(row(*self.switches.values(), None))
        layout.addWidget(self.blend)
        layout.addWidget(self._finding)
        layout.addLayout(row(self._label(tr("Seed"), self.seed), self.seed, 1, self.dice, self.lock))
        layout.addWidget(self.variations)
        layout.addWidget(self.negative)
        layout.addLayout(row(self._label(tr("Preset"), self.presets), self.presets, 1, self.save, self.delete))
        self._list_presets("")

    def show_offer(self, backend: ServerInfo | None) -> None:
        """Shows what the backend can do; None: nothing is known of it, since it is not there."""
        self._backend = backend
        self._show_switches(self._app.session)

    def refresh(self, session: EditSession) -> None:
        from .icons import icon

        inputs = session.inputs
        self.strength.set_value(inputs.strength)
        self.quality.set_value(inputs.quality)
        self.input.set_value(self._app.settings.input)
        self._show_switches(session)
        blocked = self.seed.blockSignals(True)
        self.seed.setValue(inputs.seed)
        self.seed.blockSignals(blocked)
        self.lock.setChecked(inputs.seed_locked)
        self.lock.setIcon(icon("lock" if inputs.seed_locked else "unlock"))
        self.variations.set_value(inputs.variations)
        self.negative.edit.set_text(inputs.negative)

    def note(self, session: EditSession) -> str:
        """What the heading says while the part is folded away."""
        names = {"draft": tr("Draft"), "normal": tr("Normal"), "fine": tr("Fine")}
        inputs = session.inputs
        count = [f"{inputs.variations}×"] if inputs.variations > 1 else []
        switches = [switch.text() for switch in self.switches.values() if switch.isChecked()]
        finding = [tr("Finding by words")] if inputs.segment and self._segments else []
        return " · ".join([names[inputs.quality], *count, *switches, *finding])

    def _show_switches(self, session: EditSession) -> None:
        """A switch of what the backend cannot do is off and grey; what the artist wished stays in the inputs."""
        for name, switch in self.switches.items():
            able = self._backend is None or name in self._backend.capabilities
            switch.setEnabled(able)
            switch.setChecked(able and getattr(session.inputs, name))
            switch.setToolTip(self._about(name) if able else self._obstacle(name))

        able = self._backend is None or BLEND in self._backend.capabilities
        self.blend.setEnabled(able)
        self.blend.setChecked(able and session.inputs.blend)
        self.blend.setToolTip(
            tr(
                "Joins the colours of the edit to what surrounds it, so that no seam and no pale trace of the old "
                "thing stays. Switch it off to keep the model's own colours."
            )
            if able
            else self._obstacle(BLEND)
        )
        self._finding.setVisible(self._segments)
        self.segment.set_value(session.inputs.segment)

    @property
    def _segments(self) -> bool:
        """Whether the backend has a segmenter: most have none, and then nothing is to be seen of it."""
        return self._backend is not None and SEGMENT in self._backend.capabilities

    def _about(self, name: str) -> str:
        """When a switch pays, and what it costs."""
        if name == DETAIL:
            return tr(
                "Paints a large area at the layer's own resolution. Useful when the result looks soft; takes "
                "several times as long. A small area has full detail anyway."
            )
        return tr(
            "Follows hair, fur and leaves along the edge of the mask, found or your own. Useful where the edge "
            "is not a clear line; a large mask takes some seconds. Visible in the result, not in the red "
            "overlay."
        )

    def _obstacle(self, name: str) -> str:
        """Why the backend cannot do what a switch asks for, and the way out."""
        if name == MATTING and self._backend is not None and DETAIL in self._backend.capabilities:
            return tr(
                "This backend does not support fine edges. Install what is missing where it runs, and restart "
                "it: pip install 'krita-diffedit[matting]'"
            )
        return tr(
            "This backend is too old for that. Update it where it runs, and restart it: pip install --upgrade "
            "krita-diffedit"
        )

    def _label(self, text: str, buddy: QtWidgets.QWidget | None = None) -> QtWidgets.QLabel:
        label = QtWidgets.QLabel(text)
        label.setMinimumWidth(LABEL_WIDTH)
        if buddy is not None:
            label.setBuddy(buddy)
            buddy.setAccessibleName(text)
        return label

    def _set(self, inputs: EditInputs) -> None:
        self._app.session.inputs = inputs

    def _list_presets(self, current: str) -> None:
        self.presets.clear()
        self.presets.addItems(prompts.preset_names(self._app.store))
        self.presets.setCurrentIndex(self.presets.findText(current, QtCore.Qt.MatchFlag.MatchExactly))
        self.presets.setEditText(current)

    def _use_preset(self, name: str) -> None:
        self._set(prompts.apply_preset(self._app.store, name, self._app.session.inputs))

    def _save_preset(self) -> None:
        name = self.presets.currentText().strip()
        if name:
            prompts.save_preset(self._app.store, name, self._app.session.inputs)
            self._list_presets(name)
        else:
            self.presets.setFocus()

    def _delete_preset(self) -> None:
        prompts.delete_preset(self._app.store, self.presets.currentText().strip())
        self._list_presets("")
