"""From the artist's click to the layer: everything between the docker and the wire, with the wire's end in hand."""

from __future__ import annotations

import fake_krita
import numpy as np
import pytest
from apps import layer_names, make_app, open_picture, square
from diffedit.model.payload import LinkState
from diffedit.model.settings import Store
from diffedit_protocol.errors import LinkError, NothingFoundError, OutOfMemoryError, WorkerDiedError
from diffedit_protocol.messages import Cancelled, Failed, Progress, Queued, Started

HORSE, ZEBRA = "a horse", "a zebra"


@pytest.fixture
def opened(store: Store, krita: fake_krita.Krita):
    app, link = make_app(store)
    return app, link


def begin(app, until, link, **inputs):
    """Writes the words, presses Edit and waits until the payload is on its way."""
    app.look()
    app.session.change_inputs(**{"source": HORSE, "target": ZEBRA, **inputs})
    count = len(link.payloads)
    app.edit_layer()
    until(lambda: len(link.payloads) > count)


def at_rest(app):
    return lambda: app.session.activity is None


def test_an_edit_becomes_a_layer_above_the_source_named_with_words_and_seed(opened, until) -> None:
    app, link = opened
    document = open_picture()
    before = bytes(document.topLevelNodes()[0].pixelData(0, 0, 64, 48))
    begin(app, until, link, seed=41, seed_locked=True)
    link.finish(square())
    until(lambda: len(document.topLevelNodes()) == 2)
    assert layer_names(document) == ["Background", "horse → zebra (41)"]
    layer = document.topLevelNodes()[1]
    assert bytes(layer.pixelData(10, 12, 1, 1)) == bytes([10, 10, 10, 255])
    assert bytes(layer.pixelData(9, 12, 1, 1)) == bytes(4)
    (mask,) = layer.childNodes()
    assert mask.type() == "selectionmask"
    assert (mask.selection().x(), mask.selection().width()) == (10, 20)
    assert bytes(document.topLevelNodes()[0].pixelData(0, 0, 64, 48)) == before
    assert app.session.notice is None


def test_what_is_sent_is_the_layer_in_the_wires_order(opened, until) -> None:
    app, link = opened
    document = open_picture()
    begin(app, until, link)
    bgra = np.frombuffer(bytes(document.activeNode().pixelData(0, 0, 64, 48)), np.uint8).reshape(-1, 4)
    assert link.last.channels == 3
    assert link.last.picture == bgra[:, [2, 1, 0]].tobytes()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("", ZEBRA), "Write what is in the picture now, for example “a horse”."),
        ((HORSE, "  "), "Write what to change it to, for example “a zebra”."),
        ((HORSE, "A Horse "), "Both texts are the same, so there is nothing to change."),
    ],
)
def test_words_that_cannot_be_worked_with_are_told_at_once(opened, words, sentence) -> None:
    app, link = opened
    open_picture()
    app.look()
    app.session.change_inputs(source=words[0], target=words[1])
    app.edit_layer()
    assert app.session.notice.sentence == sentence
    assert link.payloads == []


def test_without_a_document_the_artist_is_told_to_open_one(opened) -> None:
    app, link = opened
    app.session.change_inputs(source=HORSE, target=ZEBRA)
    app.edit_layer()
    assert app.session.notice.sentence == "Open a picture first."
    assert link.payloads == []


def test_an_empty_and_a_locked_layer_are_told_by_name(opened, until) -> None:
    app, _ = opened
    document = open_picture()
    app.look()
    app.session.change_inputs(source=HORSE, target=ZEBRA)
    document.activeNode().setLocked(True)
    app.edit_layer()
    until(lambda: app.session.notice is not None)
    assert app.session.notice.sentence == "'Background' is locked. Unlock it, or choose another layer."
    empty = document.createNode("Ink", "paintlayer")
    document.rootNode().addChildNode(empty, None)
    document.setActiveNode(empty)
    app.edit_layer()
    until(lambda: "Ink" in app.session.notice.sentence)
    assert app.session.activity is None


