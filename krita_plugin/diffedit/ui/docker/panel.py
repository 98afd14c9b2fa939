"""The docker as a whole: words first, one button, everything else folded away until wanted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from diffedit_protocol.replies import DESCRIBE, SUGGEST

from ...app import App
from ...model import prompts
from ...model.session import EditSession
from ...qt import QShortcut, QtCore, QtGui, QtWidgets, Signal
from ...translation import tr
from .adapters_part import AdaptersPart
from .edit_part import EditPart
from .history_part import HistoryPart
from .mask_part import MaskPart
from .notice_box import NoticeBox
from .pieces import SPACING, Fold, tab_before, tool_button
from .prompt import MOST_LINES, PromptField, WordChoice
from .results_part import ResultsPart
from .run_row import MaskInUse, RunRow
from .status_line import StatusLine

NARROWEST, WIDTH = 240, 280  # px
LOWEST = 200  # px: words and buttons, among Krita's own dockers
TABS = (QtCore.Qt.Key.Key_Tab, QtCore.Qt.Key.Key_Backtab)
HEAD_ASPECTS = ("inputs", "activity", "selection", "suggestions", "mask_in_use")
MASK_ASPECTS = ("inputs", "found", "mask_shown", "activity")
EDIT_ASPECTS = ("inputs",)
RESULT_ASPECTS = ("variations", "activity")
ADAPTER_ASPECTS = ("inputs",)
HISTORY_ASPECTS = ("history",)
ASPECTS = (
    *("inputs", "activity", "preview", "notice", "suggestions"),
    *("selection", "mask_in_use", "found", "variations", "history"),
)


@dataclass(frozen=True)
class Part:
    """A part that can be folded away, and the aspects of a session that it shows."""

    fold: Fold
    body: MaskPart | EditPart | AdaptersPart | ResultsPart | HistoryPart
    aspects: tuple[str, ...]


class EditPanel(QtWidgets.QScrollArea):
    """Shows the session of the document in front in its window, and hands what the artist does to the app.

    `activated()`: its window was brought to the front.
    """

    activated = Signal()

    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app
        self._session = app.session
        self.status = StatusLine()
        swap = tool_button("swap", tr("Swap the two texts"), app.swap)
        swap.setFocusPolicy(QtCore.Qt.FocusPolicy.ClickFocus)
        self.describe = tool_button("pen", tr("Describe the layer, or the selected part of it"), app.describe)
        self.describe.setFocusPolicy(QtCore.Qt.FocusPolicy.ClickFocus)
        self.suggest_source, self.suggest_target = (
            tool_button("words", tr("Suggest words for this text (Ctrl+Space)"), partial(app.suggest, field))
            for field in ("source", "target")
        )
        for button in (self.suggest_source, self.suggest_target):
            button.setFocusPolicy(QtCore.Qt.FocusPolicy.ClickFocus)
        self.source = PromptField(
            tr("Now"),
            tr("a horse"),
            tr("What the picture shows now, in a few words. Enter: Edit, Shift+Enter: Find mask"),
            lambda: prompts.earlier(app.store, "source"),
            self.describe,
            self.suggest_source,
        )
        self.target = PromptField(
            tr("Change to"),
            tr("a zebra"),
            tr("What to change it to. Enter: Edit, Shift+Enter: Find mask"),
            lambda: prompts.earlier(app.store, "target"),
            swap,
            self.suggest_target,
        )
        self.words = {"source": WordChoice(), "target": WordChoice()}
        self.run = RunRow()
        self.mask_in_use = MaskInUse()
        self.mask_in_use.left.connect(app.leave_mask)
        self.notice = NoticeBox()
        self.mask, self.edit = MaskPart(app), EditPart(app)
        self.adapters = AdaptersPart(app)
        self.results, self.history = ResultsPart(app), HistoryPart(app)
        self.parts = {
            "results": self._part("results", tr("Results"), self.results, RESULT_ASPECTS),
            "mask": self._part("mask", tr("Mask"), self.mask, MASK_ASPECTS),
            "edit": self._part("edit", tr("Options"), self.edit, EDIT_ASPECTS),
            "adapters": self._part("adapters", tr("LoRA"), self.adapters, ADAPTER_ASPECTS),
            "history": self._part("history", tr("History"), self.history, HISTORY_ASPECTS),
        }
        self._arrange()
        self._connect()
        self._session.changed.connect(self._refresh)
        self.show_session(app.session)
        self._show_link()

    def focus_words(self) -> None:
        """Puts the cursor where something is still to be written."""
        field = self.target if self.source.edit.toPlainText().strip() else self.source
        field.edit.setFocus(QtCore.Qt.FocusReason.OtherFocusReason)

    def show_session(self, session: EditSession) -> None:
        """Shows another document's edits from now on."""
        self._session.changed.disconnect(self._refresh)
        self._session = session
        session.changed.connect(self._refresh)
        for aspect in ASPECTS:
            self._refresh(aspect)

    def follow_window(self, _: EditSession | None = None) -> None:
        """Shows what is in front in the docker's own window, which another window may hide at the moment."""
        window: QtWidgets.QWidget | None = self.window()
        while window is not None and not isinstance(window, QtWidgets.QMainWindow):
            window = window.parentWidget()  # of a docker that floats
        self.show_session(self._app.session if window is None else self._app.session_in(window))

    def _arrange(self) -> None:
        inside = QtWidgets.QWidget()
        layout = QtWidgets.QVBoxLayout(inside)
        layout.setContentsMargins(SPACING, SPACING, SPACING, SPACING)
        layout.setSpacing(SPACING)
        for widget in (*self._head(), self.run, self.notice):
            layout.addWidget(widget)
        for part in self.parts.values():
            layout.addWidget(part.fold)
        layout.addStretch(1)
        tab_before(self.target.edit, self.words["source"].stops)
        tab_before(self.run.find, self.words["target"].stops)
        self.setWidget(inside)
        self.setWidgetResizable(True)
        self.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumSize(NARROWEST, LOWEST)

    def _head(self) -> tuple[QtWidgets.QWidget, ...]:
        """What stands above the buttons."""
        source, target = self.words["source"], self.words["target"]
        return self.status, self.source, source, self.target, target, self.mask_in_use

    def _keep_buttons_in_sight(self) -> None:
        """Long texts take fewer lines where the docker is too low for them and the buttons below."""
        head = [widget for widget in self._head() if not widget.isHidden()]
        for lines in range(MOST_LINES, 0, -1):
            for field in (self.source, self.target):
                field.edit.limit_lines(lines)
            if sum(w.sizeHint().height() + SPACING for w in head) + self.run.buttons_height() <= self.height():
                return

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
        super().resizeEvent(event)
        self._keep_buttons_in_sight()

    def event(self, event: QtCore.QEvent) -> bool:
        """Tab goes on to the next control, also from a button: there Krita would hide every docker."""
        if event.type() == QtCore.QEvent.Type.ShortcutOverride and event.key() in TABS:
            event.accept()
            return True
        if event.type() == QtCore.QEvent.Type.WindowActivate:
            self.activated.emit()
        return super().event(event)

    def sizeHint(self) -> QtCore.QSize:
        """What Krita gives a new docker: everything at rest without scrolling."""
        return QtCore.QSize(WIDTH, max(LOWEST, self.widget().sizeHint().height()))

    def _part(self, name: str, title: str, body: QtWidgets.QWidget, aspects: tuple[str, ...]) -> Part:
        fold = Fold(title, body, name in self._app.settings.unfolded)
        fold.toggled.connect(lambda _: self._remember_folds())
        return Part(fold, body, aspects)

    def _remember_folds(self) -> None:
        unfolded = tuple(name for name, part in self.parts.items() if part.fold.unfolded)
        self._app.store.change(unfolded=unfolded)

    def _connect(self) -> None:
        app = self._app
        app.session_changed.connect(self.follow_window)
        self.activated.connect(app.look)
        app.link_changed.connect(lambda _: self._show_link())
        app.backend.state_changed.connect(self._show_link)
        app.store.listen(lambda _: self._show_link())
        for field, name in ((self.source, "source"), (self.target, "target")):
            field.edit.words_wanted.connect(lambda name=name: app.suggest(name))
            field.edit.edited.connect(lambda text, name=name: app.session.change_inputs(**{name: text}))
        for name, choice in self.words.items():
            choice.taken.connect(lambda text, name=name: app.session.change_inputs(**{name: text}))
            choice.dismissed.connect(lambda: setattr(app.session, "suggestions", None))
        for field in (self.source, self.target, self.edit.negative):
            field.edit.submitted.connect(lambda shift: app.find_mask() if shift else app.edit_layer())
        self.run.find_wanted.connect(app.find_mask)
        self.run.edit_wanted.connect(app.edit_layer)
        self.run.repaint_wanted.connect(app.edit_selection)
        self.run.cancel_wanted.connect(app.cancel)
        self.notice.remedy_wanted.connect(app.remedy)
        self.notice.dismissed.connect(lambda: setattr(app.session, "notice", None))
        self.status.chosen.connect(app.choose)
        self.escape = QShortcut(QtGui.QKeySequence("Esc"), self)
        self.escape.setContext(QtCore.Qt.ShortcutContext.WidgetWithChildrenShortcut)
        self.escape.activated.connect(app.cancel)

    def _show_link(self) -> None:
        app = self._app
        info = app.link.state.info
        capabilities = () if info is None else info.capabilities
        self.describe.setVisible(DESCRIBE in capabilities)
        self.suggest_source.setVisible(SUGGEST in capabilities or DESCRIBE in capabilities)
        self.suggest_target.setVisible(SUGGEST in capabilities)
        self.edit.show_offer(info)
        self.parts["edit"].fold.note.set_text(self.edit.note(app.session))
        self.adapters.show_offer(app.link.state, app.settings.model)
        starting = app.backend.state == "starting"
        self.status.show_state(app.link.state, app.settings.model, app.backend.started_here, starting)
        self.run.show_starting(starting and info is None)

    def _show_mask_in_use(self) -> None:
        """What runs says itself which mask it uses."""
        session = self._session
        self.mask_in_use.show_name(session.mask_in_use if session.activity is None else "")

    def _refresh(self, aspect: str) -> None:
        session = self._session
        if aspect == "inputs":
            self.source.edit.set_text(session.inputs.source)
            self.target.edit.set_text(session.inputs.target)
        elif aspect == "activity":
            self.run.show_activity(session.activity)
            self._show_mask_in_use()
            for button in (self.describe, self.suggest_source, self.suggest_target):
                button.setEnabled(session.activity is None)
        elif aspect == "selection":
            self.run.show_selection(session.selection)
        elif aspect == "preview":
            self.run.preview.show_image(session.preview)
        elif aspect == "suggestions":
            for name, choice in self.words.items():
                offered = session.suggestions
                choice.show_suggestions(offered if offered is not None and offered.field == name else None)
        elif aspect == "mask_in_use":
            self._show_mask_in_use()
        elif aspect == "notice":
            self.notice.show_notice(session.notice)
        for part in self.parts.values():
            if aspect in part.aspects:
                part.body.refresh(session)
                part.fold.note.set_text(part.body.note(session))
        if aspect in HEAD_ASPECTS:
            self._keep_buttons_in_sight()
        if aspect == "variations":
            self.parts["results"].fold.setVisible(bool(session.variations))
