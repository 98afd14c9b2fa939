"""The small widgets that the docker's parts are built from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...qt import QtCore, QtGui, QtWidgets, Signal
from .icons import icon

SPACING = 6  # px between rows and around a part
LABEL_WIDTH = 68
QUIET_OPACITY = 0.65
BOX_MARGIN = 16  # px around a number in its box
WIDEST_NUMBER = "128 px"  # boxes are as wide as this, so that the sliders beside them end at one line
DARKER = 125  # percent: the style brightens what it fills a button with, and white words must stand out
BUTTON_MARGIN = 8  # px around the text of a small button


def tool_button(name: str, tip: str, clicked: Callable[[], None] | None = None) -> QtWidgets.QToolButton:
    """A flat button with an icon; `tip` is its tooltip and its name for screen readers."""
    button = QtWidgets.QToolButton()
    button.setIcon(icon(name))
    button.setAutoRaise(True)
    button.setToolTip(tip)
    button.setAccessibleName(tip)
    button.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
    if clicked is not None:
        button.clicked.connect(lambda: clicked())
    return button


def row(*things: QtWidgets.QWidget | int | None, spacing: int = SPACING) -> QtWidgets.QHBoxLayout:
    """Widgets side by side; an int n gives the widget before it the stretch n, None is empty space."""
    layout = QtWidgets.QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(spacing)
    for thing in things:
        if thing is None:
            layout.addStretch(1)
        elif isinstance(thing, int):
            layout.setStretch(layout.count() - 1, thing)
        else:
            layout.addWidget(thing)
    return layout


def quiet(label: QtWidgets.QLabel) -> QtWidgets.QLabel:
    """The label in a weaker colour, for what need not be read first. Works with every theme: the text's own colour."""
    effect = QtWidgets.QGraphicsOpacityEffect(label)
    effect.setOpacity(QUIET_OPACITY)
    label.setGraphicsEffect(effect)
    return label


class ElidedLabel(QtWidgets.QLabel):
    """One line that ends in … where it does not fit; the whole text is its tooltip then."""

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self._whole = text
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Preferred)

    @property
    def text_whole(self) -> str:
        """The text without the …"""
        return self._whole

    def set_text(self, text: str, tip: str = "") -> None:
        self._whole = text
        self.setToolTip(tip or text)
        self._elide()

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
        super().resizeEvent(event)
        self._elide()

    def minimumSizeHint(self) -> QtCore.QSize:
        return QtCore.QSize(20, super().minimumSizeHint().height())

    def _elide(self) -> None:
        right = QtCore.Qt.TextElideMode.ElideRight
        super().setText(self.fontMetrics().elidedText(self._whole, right, self.width()))


