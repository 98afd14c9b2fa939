"""Edit Layers: each chosen layer for itself, one after the other, with the same words and seed."""

from __future__ import annotations

import fake_krita
import numpy as np
import pytest
from apps import ScriptedLink, layer_names, make_app, open_picture, square
from diffedit.app import App
from diffedit.model.settings import Store
from diffedit_protocol.errors import OutOfMemoryError
from diffedit_protocol.messages import Failed, Progress


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
