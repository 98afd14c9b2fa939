"""Words that are suggested for the two texts: asked for, chosen from a list, taken together."""

from __future__ import annotations

import dataclasses

import fake_krita
import pytest
from apps import READY, make_app, open_picture
from diffedit.model import prompts
from diffedit.model.payload import JobResult, LinkState
from diffedit.model.prompts import Suggestions
from diffedit.model.settings import Store
from diffedit.qt import QtCore, QtGui, QtWidgets
from diffedit.ui.docker.panel import EditPanel
from diffedit_protocol.blobs import pack_plane
from diffedit_protocol.errors import LinkError, ModelError, WorkerDiedError
from diffedit_protocol.messages import MAX_PROMPT_CHARACTERS, Bounds, Failed, Manifest, Progress
from diffedit_protocol.replies import DESCRIBE, SUGGEST


def able(*capabilities: str) -> LinkState:
    return dataclasses.replace(READY, info=dataclasses.replace(READY.info, capabilities=capabilities))


@pytest.fixture
def opened(store: Store, krita: fake_krita.Krita):
    app, link = make_app(store)
    panel = EditPanel(app)
    panel.resize(260, 700)
    panel.show()
    open_picture()
    app.look()
    link.become(able(SUGGEST, DESCRIBE))
    yield app, link, panel
    panel.close()


def answer(link, *words: str) -> None:
    plane, _ = pack_plane(bytes(1), 1, 1)
    manifest = Manifest(plane, Bounds(0, 0, 0, 0), 0.5, words=words)
    link.job_finished.emit(link.last.job, JobResult(manifest, bytes(1), None, ()))


def offered(panel: EditPanel, field: str) -> list[str]:
    box = panel.words[field]
    return [box.list.item(i).text() for i in range(box.list.count())] if box.isVisible() else []


def test_wordings_of_the_text_are_asked_for_without_a_picture_and_one_click_takes_one(opened) -> None:
    app, link, panel = opened
    app.session.change_inputs(source="a horse", target="a zebra")
    panel.suggest_target.click()
    assert (link.last.request.task, link.last.request.source) == ("suggest", "a zebra")
    assert (link.last.request.picture, link.last.picture) == (None, None)
    assert link.last.request.variations == prompts.MOST_SUGGESTIONS
    link.report(Progress("encoding", 0, 1))
    assert app.session.activity.title == "Suggesting words · writing"
    assert not panel.suggest_target.isEnabled()
    answer(link, "a striped horse", "the zebra", "a striped horse")
    assert offered(panel, "target") == ["a striped horse", "the zebra"]
    assert offered(panel, "source") == []
    panel.words["target"].list.itemClicked.emit(panel.words["target"].list.item(0))
    assert panel.target.edit.toPlainText() == "a striped horse"
    assert prompts.earlier(app.store, "target") == ["a zebra"]
    panel.words["target"].dismissed.emit()
    assert offered(panel, "target") == []


def test_all_of_them_are_taken_as_wordings_behind_the_artists_own(opened) -> None:
    app, link, panel = opened
    app.session.change_inputs(source="a horse")
    panel.suggest_source.click()
    answer(link, "a mare", "a stallion")
    panel.words["source"].all.click()
    assert app.session.inputs.source == "a horse | a mare | a stallion"
    panel.suggest_source.click()
    assert link.last.request.source == "a horse"


def test_more_than_a_text_has_room_for_is_left_out() -> None:
    long = "x" * MAX_PROMPT_CHARACTERS
    assert Suggestions("source", (long, "mare"), "a horse", True).together == "a horse | mare"


def test_captions_of_the_layer_are_offered_for_an_empty_first_text(opened, until) -> None:
    app, link, panel = opened
    panel.suggest_source.click()
    until(lambda: link.payloads)
    assert (link.last.request.task, link.last.request.variations) == ("describe", prompts.MOST_SUGGESTIONS)
    answer(link, "a horse on grass", "a brown horse")
    assert app.session.inputs.source == ""
    assert offered(panel, "source") == ["a horse on grass", "a brown horse"]
    assert not panel.words["source"].all.isVisible()