class Fold(QtWidgets.QWidget):
    """A part of the docker that can be folded away. `toggled(open)` after the artist did; `note` stands at the right of
    its heading."""

    toggled = Signal(bool)

    def __init__(self, title: str, body: QtWidgets.QWidget, unfolded: bool) -> None:
        super().__init__()
        self.heading = QtWidgets.QToolButton()
        self.heading.setText(title)
        self.heading.setToolButtonStyle(QtCore.Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.heading.setAutoRaise(True)
        self.heading.setCheckable(True)
        self.heading.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        self.heading.setStyleSheet("QToolButton { font-weight: bold; border: none; padding: 2px 0; }")
        self.heading.toggled.connect(self._show)
        self.heading.clicked.connect(self.toggled.emit)
        self.note = quiet(ElidedLabel())
        self.note.setAlignment(QtCore.Qt.AlignmentFlag.AlignRight | QtCore.Qt.AlignmentFlag.AlignVCenter)
        self._body = body
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(row(self.heading, self.note, 1))
        layout.addWidget(body)
        self.heading.setChecked(unfolded)
        self._show(unfolded)

    @property
    def unfolded(self) -> bool:
        return self.heading.isChecked()

    def unfold(self) -> None:
        self.heading.setChecked(True)

    def _show(self, unfolded: bool) -> None:
        down, right = QtCore.Qt.ArrowType.DownArrow, QtCore.Qt.ArrowType.RightArrow
        self.heading.setArrowType(down if unfolded else right)
        self._body.setVisible(unfolded)


def tab_before(following: QtWidgets.QWidget, widgets: Sequence[QtWidgets.QWidget]) -> None:
    """Lets Tab reach `widgets`, in their order, before `following`: Qt puts new ones at the window's end."""
    before = following.previousInFocusChain()
    while before.focusPolicy() == QtCore.Qt.FocusPolicy.NoFocus:
        before = before.previousInFocusChain()
    for widget in widgets:
        QtWidgets.QWidget.setTabOrder(before, widget)
        before = widget


class _WheelScrolls(QtCore.QObject):
    """Hands the wheel on to what scrolls, unless the widget under the mouse has the focus."""

    def eventFilter(self, widget: QtCore.QObject, event: QtCore.QEvent) -> bool:
        if event.type() != QtCore.QEvent.Type.Wheel or widget.hasFocus():
            return False
        event.ignore()
        return True


def scrolls_past(widget: QtWidgets.QWidget) -> None:
    """Scrolling the docker over this slider, box or list does not change it; one that was clicked takes the wheel."""
    widget.setFocusPolicy(QtCore.Qt.FocusPolicy.StrongFocus)
    widget.installEventFilter(_WheelScrolls(widget))


class JumpingSlider(QtWidgets.QSlider):
    """A horizontal slider whose handle comes to where the mouse is pressed, and can be dragged on from there."""

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:
        if event.button() == QtCore.Qt.MouseButton.LeftButton:
            style, option = self.style(), QtWidgets.QStyleOptionSlider()
            self.initStyleOption(option)
            handle = style.subControlRect(
                QtWidgets.QStyle.ComplexControl.CC_Slider, option, QtWidgets.QStyle.SubControl.SC_SliderHandle, self
            )
            if not handle.contains(event.pos()):
                room = self.width() - handle.width()
                place = event.pos().x() - handle.width() // 2
                self.setValue(style.sliderValueFromPosition(self.minimum(), self.maximum(), place, room))
        super().mousePressEvent(event)


class NumberBox(QtWidgets.QDoubleSpinBox):
    """A box that can show a word in place of its number, for a value that is not chosen yet."""

    def __init__(self) -> None:
        super().__init__()
        self._word = ""

    def show_word(self, word: str) -> None:
        """Shows `word` until the value is set or typed; "" shows the number again."""
        if word != self._word:
            self._word = word
            self.setSpecialValueText(self.specialValueText())  # has Qt write the text anew

    def textFromValue(self, value: float) -> str:
        return self._word or super().textFromValue(value)


@dataclass(frozen=True)
class Numbers:
    """The values that a slider and its box offer. `step`: what one notch of the slider is worth; `typed`: the range of
    the box, where more can be typed than the slider shows."""

    low: float
    high: float
    step: float = 1
    decimals: int = 0
    suffix: str = ""
    typed: tuple[float, float] | None = None


class SliderRow(QtWidgets.QWidget):
    """A named number with a slider and a box to type it. `changed(value)` only when the artist changes it.

    Values are float, whole ones where `numbers` has no decimals.
    """

    changed = Signal(float)

    def __init__(self, name: str, numbers: Numbers, tip: str) -> None:
        super().__init__()
        self._step = step = numbers.step
        label = QtWidgets.QLabel(name)
        label.setMinimumWidth(LABEL_WIDTH)
        lowest, highest = numbers.typed or (numbers.low, numbers.high)
        self.slider = JumpingSlider(QtCore.Qt.Orientation.Horizontal)
        self.slider.setRange(round(numbers.low / step), round(numbers.high / step))
        self.slider.setMinimumWidth(40)
        self.box = NumberBox()
        self.box.setDecimals(numbers.decimals)
        self.box.setRange(lowest, highest)
        self.box.setSingleStep(step)
        self.box.setSuffix(numbers.suffix)
        self.box.setButtonSymbols(QtWidgets.QAbstractSpinBox.ButtonSymbols.NoButtons)
        self.box.setAlignment(QtCore.Qt.AlignmentFlag.AlignRight)
        self.box.setKeyboardTracking(False)
        ends = (self.box.textFromValue(end) + numbers.suffix for end in (lowest, highest))
        widest = max(self.box.fontMetrics().horizontalAdvance(text) for text in (*ends, WIDEST_NUMBER))
        self.box.setFixedWidth(widest + BOX_MARGIN)
        for control in (self.slider, self.box):
            scrolls_past(control)
        label.setBuddy(self.box)
        for widget in (self, self.slider, self.box):
            widget.setToolTip(tip)
        self._tip = tip
        self.slider.setAccessibleName(name)
        self.box.setAccessibleName(name)
        self._layout = row(label, self.slider, 1, self.box)
        self.setLayout(self._layout)
        self.slider.valueChanged.connect(lambda notches: self._moved(notches * self._step))
        self.box.valueChanged.connect(self._moved)

    @property
    def value(self) -> float:
        return self.box.value()

    def set_value(self, value: float, word: str = "") -> None:
        """Shows `value` without telling of it; in the box `word` in its place, where there is one."""
        self.box.show_word(word)
        for widget, shown in ((self.slider, round(value / self._step)), (self.box, value)):
            blocked = widget.blockSignals(True)
            widget.setValue(shown)
            widget.blockSignals(blocked)

    def set_remark(self, more: str) -> None:
        """Adds a line to the tooltip; "" for none."""
        for widget in (self, self.slider, self.box):
            widget.setToolTip(f"{self._tip}\n{more}" if more else self._tip)

    def add(self, widget: QtWidgets.QWidget) -> None:
        """One more widget at the right."""
        self._layout.addWidget(widget)

    def reserve_width(self, like: QtWidgets.QWidget) -> None:
        """As much empty space at the right as `like` takes in another row."""
        self._layout.addSpacing(like.sizeHint().width() + self._layout.spacing())

    def _moved(self, value: float) -> None:
        self.set_value(value)
        self.changed.emit(self.box.value())


class ChoiceButton(QtWidgets.QToolButton):
    """Highlighted while selected: in Krita's style a pressed button hardly differs from the others. Painted, since a
    style sheet would take away the dockers' smaller font."""

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        option = QtWidgets.QStyleOptionToolButton()
        self.initStyleOption(option)
        if self.isChecked():
            role, palette = QtGui.QPalette.ColorRole, option.palette
            palette.setColor(role.Button, palette.color(role.Highlight).darker(DARKER))
            palette.setColor(role.ButtonText, palette.color(role.HighlightedText))
            option.palette = palette
            state = QtWidgets.QStyle.StateFlag
            option.state = (option.state & ~state.State_On) | state.State_Raised  # "on" would be darkened
        QtWidgets.QStylePainter(self).drawComplexControl(QtWidgets.QStyle.ComplexControl.CC_ToolButton, option)


class Choice(QtWidgets.QWidget):
    """A few named values side by side, one of them chosen. `changed(key)` only when the artist chooses."""

    changed = Signal(str)

    def __init__(self, choices: dict[str, tuple[str, str]]) -> None:
        """`choices`: key -> (text, tooltip)."""
        super().__init__()
        self._buttons: dict[str, QtWidgets.QToolButton] = {}
        group = QtWidgets.QButtonGroup(self)
        for key, (text, tip) in choices.items():
            button = ChoiceButton()
            button.setText(text)
            button.setToolTip(tip)
            button.setCheckable(True)
            button.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
            button.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
            button.setMinimumWidth(button.fontMetrics().horizontalAdvance(text) + BUTTON_MARGIN)
            button.clicked.connect(lambda _=False, key=key: self.changed.emit(key))
            group.addButton(button)
            self._buttons[key] = button
        self.setLayout(row(*self._buttons.values(), spacing=2))

    def set_value(self, key: str) -> None:
        self._buttons[key].setChecked(True)
