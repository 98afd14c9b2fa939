"""LoRAs and textual inversions in the docker: chosen per edit, kept with it, missing at another backend."""

from __future__ import annotations

import dataclasses
import json

import fake_krita
import pytest
from apps import READY, finish_all, make_app, open_picture, square
from diffedit.model import prompts
from diffedit.model.history import decode, encode
from diffedit.model.inputs import EditInputs
from diffedit.model.payload import LinkState
from diffedit.model.settings import Store
from diffedit.qt import QtCore, QtGui, QtWidgets
from diffedit.ui.docker.panel import EditPanel
from diffedit_protocol.messages import Adapter
from diffedit_protocol.replies import AdapterInfo, ModelInfo, ServerInfo

INK, TOY = AdapterInfo("ink", "LoRA", "SD 1"), AdapterInfo("toy", "textual inversion", "SD 1", "<toy>")
WIDE, BROKEN = AdapterInfo("wide", "LoRA", "SD XL"), AdapterInfo("broken", "damaged")
MODELS = (ModelInfo("paint", "SD 1", 512), ModelInfo("large", "SD XL", 1024))


def backend(*adapters: AdapterInfo, host: str = "") -> LinkState:
    info = ServerInfo("0.1.0", "boot", MODELS, "a device", adapter_details=adapters)
    return LinkState("ready", host, not host, info)


@pytest.fixture
def opened(store: Store, krita: fake_krita.Krita):
    app, link = make_app(store)
    panel = EditPanel(app)
    panel.resize(260, 900)
    panel.show()
    open_picture()
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra")
    link.become(backend(INK, TOY, WIDE, BROKEN))
    panel.parts["adapters"].fold.unfold()
    yield app, link, panel
    panel.close()


def press(widget: QtWidgets.QWidget, key: QtCore.Qt.Key) -> None:
    for kind in (QtCore.QEvent.Type.KeyPress, QtCore.QEvent.Type.KeyRelease):
        event = QtGui.QKeyEvent(kind, key, QtCore.Qt.KeyboardModifier.NoModifier)
        QtWidgets.QApplication.sendEvent(widget, event)


def add(panel: EditPanel, typed: str) -> None:
    panel.adapters.choice.setEditText(typed)
    press(panel.adapters.choice, QtCore.Qt.Key.Key_Return)


def listed(panel: EditPanel) -> dict[str, bool]:
    """Names in the list, and whether each can be chosen."""
    choice = panel.adapters.choice
    return {choice.itemText(i): choice.model().item(i).isEnabled() for i in range(choice.count())}


def test_a_part_of_a_name_and_enter_add_it_and_an_edit_asks_for_it_with_its_weight(opened, until) -> None:
    app, link, panel = opened
    add(panel, "IN")
    (line,) = panel.adapters.rows
    assert app.session.inputs.adapters == (Adapter("ink", 1.0),)
    line.weight.slider.setValue(14)  # notches of 0.05
    assert app.session.inputs.adapters == (Adapter("ink", 0.7),)
    assert panel.adapters.rows == [line]  # the slider that is dragged stays the same one
    assert panel.parts["adapters"].fold.note.text_whole == "ink 0.7"
    panel.run.edit.click()
    until(lambda: link.payloads)
    assert link.last.request.adapters == (Adapter("ink", 0.7),)


def test_a_search_and_one_more_variation_wear_them_too_and_a_description_does_not(opened, until) -> None:
    app, link, _ = opened
    app.session.change_inputs(adapters=(Adapter("ink", 0.5),), variations=2)
    app.find_mask()
    until(lambda: len(link.payloads) == 1)
    assert link.last.request.adapters == (Adapter("ink", 0.5),)
    link.finish(square())
    app.edit_layer()
    until(lambda: len(link.payloads) == 2)
    finish_all(app, link, until)
    assert link.last.request.adapters == (Adapter("ink", 0.5),)
    app.session.change_inputs(adapters=())
    app.results.more(app.session)
    until(lambda: len(link.payloads) == 4)
    assert link.last.request.adapters == (Adapter("ink", 0.5),)
    link.finish(None)
    app.session.change_inputs(adapters=(Adapter("gone"),))
    until(lambda: app.session.activity is None)
    app.describe()
    until(lambda: len(link.payloads) == 5)
    assert link.last.request.adapters == ()


