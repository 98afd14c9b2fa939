"""Variations: shown in place, accepted, discarded, one more; the history and its copy in the document."""

from __future__ import annotations

import json

import fake_krita
import pytest
from apps import finish_all, layer_names, make_app, open_picture, square
from diffedit.canvas import documents
from diffedit.model.settings import Store
from diffedit_protocol.messages import Cancelled


@pytest.fixture
def opened(store: Store, krita: fake_krita.Krita):
    return make_app(store)


def edit(app, link, until, document, **inputs):
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra", seed=40, seed_locked=True, **inputs)
    document.setActiveNode(document.topLevelNodes()[0])
    app.edit_layer()
    until(lambda: app.session.activity is not None and app.session.activity.phase == "sending")
    finish_all(app, link, until)


def first_pixel(layer) -> int:
    return bytes(layer.pixelData(15, 15, 1, 1))[0]


def states(app) -> list[str]:
    return [variation.state for variation in app.session.variations]


def test_the_first_of_several_results_is_on_the_canvas_while_the_others_are_made(opened, until) -> None:
    app, link = opened
    document = open_picture()
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra", seed=40, seed_locked=True, variations=3)
    app.edit_layer()
    until(lambda: bool(link.payloads))
    assert (link.last.request.seed, link.last.request.variations) == (40, 1)
    link.finish(square())
    until(lambda: len(link.payloads) == 2)
    assert states(app) == ["shown"]
    assert layer_names(document) == ["Background", "horse → zebra (40)"]
    first, rest = link.payloads
    assert (rest.request.seed, rest.request.variations) == (41, 2)
    assert (rest.picture, rest.mask, rest.selection) == (first.picture, first.mask, first.selection)
    assert app.session.activity.title.startswith("2 more")
    link.finish(square(), before=1)
    until(lambda: app.session.activity is None)
    assert states(app) == ["shown", "waiting", "waiting"]
    assert [variation.seed for variation in app.session.variations] == [40, 41, 42]
    assert [variation.pixels[0] for variation in app.session.variations] == [10, 20, 30]
    assert app.session.selected == 0


def test_the_first_result_can_be_accepted_or_undone_while_the_others_are_made(opened, until) -> None:
    app, link = opened
    document = open_picture()
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra", variations=2)
    app.edit_layer()
    until(lambda: bool(link.payloads))
    link.finish(square())
    until(lambda: len(link.payloads) == 2)
    document.topLevelNodes()[1].remove()  # as an undo does
    app.results.look(app.session)
    assert states(app) == ["waiting"]
    assert not app.results.can_accept(app.session)
    document.rootNode().addChildNode(layer := document.createNode("again", "paintlayer"), None)  # as a redo does
    app.session.replace_variation(0, state="shown", layer_id=layer.uniqueId().toString(), undone=None)
    app.results.accept(app.session)
    assert states(app) == ["added"]
    link.finish(square(), before=1)
    until(lambda: app.session.activity is None)
    assert states(app) == ["added", "waiting"]


def two_here_and_more_to_come(app, link, until) -> fake_krita.Document:
    """The first variation is shown, the second waits, two more are being made."""
    document = open_picture()
    edit(app, link, until, document, variations=2)
    app.results.more(app.session)
    until(lambda: len(link.payloads) == 3)
    assert app.session.activity.more == 1
    return document


def test_a_result_that_is_clicked_while_further_ones_are_made_is_shown_at_once(opened, until) -> None:
    app, link = opened
    document = two_here_and_more_to_come(app, link, until)
    app.results.show(app.session, 1)
    assert not app.results.can_accept(app.session)  # until it is there
    until(lambda: states(app) == ["waiting", "shown"])
    assert first_pixel(document.topLevelNodes()[1]) == 20
    assert (app.session.activity.more, app.session.activity.phase) == (1, "sending"), "the others are still made"
    app.results.show(app.session, 0)
    until(lambda: states(app) == ["shown", "waiting"])
    assert layer_names(document) == ["Background", "horse → zebra (40)"]
    link.finish(None)
    until(lambda: app.session.activity is None)
    assert states(app) == ["waiting", "waiting", "shown"]


