"""Edit Layers and Edit Frames: each layer or frame for itself, one after the other, with the same words and seed."""

from __future__ import annotations

import fake_krita
import numpy as np
import pytest
from apps import ScriptedLink, layer_names, make_app, open_picture, square
from diffedit.app import App
from diffedit.model.settings import Store
from diffedit.ui.dialogs.frames_dialog import FramesDialog
from diffedit_protocol.errors import OutOfMemoryError
from diffedit_protocol.messages import Cancelled, Failed, Progress


@pytest.fixture
def three_layers(store: Store, krita) -> tuple[App, ScriptedLink, fake_krita.Document]:
    """An app in front of a picture of three layers, two of which are chosen; the words are written."""
    app, link = make_app(store, "visible")
    document = open_picture()
    for name in ("Middle", "Top"):
        layer = document.createNode(name, "paintlayer")
        pixels = np.full((48, 64, 4), 255 if name == "Top" else 90, np.uint8)
        pixels[..., 3] = 255
        layer.setPixelData(pixels.tobytes(), 0, 0, 64, 48)
        document.rootNode().addChildNode(layer, None)
    krita.activeWindow().activeView().selected = [document.topLevelNodes()[i] for i in (2, 0)]
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra", seed=5, seed_locked=True)
    return app, link, document


def test_each_chosen_layer_is_edited_for_itself_with_the_same_seed(three_layers, until) -> None:
    app, link, document = three_layers
    app.edit_layers()
    until(lambda: len(link.payloads) == 1)
    assert app.session.activity.title.startswith("Editing 1 of 2")
    link.report(Progress("decoding", 1, 1))
    assert 0.45 < app.session.activity.share <= 0.5
    link.finish(square())
    until(lambda: len(link.payloads) == 2)
    assert app.session.activity.title.startswith("Editing 2 of 2")
    assert app.session.activity.share >= 0.5
    link.finish(square())
    until(lambda: app.session.activity is None and app.session.part is None)
    assert layer_names(document) == ["Background", "horse → zebra (5)", "Middle", "Top", "horse → zebra (5)"]
    first, second = link.payloads
    assert first.picture != second.picture
    assert set(second.picture) == {255}
    assert (first.request.seed, second.request.seed) == (5, 5)
    assert app.session.notice.sentence == "2 layers were edited."


def test_one_cancel_ends_all_of_them_and_what_was_added_stays(three_layers, until) -> None:
    app, link, document = three_layers
    app.edit_layers()
    until(lambda: len(link.payloads) == 1)
    link.finish(square())
    until(lambda: len(link.payloads) == 2)
    app.cancel()
    assert link.cancelled == [link.last.job]
    assert app.session.part is None
    assert layer_names(document) == ["Background", "horse → zebra (5)", "Middle", "Top"]


def test_a_layer_that_fails_ends_the_batch_and_says_how_many_were_left(three_layers, until) -> None:
    app, link, _ = three_layers
    app.edit_layers()
    until(lambda: len(link.payloads) == 1)
    link.report(Failed(OutOfMemoryError("no memory")))
    until(lambda: app.session.part is None)
    assert "Layers that were not edited: 1." in app.session.notice.sentence
    assert len(link.payloads) == 1


def test_a_chosen_layer_that_cannot_be_edited_is_named_before_anything_is_sent(three_layers) -> None:
    app, link, document = three_layers
    document.topLevelNodes()[2].setLocked(True)
    app.edit_layers()
    assert app.session.notice.sentence == "'Top' is locked. Unlock it, or choose another layer."
    assert (link.payloads, app.session.activity) == ([], None)


@pytest.fixture
def film(store: Store, krita) -> tuple[App, ScriptedLink, fake_krita.Document]:
    """An app in front of a picture with keyframes at 0, 4 and 8, the frame 5 in front; the words are written."""
    app, link = make_app(store, "visible")
    document = open_picture()
    layer = document.topLevelNodes()[0]
    layer._frames = {0: layer._frames[0], 4: fake_krita.Raster(4), 8: fake_krita.Raster(4)}
    for time, grey in ((0, 10), (4, 80), (8, 160)):
        pixels = np.full((48, 64, 4), grey, np.uint8)
        pixels[..., 3] = 255
        layer._frames[time].write(pixels, 0, 0)
    document.setCurrentTime(5)
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra", seed=5, seed_locked=True)
    return app, link, document


def shown(document: fake_krita.Document) -> list[int]:
    """The grey at a place inside the edits, in the frames 0 to 11."""
    greys, now = [], document.currentTime()
    for time in range(12):
        document.setCurrentTime(time)
        greys.append(bytes(document.rootNode().projectionPixelData(15, 15, 1, 1))[0])
    document.setCurrentTime(now)
    return greys