def test_only_what_fits_the_model_can_be_chosen_and_another_model_changes_that(opened) -> None:
    app, _, panel = opened
    assert listed(panel) == {"ink": True, "toy": True, "wide": False, "broken": False}
    add(panel, "wide")
    assert app.session.inputs.adapters == ()
    assert panel.adapters.hint.text() == "Nothing of that name fits the model."
    app.choose("model:large")
    assert listed(panel) == {"ink": False, "toy": False, "wide": True, "broken": False}


def test_one_that_was_chosen_leaves_the_list_and_comes_back_when_it_is_removed(opened) -> None:
    app, _, panel = opened
    add(panel, "toy")
    assert "toy" not in listed(panel)
    panel.adapters.rows[0].remove.click()
    assert app.session.inputs.adapters == ()
    assert listed(panel)["toy"]
    assert panel.adapters.rows == []


def test_several_names_with_the_typed_letters_are_shown_instead_of_guessed(opened) -> None:
    app, link, panel = opened
    link.become(backend(INK, dataclasses.replace(INK, name="pink")))
    add(panel, "nk")
    assert app.session.inputs.adapters == ()
    add(panel, "ink")
    assert app.session.inputs.adapters == (Adapter("ink"),)


def test_the_row_of_a_learned_word_says_it_until_a_text_has_it(opened) -> None:
    app, _, panel = opened
    add(panel, "toy")
    (line,) = panel.adapters.rows
    assert line.remark.text() == "Write <toy> in a text, or it has no effect."
    app.session.change_inputs(target="a <toy> zebra")
    assert line.remark.isHidden()


def test_what_the_backend_lacks_is_named_before_anything_is_sent_and_stays_on_the_list(opened, until) -> None:
    app, link, panel = opened
    app.session.change_inputs(adapters=(Adapter("ink", 0.7), Adapter("wash")))
    panel.run.edit.click()
    assert app.session.notice.sentence == (
        "'wash' is not in the adapters folder. Put its file there, or remove it from the list."
    )
    link.become(backend(INK, host="gpu1"))
    panel.run.edit.click()
    assert app.session.notice.sentence.startswith("gpu1 does not have 'wash'.")
    assert panel.adapters.rows[1].remark.text().startswith("This backend does not have it")
    assert not link.payloads
    panel.notice.buttons["look"].click()
    assert (app.session.notice, link.reconnects) == (None, 1)
    link.become(backend(INK, AdapterInfo("wash"), host="gpu1"))
    assert panel.adapters.rows[1].remark.isHidden()
    panel.run.edit.click()
    until(lambda: link.payloads)
    assert link.last.request.adapters == (Adapter("ink", 0.7), Adapter("wash"))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("wide", "'wide' was made for SD XL and does not fit the model 'paint'."),
        ("broken", "The file of 'broken' is damaged."),
    ],
)
def test_what_cannot_be_used_is_told_with_the_way_out(opened, name: str, sentence: str) -> None:
    app, link, panel = opened
    app.session.change_inputs(adapters=(Adapter(name),))
    panel.run.edit.click()
    assert app.session.notice.sentence.startswith(sentence)
    assert not link.payloads


def test_an_older_backend_tells_names_alone_and_they_can_be_chosen(opened) -> None:
    _, link, panel = opened
    link.become(dataclasses.replace(READY, info=dataclasses.replace(READY.info, adapters=("ink", "toy"))))
    assert listed(panel) == {"ink": True, "toy": True}


def test_nothing_there_is_told_with_what_to_do(opened) -> None:
    _, link, panel = opened
    link.become(backend())
    assert panel.adapters.hint.text().endswith("put .safetensors files into the folder, then refresh.")
    assert panel.adapters.folder.isVisible()
    assert not panel.adapters.choice.isEnabled()
    link.become(backend(host="gpu1"))
    assert "gpu1 has none: .safetensors files go into" in panel.adapters.hint.text()
    assert not panel.adapters.folder.isVisible()
    panel.adapters.again.click()
    assert link.reconnects == 1