def test_a_result_that_arrives_while_another_is_being_shown_is_shown_after_it(opened, until) -> None:
    app, link = opened
    document = two_here_and_more_to_come(app, link, until)
    app.results.show(app.session, 1)
    link.finish(None, before=4)
    assert app.session.activity.phase == "adding"
    until(lambda: app.session.activity is None)
    assert states(app) == ["waiting", "waiting", "shown"]
    assert first_pixel(document.topLevelNodes()[1]) == 50


def test_cancelling_while_a_clicked_result_is_being_shown_ends_the_further_ones(opened, until) -> None:
    app, link = opened
    document = two_here_and_more_to_come(app, link, until)
    app.results.show(app.session, 1)
    app.cancel()
    assert link.cancelled == [link.last.job]
    link.report(Cancelled())
    until(lambda: states(app) == ["waiting", "shown"])
    assert app.session.activity is None
    assert first_pixel(document.topLevelNodes()[1]) == 20


def test_cancelling_the_others_keeps_the_first_result_and_says_so(opened, until) -> None:
    app, link = opened
    document = open_picture()
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra", variations=4)
    app.edit_layer()
    until(lambda: bool(link.payloads))
    link.finish(square())
    until(lambda: len(link.payloads) == 2)
    app.cancel()
    link.report(Cancelled())
    assert app.session.notice.sentence == "Cancelled. The results that are here stay."
    assert states(app) == ["shown"]
    assert len(layer_names(document)) == 2


def test_several_results_wait_and_nothing_is_changed_when_the_artist_wants_to_be_asked(opened, until) -> None:
    app, link = opened
    app.store.change(add_single=False)
    document = open_picture()
    edit(app, link, until, document, variations=3)
    assert states(app) == ["waiting"] * 3
    assert [variation.seed for variation in app.session.variations] == [40, 41, 42]
    assert layer_names(document) == ["Background"]


def test_a_shown_result_stays_when_the_next_edit_works_on_it(opened, until) -> None:
    app, link = opened
    document = open_picture()
    edit(app, link, until, document, variations=2)
    edit(app, link, until, document, variations=2)
    assert states(app) == ["waiting", "shown", "waiting"]
    assert len(layer_names(document)) == 3


def test_of_several_quick_clicks_the_last_result_is_shown_and_those_between_are_not(opened, until, monkeypatch) -> None:
    app, link = opened
    document = open_picture()
    edit(app, link, until, document, variations=4)
    app.results.show(app.session, 0)
    until(lambda: states(app)[0] == "shown")
    refreshed = []
    monkeypatch.setattr(document, "refreshProjection", lambda: refreshed.append(1))
    for index in (1, 2, 3):
        app.results.show(app.session, index)
    until(lambda: states(app) == ["waiting", "waiting", "waiting", "shown"] and app.session.activity is None)
    assert first_pixel(document.topLevelNodes()[1]) == 40
    assert len(refreshed) == 2  # for the first click and the last


def test_a_click_shows_a_result_and_another_click_exchanges_it_in_the_same_layer(opened, until) -> None:
    app, link = opened
    document = open_picture()
    edit(app, link, until, document, variations=3)
    app.results.show(app.session, 1)
    until(lambda: states(app) == ["waiting", "shown", "waiting"])
    layer = document.topLevelNodes()[1]
    assert (layer.name(), first_pixel(layer)) == ("horse → zebra (41)", 20)
    app.results.show(app.session, 2)
    until(lambda: states(app) == ["waiting", "waiting", "shown"])
    assert layer_names(document) == ["Background", "horse → zebra (42)"]
    assert first_pixel(document.topLevelNodes()[1]) == 30
    app.results.accept(app.session)
    assert states(app) == ["waiting", "waiting", "added"]
    assert layer_names(document) == ["Background", "horse → zebra (42)"]


def test_accept_without_a_look_adds_the_chosen_one(opened, until) -> None:
    app, link = opened
    app.store.change(add_single=False)
    document = open_picture()
    edit(app, link, until, document, variations=2)
    app.results.accept(app.session)
    until(lambda: states(app) == ["added", "waiting"])
    assert layer_names(document) == ["Background", "horse → zebra (40)"]


def test_after_one_was_accepted_another_may_be_added_too(opened, until) -> None:
    app, link = opened
    document = open_picture()
    edit(app, link, until, document, variations=2)
    app.results.accept(app.session)
    assert states(app) == ["added", "waiting"]
    app.results.show(app.session, 1)
    until(lambda: states(app) == ["added", "shown"])
    assert len(layer_names(document)) == 3


