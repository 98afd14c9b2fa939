"""Full detail, fine edges, finding by words: what a backend may lack, and what is asked for with it."""

from __future__ import annotations

import dataclasses

import fake_krita
import pytest
from apps import READY, finish_all, make_app, open_picture, square
from diffedit.model import history, prompts
from diffedit.model.inputs import EditInputs
from diffedit.model.payload import LinkState
from diffedit.model.progress import fraction
from diffedit.model.settings import Store
from diffedit.qt import QtCore, QtGui, QtWidgets
from diffedit.ui.docker.panel import EditPanel
from diffedit_protocol.errors import LinkError
from diffedit_protocol.messages import Progress
from diffedit_protocol.replies import BLEND, DETAIL, MATTING, SEGMENT

SWITCHES = (DETAIL, MATTING)
AWAY = LinkState("down", "", True, None, LinkError("No backend is running."))


def able(*capabilities: str) -> LinkState:
    return dataclasses.replace(READY, info=dataclasses.replace(READY.info, capabilities=capabilities))


@pytest.fixture
def opened(store: Store, krita: fake_krita.Krita):
    app, link = make_app(store)
    link.become(able(*SWITCHES))
    open_picture()
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra")
    panel = EditPanel(app)
    panel.resize(260, 700)
    panel.show()
    panel.parts["edit"].fold.unfold()
    yield app, link, panel
    panel.close()


def ask(app, link, until, begin) -> dict[str, bool]:
    """What the job that `begin` starts is asked for with."""
    payloads = len(link.payloads)
    begin()
    until(lambda: len(link.payloads) > payloads)
    return {name: getattr(link.last.request, name) for name in SWITCHES}


@pytest.mark.parametrize("name", SWITCHES)
def test_a_click_asks_for_it_and_another_does_not(opened, name: str, until) -> None:
    app, link, panel = opened
    switch = panel.edit.switches[name]
    assert not switch.isChecked()
    switch.click()
    assert getattr(app.session.inputs, name)
    assert ask(app, link, until, app.edit_layer) == {other: other == name for other in SWITCHES}
    link.finish(square())
    switch.click()
    until(lambda: app.session.activity is None)
    assert ask(app, link, until, app.edit_layer) == dict.fromkeys(SWITCHES, False)


def test_blending_is_the_method_s_own_choice_until_it_is_switched_off(opened, until) -> None:
    app, link, panel = opened
    link.become(able(*SWITCHES, BLEND))
    assert panel.edit.blend.isChecked()
    ask(app, link, until, app.edit_layer)
    assert link.last.request.blend is None
    link.finish(square())
    until(lambda: app.session.activity is None)
    panel.edit.blend.click()
    ask(app, link, until, app.edit_layer)
    assert link.last.request.blend is False


def test_blending_is_grey_where_the_backend_cannot(opened) -> None:
    _, link, panel = opened
    link.become(able())
    assert not panel.edit.blend.isEnabled()
    assert not panel.edit.blend.isChecked()


def segment_of(panel: EditPanel, key: str) -> QtWidgets.QToolButton:
    return panel.edit.segment._buttons[key]


def test_finding_by_words_is_shown_only_where_the_backend_has_a_segmenter(opened) -> None:
    app, link, panel = opened
    assert not panel.edit.segment.isVisible()
    link.become(able(SEGMENT))
    assert panel.edit.segment.isVisible()
    assert segment_of(panel, "").isChecked()
    app.session.change_inputs(segment="replace")
    assert segment_of(panel, "replace").isChecked()
    assert "Finding by words" in panel.parts["edit"].fold.note.toolTip()
    link.become(AWAY)
    assert not panel.edit.segment.isVisible()
    assert "Finding by words" not in panel.parts["edit"].fold.note.toolTip()


@pytest.mark.parametrize("way", ["multiply", "replace"])
def test_a_search_and_an_edit_are_asked_for_by_words_as_was_chosen(opened, way: str, until) -> None:
    app, link, panel = opened
    link.become(able(SEGMENT))
    segment_of(panel, way).click()
    assert app.session.inputs.segment == way
    for begin in (app.find_mask, app.edit_layer):
        ask(app, link, until, begin)
        assert link.last.request.segment == way
        link.finish(square())
        until(lambda: app.session.activity is None)
    segment_of(panel, "").click()
    ask(app, link, until, app.find_mask)
    assert "segment" not in link.last.request.to_wire()


def test_a_backend_without_a_segmenter_is_not_asked_and_the_wish_stays(opened, until) -> None:
    app, link, _ = opened
    app.session.change_inputs(segment="multiply")
    link.become(able(DETAIL))
    ask(app, link, until, app.find_mask)
    assert link.last.request.segment == ""
    link.finish(square())
    until(lambda: app.session.activity is None)
    assert app.session.inputs.segment == "multiply"
    link.become(AWAY)
    ask(app, link, until, app.edit_layer)
    assert link.last.request.segment == "multiply"
    link.become(able())
    link.finish(square(), left_out=(SEGMENT,))
    assert (
        app.session.notice.sentence == "This backend does not support Finding by words. The edit was made without it."
    )
    assert app.session.history[-1].inputs.segment == ""


