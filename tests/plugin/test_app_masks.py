"""The found mask: shown, moved, painted on, and handed back to the edit."""

from __future__ import annotations

import fake_krita
import numpy as np
import pytest
from apps import layer_names, make_app, open_picture, square
from diffedit.model.settings import Store
from krita import Selection


@pytest.fixture
def opened(store: Store, krita: fake_krita.Krita):
    store.change(mask_form="selection")
    return make_app(store)


def find(app, link, until, **inputs):
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra", grow=0, feather=0, **inputs)
    app.find_mask()
    until(lambda: bool(link.payloads))
    assert link.last.request.task == "mask"
    link.finish(square())
    until(lambda: app.session.mask_shown)


def selected(document) -> tuple[int, int, int, int]:
    selection = document.selection()
    return (selection.x(), selection.y(), selection.width(), selection.height())


def test_a_found_mask_is_shown_as_the_selection_and_esc_brings_the_artists_own_back(opened, until) -> None:
    app, link = opened
    document = open_picture()
    own = Selection()
    own.select(2, 2, 50, 40, 255)
    document.setSelection(own)
    find(app, link, until)
    assert selected(document) == (10, 12, 20, 16)
    app.cancel()
    assert selected(document) == (2, 2, 50, 40)
    assert not app.session.mask_shown


def test_moving_the_threshold_moves_the_mask_without_a_message_to_the_backend(opened, until) -> None:
    app, link = opened
    document = open_picture()
    find(app, link, until)
    sent = len(link.payloads)
    app.session.change_inputs(threshold=0.3)
    app.masks.adjust(app.session)
    until(lambda: selected(document) == (7, 9, 26, 22))
    app.session.change_inputs(threshold=None)
    app.masks.adjust(app.session)
    until(lambda: selected(document) == (10, 12, 20, 16))
    assert len(link.payloads) == sent


def test_many_moves_in_one_turn_are_shown_once(opened, until, monkeypatch) -> None:
    app, link = opened
    document = open_picture()
    find(app, link, until)
    app.masks._settle.setInterval(3_600_000)  # where a slider rests it is shown once more
    shown = []
    monkeypatch.setattr(document, "setSelection", lambda selection: shown.append(selection))
    for step in range(30):
        app.session.change_inputs(threshold=0.3 + step / 100)
        app.masks.adjust(app.session)
    until(lambda: bool(shown))
    assert len(shown) == 1


def test_the_share_that_was_found_is_told_for_the_threshold_of_the_moment(opened, until) -> None:
    app, link = opened
    open_picture()
    find(app, link, until)
    found = app.session.found
    assert found.share(0.5) == pytest.approx(20 * 16 / (64 * 48), abs=0.01)
    assert found.share(0.3) == pytest.approx(26 * 22 / (64 * 48), abs=0.01)
    assert found.share(0.05) == 1.0
    assert found.share(0.95) == 0.0


def test_an_edit_after_a_mask_that_nobody_touched_leaves_the_mask_to_the_backend(opened, until) -> None:
    app, link = opened
    document = open_picture()
    find(app, link, until)
    app.session.change_inputs(threshold=0.3)
    app.edit_layer()
    until(lambda: link.last.request.task == "edit")
    assert link.last.mask is None
    assert link.last.selection is None
    assert app.session.activity.title == "Editing · starting"
    assert link.last.request.threshold == 0.3
    assert (link.last.width, link.last.height) == (64, 48)
    link.finish(square())
    until(lambda: len(document.topLevelNodes()) == 2)
    assert document.selection() is None


def test_an_edit_uses_the_mask_as_the_artist_changed_it(opened, until) -> None:
    app, link = opened
    document = open_picture()
    find(app, link, until)
    document.selection().select(40, 30, 10, 10, 255)
    app.edit_layer()
    until(lambda: link.last.request.task == "edit")
    mask = np.frombuffer(link.last.mask, np.uint8).reshape(48, 64)
    assert mask[35, 45] == 255
    assert mask[14, 12] == 255
    assert mask.sum() == 255 * (20 * 16 + 100)
    assert app.session.activity.title == "Using your mask · starting"
    link.finish(None)
    until(lambda: len(document.topLevelNodes()) == 2)
    assert document.selection() is None


def test_a_painted_mask_outlives_an_edit_that_fails(opened, until) -> None:
    from diffedit_protocol.errors import WorkerDiedError
    from diffedit_protocol.messages import Failed

    app, link = opened
    document = open_picture()
    find(app, link, until)
    document.selection().select(40, 30, 10, 10, 255)
    app.edit_layer()
    until(lambda: link.last.request.task == "edit")
    link.report(Failed(WorkerDiedError("x")))
    assert selected(document) == (10, 12, 40, 28)
    app.remedy("retry")
    until(lambda: len(link.payloads) == 3)
    assert np.frombuffer(link.last.mask, np.uint8).sum() == 255 * (20 * 16 + 100)


def test_a_selection_limits_what_is_sent_and_what_is_found(opened, until) -> None:
    app, link = opened
    app.store.change(context=4)
    document = open_picture()
    own = Selection()
    own.select(8, 8, 12, 10, 255)
    document.setSelection(own)
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra", grow=0, feather=0)
    app.find_mask()
    until(lambda: bool(link.payloads))
    assert (link.last.width, link.last.height) == (20, 18)
    assert np.frombuffer(link.last.selection, np.uint8).sum() == 255 * 120
    link.finish(np.full((18, 20), 200, np.uint8))
    until(lambda: app.session.mask_shown)
    assert selected(document) == (8, 8, 12, 10)