def test_each_frame_is_edited_once_and_the_results_become_one_layer(film, until) -> None:
    app, link, document = film
    app.edit_frames(0, 100)
    for number in range(1, 4):
        until(lambda number=number: len(link.payloads) == number)
        assert app.session.activity.title.startswith(f"Editing {number} of 3")
        assert layer_names(document) == ["Background"]
        link.finish(square())
    until(lambda: app.session.activity is None and len(document.topLevelNodes()) == 2)
    assert [payload.picture[0] for payload in link.payloads] == [10, 80, 160]
    assert {payload.request.seed for payload in link.payloads} == {5}
    assert layer_names(document) == ["Background", "horse → zebra (5)"]
    assert [time for time in range(12) if document.topLevelNodes()[1].hasKeyframeAtTime(time)] == [0, 4, 8]
    assert shown(document) == [10] * 12
    assert document.currentTime() == 5
    assert [variation.state for variation in app.session.variations] == ["added"] * 3
    assert app.session.notice.sentence == "3 frames were edited."


def test_frames_outside_the_range_stay_as_they_were(film, until) -> None:
    app, link, document = film
    app.edit_frames(2, 6)
    for number in (1, 2):
        until(lambda number=number: len(link.payloads) == number)
        link.finish(square())
    until(lambda: app.session.activity is None and len(document.topLevelNodes()) == 2)
    assert shown(document) == [10, 10, 10, 10, 10, 10, 10, 80, 160, 160, 160, 160]
    assert [time for time in range(12) if document.topLevelNodes()[1].hasKeyframeAtTime(time)] == [0, 2, 4, 7]


def test_one_cancel_in_the_middle_keeps_the_frames_that_are_done(film, until) -> None:
    app, link, document = film
    app.edit_frames(0, 100)
    until(lambda: len(link.payloads) == 1)
    link.finish(square())
    until(lambda: len(link.payloads) == 2)
    app.cancel()
    link.report(Cancelled())
    until(lambda: app.session.activity is None and len(document.topLevelNodes()) == 2)
    assert shown(document) == [10, 10, 10, 10, 80, 80, 80, 80, 160, 160, 160, 160]
    assert app.session.notice.sentence == "Cancelled. Frames that were edited: 1 of 3."
    assert len(link.payloads) == 2


def test_a_frame_that_fails_ends_the_batch_and_the_others_are_kept(film, until) -> None:
    app, link, document = film
    app.edit_frames(0, 100)
    until(lambda: len(link.payloads) == 1)
    link.finish(square())
    until(lambda: len(link.payloads) == 2)
    link.report(Failed(OutOfMemoryError("no memory")))
    until(lambda: app.session.activity is None and len(document.topLevelNodes()) == 2)
    assert "Frames that were not edited: 1." in app.session.notice.sentence


def test_an_empty_frame_is_left_out(film, until) -> None:
    app, link, document = film
    document.topLevelNodes()[0]._frames[4] = fake_krita.Raster(4)
    app.edit_frames(0, 100)
    for number in (1, 2):
        until(lambda number=number: len(link.payloads) == number)
        link.finish(square())
    until(lambda: app.session.activity is None and len(document.topLevelNodes()) == 2)
    assert [payload.picture[0] for payload in link.payloads] == [10, 160]


def test_an_edit_of_one_frame_shows_in_the_frames_that_look_like_it(film, until) -> None:
    app, link, document = film
    app.edit_layer()
    until(lambda: len(link.payloads) == 1)
    assert link.last.picture[0] == 80
    link.finish(square())
    until(lambda: app.session.activity is None and len(document.topLevelNodes()) == 2)
    assert [time for time in range(12) if document.topLevelNodes()[1].hasKeyframeAtTime(time)] == [0, 4, 8]


def test_a_picture_without_animation_has_no_frames_to_edit(three_layers) -> None:
    app, link, _ = three_layers
    wanted = []
    app.frames_wanted.connect(lambda: wanted.append(1))
    app.ask_frames()
    app.edit_frames(0, 100)
    assert app.session.notice.sentence == "This picture is not animated: it has no frames but one. Use Edit Layer."
    assert (wanted, link.payloads) == ([], [])


def test_the_dialog_says_how_many_edits_a_range_is_and_begins_them(film, until) -> None:
    app, link, _ = film
    dialog = FramesDialog(app)
    assert (dialog.first.value(), dialog.last.value(), dialog.count.text()) == (0, 100, "Edits: 3")
    dialog.first.setValue(9)
    assert dialog.count.text() == "Edits: 1"
    dialog.last.setValue(3)
    assert dialog.count.text() == "The first frame comes after the last."
    assert not dialog.edit.isEnabled()
    dialog.last.setValue(20)
    dialog.edit.click()
    until(lambda: len(link.payloads) == 1)
    assert link.last.picture[0] == 160