def test_the_folder_is_made_and_opened(opened, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = []
    monkeypatch.setattr(QtGui.QDesktopServices, "openUrl", lambda url: urls.append(url.toLocalFile()))
    opened[2].adapters.folder.click()
    assert urls == [str(store.folder / "adapters")]
    assert (store.folder / "adapters").is_dir()


def test_history_presets_and_the_last_edit_keep_them(opened, store: Store, until) -> None:
    app, link, panel = opened
    active_adapters = (Adapter("ink", 0.7), Adapter("toy", -0.5))
    app.session.change_inputs(adapters=active_adapters)
    prompts.save_preset(store, "inked", app.session.inputs)
    panel.run.edit.click()
    until(lambda: link.payloads)
    link.finish(square())
    until(lambda: app.session.activity is None)
    (record,) = decode(encode(app.session.history, 10_000))
    assert record.inputs.adapters == active_adapters
    assert "ink 0.7 · toy -0.5" in panel.history.list.item(0).toolTip()
    app.session.change_inputs(adapters=())
    assert panel.adapters.rows == []
    app.results.use_again(app.session, record)
    assert [line.weight.value for line in panel.adapters.rows] == [0.7, -0.5]
    app.session.change_inputs(adapters=())
    app.session.inputs = prompts.apply_preset(store, "inked", app.session.inputs)
    assert app.session.inputs.adapters == active_adapters
    again, _ = make_app(Store())
    assert again.session.inputs.adapters == active_adapters


@pytest.mark.parametrize(
    "adapters", [[{"name": "../x", "weight": 1}], [{"name": "ink"}], [{"name": "ink", "weight": 9}]]
)
def test_a_history_with_a_bad_adapter_is_refused_as_such(adapters: list[dict]) -> None:
    values = {"inputs": {**EditInputs("a", "b").as_map(), "adapters": adapters}, "seed": 1, "when": "2026-01-01"}
    with pytest.raises(ValueError, match="The history holds an entry that is no edit"):
        decode(json.dumps({"format": 1, "edits": [values]}).encode())


def test_tab_reaches_every_row_before_the_list(opened) -> None:
    app, _, panel = opened
    app.session.change_inputs(adapters=(Adapter("ink"), Adapter("toy")))
    order, widget = [], panel.parts["adapters"].fold.heading
    while widget not in order:
        order.append(widget)
        widget = widget.nextInFocusChain()
    stops = [stop for line in panel.adapters.rows for stop in line.stops] + [panel.adapters.choice]
    places = [order.index(stop) for stop in stops]
    assert places == sorted(places)
    assert order.index(panel.parts["history"].fold.heading) > places[-1]


def test_an_arrow_key_shows_the_list_and_the_wheel_chooses_nothing(opened) -> None:
    app, _, panel = opened
    choice = panel.adapters.choice
    press(choice, QtCore.Qt.Key.Key_Down)
    assert choice.view().isVisible()
    choice.hidePopup()
    turn(choice)
    assert app.session.inputs.adapters == ()


def turn(widget: QtWidgets.QWidget) -> QtGui.QWheelEvent:
    """The mouse wheel, one notch over the middle of a widget."""
    middle = QtCore.QPointF(widget.rect().center())
    event = QtGui.QWheelEvent(
        middle,
        QtCore.QPointF(widget.mapToGlobal(widget.rect().center())),
        QtCore.QPoint(),
        QtCore.QPoint(0, -120),
        QtCore.Qt.MouseButton.NoButton,
        QtCore.Qt.KeyboardModifier.NoModifier,
        QtCore.Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QtWidgets.QApplication.sendEvent(widget, event)
    return event


def test_the_wheel_scrolls_past_sliders_boxes_and_presets_unless_one_has_the_focus(opened, store: Store) -> None:
    app, _, panel = opened
    prompts.save_preset(store, "one", dataclasses.replace(app.session.inputs, strength=0.3))
    panel.edit._list_presets("")
    panel.parts["edit"].fold.unfold()
    panel.parts["mask"].fold.unfold()
    before = app.session.inputs
    for widget in (panel.mask.threshold.slider, panel.mask.grow.box, panel.edit.seed, panel.edit.presets):
        turn(widget)
    assert app.session.inputs == before
    panel.activateWindow()
    panel.edit.strength.slider.setFocus()
    QtWidgets.QApplication.processEvents()
    assert panel.edit.strength.slider.hasFocus()
    turn(panel.edit.strength.slider)
    assert app.session.inputs.strength < before.strength
