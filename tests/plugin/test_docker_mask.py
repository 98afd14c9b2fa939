"""The mask's part of the docker: which values its sliders show, and what moves them."""

from __future__ import annotations

import dataclasses

import fake_krita
import pytest
from apps import READY, make_app, open_picture, square
from diffedit.model.payload import LinkState
from diffedit.model.settings import Store
from diffedit.qt import QtCore, QtGui, QtWidgets
from diffedit.ui.docker.panel import EditPanel
from diffedit_protocol.replies import ModelInfo

Key = QtCore.Qt.Key


@pytest.fixture
def opened(store: Store, krita: fake_krita.Krita):
    """A docker of 260 px, words in it, and a picture in front."""
    app, link = make_app(store)
    panel = EditPanel(app)
    panel.resize(260, 700)
    panel.show()
    link.become(READY)
    open_picture()
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra")
    yield app, link, panel
    panel.close()


def test_the_threshold_says_auto_until_one_is_chosen(opened) -> None:
    app, _, panel = opened
    box = panel.mask.threshold.box
    assert box.text() == "auto"
    panel.mask.threshold.slider.setValue(60)
    assert box.text() == box.locale().toString(0.6, "f", 2)
    panel.mask.automatic.click()
    assert box.text() == "auto"
    box.setFocus()
    box.selectAll()
    write_number(box, "0,3" if box.locale().decimalPoint() == "," else "0.3")
    assert app.session.inputs.threshold == pytest.approx(0.3)


def test_grow_shows_the_automatic_one_of_what_was_found(opened, until) -> None:
    app, link, panel = opened
    assert panel.mask.grow.box.value() == 4
    app.find_mask()
    until(lambda: bool(link.payloads))
    link.finish(square(), ground=True)
    until(lambda: app.session.mask_shown)
    assert panel.mask.grow.box.value() == 0
    panel.mask.grow.box.setValue(5)
    assert link.last.request.grow == 4
    assert (app.session.inputs.grow, app.session.grow) == (5, 5)
    panel.mask.automatic.click()
    assert (app.session.inputs.grow, panel.mask.grow.box.value()) == (None, 0)


def test_grow_and_feather_fit_the_size_of_the_chosen_model(opened, until) -> None:
    app, link, panel = opened
    app.session.side = 512
    sliders = panel.mask.grow.box, panel.mask.feather.box
    models = (ModelInfo("large", size=1024), ModelInfo("small", size=128), ModelInfo("unknown"))
    link.become(dataclasses.replace(READY, info=dataclasses.replace(READY.info, models=models)))
    seen = {}
    for name in ("", "small", "unknown", "not there"):
        app.store.change(model=name)
        seen[name] = tuple(slider.value() for slider in sliders)
    assert seen == {"": (4, 3), "small": (16, 12), "unknown": (4, 3), "not there": (4, 3)}
    app.store.change(model="small")
    link.become(LinkState("lost"))
    assert tuple(slider.value() for slider in sliders) == (16, 12)  # of what is known still


def press(widget: QtWidgets.QWidget, key: Key, text: str = "") -> None:
    for kind in (QtCore.QEvent.Type.KeyPress, QtCore.QEvent.Type.KeyRelease):
        event = QtGui.QKeyEvent(kind, key, QtCore.Qt.KeyboardModifier.NoModifier, text)
        QtWidgets.QApplication.sendEvent(widget, event)


def write_number(box: QtWidgets.QDoubleSpinBox, text: str) -> None:
    for character in text:
        press(box, Key.Key_A, character)
    press(box, Key.Key_Return)


def test_the_automatic_threshold_is_shown_and_comes_back(opened, until) -> None:
    app, link, panel = opened
    panel.run.find.click()
    until(lambda: bool(link.payloads))
    link.finish(square(), threshold=0.42)
    assert panel.mask.threshold.value == pytest.approx(0.42)
    assert panel.mask.threshold.box.text() == "auto"
    assert panel.mask.threshold.toolTip().endswith("Automatic: 0.42")
    assert not panel.mask.automatic.isEnabled()
    panel.mask.threshold.slider.setValue(60)
    assert app.session.inputs.threshold == pytest.approx(0.6)
    panel.mask.automatic.click()
    assert app.session.inputs.threshold is None
    assert panel.mask.threshold.value == pytest.approx(0.42)