def test_the_bar_never_goes_back_and_the_words_tell_stage_step_and_time(opened, until) -> None:
    app, link = opened
    open_picture()
    begin(app, until, link)
    shares = []
    app.session.changed.connect(
        lambda aspect: aspect == "activity" and app.session.activity and shares.append(app.session.activity.fraction)
    )
    link.report(Queued(2))
    assert app.session.activity.title == "Editing · 2 jobs ahead"
    link.report(Started())
    for stage, step, total in (("encoding", 1, 1), ("finding", 2, 4), ("inverting", 3, 16), ("editing", 14, 16)):
        link.report(Progress(stage, step, total, 6.4))
    assert app.session.activity.title == "Editing · painting 14/16 · 6 s left"
    link.report(Progress("finding", 1, 4))
    reported = [share for share in shares if share is not None]
    assert reported == sorted(reported)
    assert 0.8 < reported[-1] <= 1.0


def test_a_second_edit_of_the_same_picture_waits_for_the_artist(opened, until) -> None:
    app, link = opened
    open_picture()
    begin(app, until, link)
    app.edit_layer()
    assert "under way" in app.session.notice.sentence
    assert len(link.payloads) == 1


def test_two_pictures_are_edited_side_by_side(opened, until) -> None:
    app, link = opened
    first = open_picture("first")
    begin(app, until, link)
    one = link.last
    second = open_picture("second")
    begin(app, until, link)
    link.finish(square())
    until(lambda: len(second.topLevelNodes()) == 2)
    assert len(first.topLevelNodes()) == 1
    link.payloads.append(one)
    link.finish(square())
    until(lambda: len(first.topLevelNodes()) == 2)
    assert app.session.name == "second"
    assert app.session.notice.sentence == "Finished in first."


def test_cancel_changes_nothing_and_says_so(opened, until) -> None:
    app, link = opened
    document = open_picture()
    begin(app, until, link)
    app.cancel()
    assert link.cancelled == [link.last.job]
    link.report(Cancelled())
    assert app.session.activity is None
    assert app.session.notice.sentence == "Cancelled. Nothing was changed."
    assert layer_names(document) == ["Background"]


@pytest.mark.parametrize(
    ("error", "sentence", "remedies"),
    [
        (
            OutOfMemoryError("x"),
            "The GPU ran out of memory at 64 × 48. Select a smaller area, or choose Draft quality.",
            ("retry",),
        ),
        (
            WorkerDiedError("x"),
            "The backend had to restart its model. Your picture was not changed.",
            ("retry", "log"),
        ),
        (
            NothingFoundError("x"),
            "No region differs clearly between 'a horse' and 'a zebra'. Lower the threshold, or select the "
            "region yourself.",
            (),
        ),
    ],
)
def test_a_job_that_fails_is_told_with_the_way_out(opened, until, error, sentence, remedies) -> None:
    app, link = opened
    open_picture()
    begin(app, until, link)
    link.report(Failed(error))
    assert (app.session.notice.sentence, app.session.notice.remedies) == (sentence, remedies)
    assert app.session.activity is None


def test_try_again_sends_the_same_edit_with_the_same_seed(opened, until) -> None:
    app, link = opened
    open_picture()
    begin(app, until, link)
    first = link.last
    link.report(Failed(WorkerDiedError("x")))
    app.remedy("retry")
    until(lambda: len(link.payloads) == 2)
    assert link.last.request == first.request
    assert link.last.job != first.job


def test_without_a_backend_the_edit_waits_and_the_artist_is_offered_to_start_one(opened, until) -> None:
    app, link = opened
    document = open_picture()
    link.become(LinkState("down", "", True, None, LinkError("No backend is running.")))
    begin(app, until, link)
    notice = app.session.notice
    assert notice.sentence.startswith("No backend is running. Start it here")
    assert notice.remedies == ("start", "settings")
    assert app.session.activity.title == "Editing · waiting for the backend"
    from apps import READY

    link.become(READY)
    assert app.session.notice is None
    assert app.session.activity.title == "Editing · starting"
    link.finish(square())
    until(lambda: len(document.topLevelNodes()) == 2)


def test_a_picture_is_said_to_be_sent_only_while_the_backend_lacks_some_of_it(opened, until) -> None:
    app, link = opened
    open_picture()
    begin(app, until, link)
    assert app.session.activity.title == "Editing · starting"
    for sent, said in ((0, "sending the picture"), (1, "sending the picture"), (2, "starting")):
        link.uploaded.emit(link.last.job, sent, 2)
        assert app.session.activity.title == f"Editing · {said}"


def test_further_results_are_not_said_to_send_a_picture_that_the_backend_has(opened, until) -> None:
    app, link = opened
    open_picture()
    app.look()
    app.session.change_inputs(variations=3)
    begin(app, until, link)
    link.uploaded.emit(link.last.job, 1, 2)
    link.finish(square())
    until(lambda: len(link.payloads) == 2)
    link.uploaded.emit(link.last.job, 2, 2)
    assert app.session.activity.title == "2 more · starting"