def test_without_a_language_model_the_first_text_is_offered_captions_and_the_second_a_sentence(opened, until) -> None:
    app, link, panel = opened
    link.become(able(DESCRIBE))
    app.session.change_inputs(source="a horse", target="a zebra")
    app.suggest("target")  # Ctrl+Space: its button is hidden
    assert app.session.notice.sentence.startswith("This backend has no language model for suggestions.")
    assert not link.payloads
    panel.suggest_source.click()
    until(lambda: link.payloads)
    assert link.last.request.task == "describe"


def test_an_empty_second_text_is_reported(opened) -> None:
    app, link, panel = opened
    panel.suggest_target.click()
    assert app.session.notice.sentence.startswith("Write a word or two first")
    assert not link.payloads


def test_without_a_backend_it_says_so(opened) -> None:
    app, link, _ = opened
    link.become(LinkState("down", "", True, None, LinkError("x")))
    app.session.change_inputs(target="a zebra")
    app.suggest("target")
    assert app.session.notice.sentence.startswith("No backend is running.")


def test_weights_that_are_gone_and_no_words_at_all_are_reported(opened) -> None:
    app, link, panel = opened
    app.session.change_inputs(target="a zebra")
    panel.suggest_target.click()
    link.report(Failed(ModelError("The language model 'x' is incomplete or damaged. Download it again.")))
    assert "Download it again" in app.session.notice.sentence
    panel.suggest_target.click()
    answer(link)
    assert app.session.notice.sentence == "The model found no other words. Try again."
    assert app.session.suggestions is None
    assert app.session.inputs.target == "a zebra"


def test_try_again_asks_for_words_again_and_not_for_an_edit(opened) -> None:
    app, link, panel = opened
    app.session.change_inputs(source="a horse", target="a zebra")
    panel.suggest_target.click()
    link.report(Failed(WorkerDiedError("The worker ended.")))
    panel.notice.buttons["retry"].click()
    assert [payload.request.task for payload in link.payloads] == ["suggest", "suggest"]


def test_escape_closes_the_list_of_suggestions(opened) -> None:
    app, link, panel = opened
    app.session.change_inputs(target="a zebra")
    panel.suggest_target.click()
    answer(link, "the zebra")
    panel.escape.activated.emit()
    assert offered(panel, "target") == []


def test_ctrl_space_asks_and_tab_goes_from_the_text_into_the_list(opened) -> None:
    app, link, panel = opened
    app.session.change_inputs(target="a zebra")
    key, control = QtCore.Qt.Key.Key_Space, QtCore.Qt.KeyboardModifier.ControlModifier
    QtWidgets.QApplication.sendEvent(panel.target.edit, QtGui.QKeyEvent(QtCore.QEvent.Type.KeyPress, key, control, " "))
    assert link.last.request.task == "suggest"
    assert panel.target.edit.toPlainText() == "a zebra"
    answer(link, "the zebra")
    order, widget = [], panel.source.edit
    while widget not in order:
        order.append(widget)
        widget = widget.nextInFocusChain()
    stops = (panel.source.edit, *panel.words["source"].stops, panel.target.edit, *panel.words["target"].stops)
    places = [order.index(stop) for stop in (*stops, panel.run.find, panel.run.edit)]
    assert places == sorted(places)


def test_words_for_one_picture_are_not_shown_beside_another(opened) -> None:
    app, link, panel = opened
    app.session.change_inputs(target="a zebra")
    panel.suggest_target.click()
    open_picture("second")
    app.look()
    answer(link, "the zebra")
    assert offered(panel, "target") == []


def test_the_list_fits_into_260_px(opened) -> None:
    app, link, panel = opened
    app.session.change_inputs(target="a zebra")
    panel.suggest_target.click()
    answer(link, "a zebra that is standing alone on a wide meadow of yellow grass in the evening", "the zebra")
    QtWidgets.QApplication.sendPostedEvents()
    assert panel.widget().minimumSizeHint().width() <= 260


def test_a_button_suggests_only_where_the_backend_can(opened) -> None:
    _, link, panel = opened
    for capabilities, source, target in (((), False, False), ((DESCRIBE,), True, False), ((SUGGEST,), True, True)):
        link.become(able(*capabilities))
        assert (panel.suggest_source.isVisible(), panel.suggest_target.isVisible()) == (source, target)