def test_discard_takes_the_shown_result_away_and_leaves_what_was_accepted(opened, until) -> None:
    app, link = opened
    document = open_picture()
    edit(app, link, until, document, variations=2)
    app.results.accept(app.session)
    until(lambda: states(app) == ["added", "waiting"])
    app.results.show(app.session, 1)
    until(lambda: states(app) == ["added", "shown"])
    app.results.discard(app.session)
    assert app.session.variations == ()
    assert layer_names(document) == ["Background", "horse → zebra (40)"]


def test_a_shown_result_that_was_undone_is_told_and_can_be_shown_again(opened, until) -> None:
    app, link = opened
    document = open_picture()
    edit(app, link, until, document, variations=2)
    assert states(app) == ["shown", "waiting"]
    document.topLevelNodes()[1].remove()
    app.results.show(app.session, 1)
    until(lambda: states(app) == ["waiting", "shown"])
    assert layer_names(document) == ["Background", "horse → zebra (41)"]


def test_one_more_sends_the_same_pixels_and_mask_with_a_new_seed_and_is_shown(opened, until) -> None:
    app, link = opened
    document = open_picture()
    edit(app, link, until, document, variations=2)
    first = link.last
    app.results.more(app.session)
    until(lambda: len(link.payloads) == 3)
    assert link.last.picture is first.picture
    assert link.last.mask is not None
    assert link.last.request.variations == 1
    assert link.last.request.seed not in (40, 41)
    link.finish(None)
    until(lambda: app.session.activity is None)
    assert states(app) == ["waiting", "waiting", "shown"]
    assert app.session.selected == 2
    assert len(layer_names(document)) == 2


def test_single_results_wait_too_when_the_artist_wants_to_be_asked(opened, until) -> None:
    app, link = opened
    app.store.change(add_single=False)
    document = open_picture()
    edit(app, link, until, document)
    assert states(app) == ["waiting"]
    assert layer_names(document) == ["Background"]


def test_thumbnails_show_the_edit_in_its_surroundings(opened, until) -> None:
    app, link = opened
    document = open_picture()
    edit(app, link, until, document, variations=2)
    for index, variation in enumerate(app.session.variations):
        picture = variation.thumbnail
        centre = picture.pixelColor(picture.width() // 2, picture.height() // 2)
        assert centre.red() == centre.green() == centre.blue() == 10 * (index + 1)
        assert picture.width() > 20


def test_what_the_backend_notes_is_reported(opened, until) -> None:
    app, link = opened
    document = open_picture()
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra")
    app.edit_layer()
    until(lambda: bool(link.payloads))
    link.finish(square(), notes=(("NEARLY_ALL", "97 % was found."),))
    until(lambda: len(layer_names(document)) == 2)
    assert app.session.notice.sentence == "97 % was found."


def test_the_history_lies_in_the_document_and_is_there_when_it_is_opened_again(opened, until, store) -> None:
    app, link = opened
    document = open_picture()
    edit(app, link, until, document, strength=0.65)
    kept = documents.read_history(document)
    assert json.loads(kept)["edits"][0]["inputs"]["strength"] == 0.65
    again, _ = make_app(store)
    again.look()
    (record,) = again.session.history
    assert (record.name, record.layer, record.model) == ("a horse → a zebra (40)", "Background", "bundled")
    again.results.use_again(again.session, record)
    inputs = again.session.inputs
    assert (inputs.strength, inputs.seed, inputs.seed_locked) == (0.65, 40, True)


def test_a_history_of_another_version_is_told_and_left_as_it_is_until_the_next_edit(opened) -> None:
    app, _ = opened
    document = open_picture()
    documents.write_history(document, b'{"format": 99, "edits": []}')
    app.look()
    assert app.session.history == ()
    assert "could not be read" in app.session.notice.sentence
    assert documents.read_history(document) == b'{"format": 99, "edits": []}'


def test_words_and_sliders_are_there_for_the_next_picture(opened, until) -> None:
    app, link = opened
    document = open_picture("first")
    edit(app, link, until, document, quality="fine", negative="blurry")
    open_picture("second")
    app.look()
    assert app.session.inputs.source == "a horse"
    assert (app.session.inputs.quality, app.session.inputs.negative) == ("fine", "blurry")