def test_a_backend_that_is_full_is_said_with_the_seconds_until_it_is_asked_again(opened, until) -> None:
    app, link = opened
    document = open_picture()
    begin(app, until, link)
    link.delayed.emit(link.last.job, 12.2)
    assert app.session.activity.title == "Editing · the backend is full, trying again in 12 s"
    link.uploaded.emit(link.last.job, 1, 2)
    assert app.session.activity.title == "Editing · sending the picture"
    link.report(Started())
    assert app.session.activity.title == "Editing · starting"
    link.finish(square())
    until(lambda: len(document.topLevelNodes()) == 2)


def test_a_closed_document_keeps_its_result_in_history_and_it_can_be_added_elsewhere(opened, until) -> None:
    app, link = opened
    document = open_picture("sketch")
    begin(app, until, link, seed=5, seed_locked=True)
    document.close()
    app.forget_closed()
    link.finish(square())
    until(lambda: bool(app.results.kept))
    assert app.session.notice.sentence == "'sketch' was closed; the result is kept in History."
    other = open_picture("other")
    app.look()
    app.results.put(app.session, app.results.kept[0])
    until(lambda: len(other.topLevelNodes()) == 2)
    assert layer_names(other)[1] == "horse → zebra (5)"


def test_a_deleted_layer_is_told_and_its_result_stays_in_history(opened, until) -> None:
    app, link = opened
    document = open_picture()
    spare = document.createNode("Spare", "paintlayer")
    document.rootNode().addChildNode(spare, None)
    begin(app, until, link)
    document.topLevelNodes()[0].remove()
    document.setActiveNode(spare)
    link.finish(square())
    until(at_rest(app))
    assert app.session.notice.sentence == "'Background' was deleted; the result is kept in History."
    assert layer_names(document) == ["Spare"]
    assert app.session.history[-1].kept is not None


def test_a_layer_that_was_moved_takes_the_result_along(opened, until) -> None:
    app, link = opened
    document = open_picture()
    begin(app, until, link)
    layer = document.topLevelNodes()[0]
    layer.move(7, 3)
    link.finish(square())
    until(lambda: len(document.topLevelNodes()) == 2)
    assert document.topLevelNodes()[1].bounds().topLeft() == layer.position() + layer.position().__class__(10, 12)


def test_an_unlocked_seed_is_new_for_every_edit_and_a_locked_one_stays(opened, until) -> None:
    app, link = opened
    open_picture()
    seeds = []
    for locked in (False, False, True, True):
        begin(app, until, link, seed_locked=locked)
        seeds.append(link.last.request.seed)
        link.report(Cancelled())
    assert seeds[0] != seeds[1]
    assert seeds[1] == seeds[2] == seeds[3]


def test_repeat_does_the_last_edit_again_with_its_seed(opened, until) -> None:
    app, link = opened
    document = open_picture()
    begin(app, until, link)
    first = link.last.request
    link.finish(square())
    until(lambda: len(document.topLevelNodes()) == 2 and app.session.activity is None)
    document.setActiveNode(document.topLevelNodes()[0])
    app.session.change_inputs(source="a cat", target="a dog", strength=0.3)
    app.repeat()
    until(lambda: len(link.payloads) == 2)
    assert link.last.request == first
    assert not app.session.inputs.seed_locked


def test_new_seed_does_the_same_edit_with_another_seed_even_when_locked(opened, until) -> None:
    app, link = opened
    open_picture()
    begin(app, until, link, seed=9, seed_locked=True)
    link.report(Cancelled())
    app.new_seed()
    until(lambda: len(link.payloads) == 2)
    assert link.last.request.seed != 9


def test_swapping_turns_the_direction_round(opened) -> None:
    app, _ = opened
    app.session.change_inputs(source=HORSE, target=ZEBRA)
    app.swap()
    assert (app.session.inputs.source, app.session.inputs.target) == (ZEBRA, HORSE)


def test_a_picture_that_is_closed_while_it_is_read_is_reported(opened, until) -> None:
    app, link = opened
    document = open_picture()
    app.look()
    app.session.change_inputs(source=HORSE, target=ZEBRA)
    session = app.session
    app.edit_layer()
    document.close()
    until(lambda: session.activity is None)
    assert session.notice.sentence == "The picture was closed before it was read."
    assert link.payloads == []