def test_the_mask_of_a_ground_is_not_grown_unless_the_artist_grows_it(opened, until) -> None:
    app, link = opened
    document = open_picture()
    app.look()
    app.session.change_inputs(source="a horse on grass", target="a horse on snow", feather=0)
    app.find_mask()
    until(lambda: bool(link.payloads))
    assert (link.last.request.grow, link.last.request.automatic_grow) == (4, True)
    link.finish(square(), ground=True)
    until(lambda: app.session.mask_shown)
    assert selected(document) == (10, 12, 20, 16)
    assert app.session.grow == 0
    app.session.change_inputs(grow=3)
    app.masks.adjust(app.session)
    until(lambda: selected(document) == (7, 9, 26, 22))
    app.session.change_inputs(grow=None)
    app.masks.adjust(app.session)
    until(lambda: selected(document) == (10, 12, 20, 16))


def test_edit_selection_uses_the_selection_itself_as_the_mask(opened, until) -> None:
    app, link = opened
    document = open_picture()
    own = Selection()
    own.select(8, 8, 12, 10, 180)
    document.setSelection(own)
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra")
    app.edit_selection()
    until(lambda: bool(link.payloads))
    assert link.last.selection is None
    assert set(link.last.mask) == {0, 180}
    link.finish(None)
    until(lambda: len(document.topLevelNodes()) == 2)
    assert selected(document) == (8, 8, 12, 10)


def test_edit_selection_without_one_asks_to_select(opened, until) -> None:
    app, link = opened
    open_picture()
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra")
    app.edit_selection()
    until(lambda: app.session.notice is not None)
    assert app.session.notice.sentence.startswith("Select something first")
    assert link.payloads == []


def test_a_kept_mask_is_a_selection_mask_that_the_next_edit_uses(opened, until) -> None:
    app, link = opened
    document = open_picture()
    find(app, link, until)
    app.masks.keep(app.session)
    layer = document.topLevelNodes()[0]
    until(lambda: bool(layer.childNodes()))
    (mask,) = layer.childNodes()
    assert (mask.type(), mask.name()) == ("selectionmask", "a horse (mask)")
    assert document.selection() is None
    mask.selection().select(0, 0, 5, 5, 255)
    app.edit_layer()
    until(lambda: link.last.request.task == "edit")
    assert np.frombuffer(link.last.mask, np.uint8).sum() == 255 * (20 * 16 + 25)


def test_the_mask_may_be_shown_as_a_selection_mask_instead(opened, until) -> None:
    app, link = opened
    app.store.change(mask_form="selectionmask")
    document = open_picture()
    find(app, link, until)
    layer = document.topLevelNodes()[0]
    assert [node.type() for node in layer.childNodes()] == ["selectionmask"]
    assert document.selection() is None
    app.cancel()
    assert layer.childNodes() == []


def test_changing_how_the_mask_is_shown_takes_effect_at_once(opened, until) -> None:
    app, link = opened
    document = open_picture()
    find(app, link, until)
    app.store.change(mask_form="selectionmask")
    layer = document.topLevelNodes()[0]
    until(lambda: bool(layer.childNodes()))
    assert document.selection() is None


def test_the_mask_becomes_the_artists_selection_by_an_action(opened, until) -> None:
    app, link = opened
    document = open_picture()
    find(app, link, until)
    app.mask_to_selection()
    assert not app.session.mask_shown
    until(lambda: document.selection() is not None)
    assert selected(document) == (10, 12, 20, 16)
    app.cancel()
    assert selected(document) == (10, 12, 20, 16)


def test_the_mask_of_another_picture_is_not_shown_over_this_one(opened, until) -> None:
    app, link = opened
    first = open_picture("first")
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra")
    app.find_mask()
    until(lambda: bool(link.payloads))
    session = app.session
    second = open_picture("second")
    app.look()
    link.finish(square())
    until(lambda: session.found is not None)
    assert (first.selection(), second.selection()) == (None, None)


def test_leaving_a_picture_takes_its_mask_off(opened, until) -> None:
    app, link = opened
    first = open_picture("first")
    find(app, link, until)
    session = app.session
    open_picture("second")
    app.look()
    assert first.selection() is None
    assert not session.mask_shown


def test_a_threshold_moved_after_an_edit_shows_the_mask_again(opened, until) -> None:
    app, link = opened
    document = open_picture()
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra", grow=0, feather=0)
    app.edit_layer()
    until(lambda: bool(link.payloads))
    link.finish(square())
    until(lambda: len(layer_names(document)) == 2)
    assert document.selection() is None
    app.session.change_inputs(threshold=0.3)
    app.masks.adjust(app.session)
    until(lambda: document.selection() is not None)
    assert selected(document) == (7, 9, 26, 22)


def test_a_selection_whose_layer_was_painted_on_stays_and_is_said_to_be_out_of_date(opened, until) -> None:
    app, link = opened
    document = open_picture()
    find(app, link, until)
    document.activeNode().setPixelData(bytes(64), 40, 40, 4, 4)
    until(lambda: app.session.notice is not None)
    assert app.session.notice.sentence == (
        "'Background' was changed since its mask was found. Find the mask again, or undo."
    )
    assert selected(document) == (10, 12, 20, 16)
    assert app.session.mask_shown