def test_a_preset_of_a_way_that_is_not_known_finds_as_ever() -> None:
    kept = {**EditInputs("a horse", segment="replace").as_map()}
    assert EditInputs.from_map(kept).segment == "replace"
    assert EditInputs.from_map({**kept, "segment": "by smell"}).segment == ""


def test_the_keyboard_reaches_the_switches_after_the_quality_and_space_turns_them(opened) -> None:
    app, _, panel = opened
    order, widget = [], panel.source.edit
    while widget not in order:
        order.append(widget)
        widget = widget.nextInFocusChain()
    detail, matting = panel.edit.switches[DETAIL], panel.edit.switches[MATTING]
    places = [order.index(stop) for stop in (panel.edit.strength.slider, detail, matting, panel.edit.seed)]
    assert places == sorted(places)
    for kind in (QtCore.QEvent.Type.KeyPress, QtCore.QEvent.Type.KeyRelease):
        key = QtGui.QKeyEvent(kind, QtCore.Qt.Key.Key_Space, QtCore.Qt.KeyboardModifier.NoModifier, " ")
        QtWidgets.QApplication.sendEvent(detail, key)
    assert app.session.inputs.detail


def test_a_search_is_without_them_and_one_more_takes_the_edges_that_are_there(opened, until) -> None:
    app, link, _ = opened
    app.session.change_inputs(detail=True, matting=True, variations=2)
    assert ask(app, link, until, app.find_mask) == dict.fromkeys(SWITCHES, False)
    link.finish(square())
    assert ask(app, link, until, app.edit_layer) == dict.fromkeys(SWITCHES, True)
    finish_all(app, link, until)
    more = ask(app, link, until, lambda: app.results.more(app.session))
    assert more == {DETAIL: True, MATTING: False}
    assert link.last.mask is not None


@pytest.mark.parametrize(
    ("capabilities", "why"),
    [((), {DETAIL: "too old", MATTING: "too old"}), ((DETAIL,), {MATTING: "krita-diffedit[matting]"})],
    ids=["older", "without-pymatting"],
)
def test_what_the_backend_cannot_do_is_grey_says_why_and_is_not_asked_for(opened, capabilities, why, until) -> None:
    app, link, panel = opened
    app.session.change_inputs(detail=True, matting=True)
    link.become(able(*capabilities))
    for name, switch in panel.edit.switches.items():
        assert switch.isEnabled() == switch.isChecked() == (name in capabilities)
        assert why.get(name, "takes several") in switch.toolTip()
    asked = ask(app, link, until, app.edit_layer)
    assert asked == {name: name in capabilities for name in SWITCHES}
    assert "matting" not in link.last.request.to_wire()
    link.finish(square())
    (record,) = app.session.history
    assert (record.inputs.detail, record.inputs.matting) == (DETAIL in capabilities, False)
    link.become(able(*SWITCHES))
    assert all(switch.isEnabled() and switch.isChecked() for switch in panel.edit.switches.values())


def test_without_a_backend_the_wish_stays_and_what_was_left_out_then_is_reported(opened, until) -> None:
    app, link, panel = opened
    app.session.change_inputs(detail=True, matting=True)
    link.become(AWAY)
    assert all(switch.isEnabled() and switch.isChecked() for switch in panel.edit.switches.values())
    assert ask(app, link, until, app.edit_layer) == dict.fromkeys(SWITCHES, True)
    link.become(able(DETAIL))
    link.finish(square(), left_out=(MATTING,))
    assert app.session.notice.sentence == "This backend does not support Fine edges. The edit was made without it."
    (record,) = app.session.history
    assert (record.inputs.detail, record.inputs.matting) == (True, False)
    assert app.session.inputs.matting


def test_the_tooltip_of_the_heading_lists_the_switches_that_are_on(opened) -> None:
    app, link, panel = opened
    app.session.change_inputs(detail=True, matting=True)
    assert panel.parts["edit"].fold.note.toolTip() == "Normal · Full detail · Fine edges"
    link.become(able(DETAIL))
    assert panel.parts["edit"].fold.note.toolTip() == "Normal · Full detail"


def test_history_presets_and_the_last_edit_keep_them_and_older_ones_are_read(opened, store: Store, until) -> None:
    app, link, _ = opened
    app.session.change_inputs(detail=True, matting=True)
    ask(app, link, until, app.edit_layer)
    link.finish(square())
    last = EditInputs.from_map(Store().get("inputs", {}))
    (record,) = history.decode(history.encode(app.session.history, 100_000))
    prompts.save_preset(store, "fur", app.session.inputs)
    preset = prompts.apply_preset(Store(), "fur", EditInputs())
    assert all(inputs.detail and inputs.matting for inputs in (last, record.inputs, preset))
    older = {name: value for name, value in EditInputs("a horse").as_map().items() if name not in SWITCHES}
    assert EditInputs.from_map(older) == EditInputs("a horse")


def test_detail_takes_most_of_the_bar() -> None:
    begun = Progress("decoding", 0, 30)
    assert fraction("edit", begun) > 0.9
    assert fraction("detailed", begun) < 0.4
