"""Results that outlive Krita: an edit is noted until it is decided on, and fetched at the next start."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import fake_krita
import pytest
from apps import READY, ScriptedLink, layer_names, make_app, open_picture, square
from diffedit.app import App
from diffedit.model.pending import PendingJob
from diffedit.model.settings import Store
from diffedit.qt import QtWidgets
from diffedit.ui.quit_guard import QuitGuard
from diffedit_protocol.errors import UnknownJobError
from diffedit_protocol.messages import Failed


@pytest.fixture
def picture(krita: fake_krita.Krita, tmp_path: Path) -> fake_krita.Document:
    document = open_picture()
    path = tmp_path / "horse.kra"
    path.touch()
    document._file_name = str(path)
    return document


def begin(app: App, link: ScriptedLink, until, **inputs) -> None:
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra", seed=5, seed_locked=True, **inputs)
    app.edit_layer()
    until(lambda: len(link.payloads) == 1)


def next_krita(store: Store, payloads: list) -> tuple[App, ScriptedLink]:
    """The app of a Krita that is started later, with the same settings on disk; its link can answer for `payloads`."""
    app, link = make_app(Store(store.folder))
    link.payloads = list(payloads)
    link.become(READY)
    return app, link


def finish_both(app: App, link: ScriptedLink, until) -> None:
    """Two variations: the first comes alone and is shown, the other follows."""
    link.finish(square())
    until(lambda: len(link.payloads) == 2)
    link.finish(square(), before=1)
    until(lambda: app.session.activity is None)


def reopened(closed: fake_krita.Document, layer: fake_krita.Node) -> fake_krita.Document:
    """The same file: its layer has the same id, the document another."""
    again = open_picture()
    again._file_name = closed._file_name
    again.topLevelNodes()[0]._id = layer.uniqueId()
    return again


def noted(store: Store) -> list[str]:
    return [entry["job"] for entry in Store(store.folder).get("pending", [])]


def test_an_edit_is_noted_until_its_result_was_decided_on(store: Store, picture, until) -> None:
    app, link = make_app(store)
    begin(app, link, until, variations=2)
    first = link.last.job
    assert noted(store) == [first]
    finish_both(app, link, until)
    second = link.last.job
    assert noted(store) == [first, second]
    app.results.accept(app.session)
    assert (noted(store), link.settled) == ([second], [first])
    app.results.discard(app.session)
    assert (noted(store), link.settled) == ([], [first, second])


def test_a_single_result_that_became_a_layer_is_settled_and_stays_so_after_an_undo(
    store: Store, picture, until
) -> None:
    app, link = make_app(store)
    begin(app, link, until)
    link.finish(square())
    until(lambda: app.session.variations[0].state == "added")
    assert (noted(store), link.settled) == ([], [link.last.job])


def test_an_edit_that_fails_is_noted_no_more(store: Store, picture, until) -> None:
    app, link = make_app(store)
    begin(app, link, until)
    link.report(Failed(UnknownJobError("no such job")))
    assert noted(store) == []


def test_the_next_krita_fetches_a_result_into_the_picture_of_that_file(store: Store, picture, until) -> None:
    first, link = make_app(store)
    begin(first, link, until)
    first.close()
    app, later = next_krita(store, link.payloads)
    app.look()
    assert later.followed == [link.last.job]
    later.finish(square())
    (variation,) = app.session.variations
    assert (variation.state, layer_names(picture)) == ("waiting", ["Background"])
    assert app.session.notice.sentence == "Results of earlier edits wait here. Accept or discard them."
    assert not variation.thumbnail.isNull()
    app.results.accept(app.session)
    until(lambda: app.session.variations[0].state == "added")
    assert layer_names(picture) == ["Background", "horse → zebra (5)"]
    assert (noted(store), later.settled) == ([], [link.last.job])


def test_a_result_for_a_picture_that_is_not_open_waits_for_it(store: Store, picture, until, krita) -> None:
    first, link = make_app(store)
    begin(first, link, until)
    first.close()
    layer = picture.topLevelNodes()[0]
    picture.close()
    app, later = next_krita(store, link.payloads)
    later.finish(square())
    assert app.session.notice.sentence == "A result for 'horse.kra' was fetched. Open the picture: it is in Results."
    assert noted(store) == [link.last.job]
    again = reopened(picture, layer)
    app.look()
    assert [variation.state for variation in app.session.variations] == ["waiting"]
    app.results.show(app.session, 0)
    until(lambda: app.session.variations[0].state == "shown")
    assert layer_names(again) == ["Background", "horse → zebra (5)"]


def test_a_result_for_a_picture_that_was_never_saved_is_kept_in_history(store: Store, picture, until) -> None:
    picture._file_name = ""
    first, link = make_app(store)
    begin(first, link, until)
    first.close()
    picture.close()
    app, later = next_krita(store, link.payloads)
    later.finish(square())
    assert app.session.notice.sentence == "A result for 'sketch' was fetched. It is kept in History."
    (record,) = app.results.kept
    assert record.kept.seed == 5


def test_one_that_the_backend_does_not_know_any_more_is_forgotten(store: Store, picture, until) -> None:
    first, link = make_app(store)
    begin(first, link, until)
    app, later = next_krita(store, link.payloads)
    later.report(Failed(UnknownJobError("no such job")))
    assert (noted(store), app.results.kept, app.session.notice) == ([], (), None)


@pytest.mark.parametrize("where", ["in its folder", "moved away", "never saved"])
def test_a_fetched_result_that_is_not_wanted_is_forgotten_for_good(
    store: Store, picture, until, krita, where: str
) -> None:
    if where == "never saved":
        picture._file_name = ""
    first, link = make_app(store)
    begin(first, link, until, variations=2)
    finish_both(first, link, until)
    first.close()
    picture.close()
    if where == "moved away":
        Path(picture._file_name).unlink()
    app, later = next_krita(store, link.payloads[:1])
    later.finish(square())
    later.payloads = link.payloads[1:]
    later.finish(square(), before=1)
    moved = "the picture is not in its folder any more" in app.session.notice.sentence
    assert (moved, app.session.notice.remedies) == (where == "moved away", ("forget",))
    app.remedy("forget")
    assert app.session.notice is None
    assert (noted(store), app.results.kept) == ([], ())
    assert later.settled == [payload.job for payload in link.payloads]
    _, third = next_krita(store, link.payloads)
    assert third.followed == []
    again = open_picture()
    again._file_name = picture._file_name
    app.look()
    assert app.session.variations == ()


def test_forgetting_one_picture_s_results_leads_to_those_of_the_next(store: Store, picture, until, krita) -> None:
    first, link = make_app(store)
    begin(first, link, until)
    other = open_picture("cat")
    other._file_name = picture._file_name.replace("horse", "cat")
    first.look()
    first.session.change_inputs(source="a cat", target="a dog", seed=5, seed_locked=True)
    first.edit_layer()
    until(lambda: len(link.payloads) == 2)
    first.close()
    picture.close()
    other.close()
    app, later = next_krita(store, link.payloads[:1])
    later.finish(square())
    later.payloads = link.payloads[1:]
    later.finish(square())
    assert "'cat.kra'" in app.session.notice.sentence
    app.remedy("forget")
    assert "'horse.kra'" in app.session.notice.sentence
    assert noted(store) == [link.payloads[0].job]


def test_one_of_another_backend_waits_for_that_backend(store: Store, picture, until) -> None:
    first, link = make_app(store)
    link.state = dataclasses.replace(READY, host="gpu1", local=False)
    begin(first, link, until)
    _, later = next_krita(store, link.payloads)
    assert later.followed == []
    assert noted(store) == [link.last.job]
    later.become(dataclasses.replace(READY, host="gpu1", local=False))
    assert later.followed == [link.last.job]


def with_two_results_that_waited(store: Store, picture, until) -> tuple[App, ScriptedLink, fake_krita.Document]:
    """A picture that is open again, and was closed with two results that nobody had decided on."""
    app, link = make_app(store)
    begin(app, link, until, variations=2)
    finish_both(app, link, until)
    layer = picture.topLevelNodes()[0]
    picture.close()
    app.forget_closed()
    again = reopened(picture, layer)
    app.look()
    return app, link, again


def test_results_that_wait_survive_that_their_picture_is_closed(store: Store, picture, until) -> None:
    app, _, again = with_two_results_that_waited(store, picture, until)
    assert [variation.state for variation in app.session.variations] == ["waiting"] * 2
    assert app.session.notice.sentence == "Results of earlier edits wait here. Accept or discard them."
    app.results.accept(app.session)
    until(lambda: app.session.variations[0].state == "added")
    assert layer_names(again) == ["Background", "horse → zebra (5)"]


def test_results_of_an_earlier_time_do_not_keep_a_new_single_result_from_the_canvas(
    store: Store, picture, until
) -> None:
    app, link, again = with_two_results_that_waited(store, picture, until)
    app.session.change_inputs(source="a horse", target="a zebra", seed=5, seed_locked=True, variations=1)
    app.edit_layer()
    until(lambda: len(link.payloads) == 3)
    link.finish(square())
    until(lambda: app.session.activity is None and app.session.variations[-1].state == "added")
    assert [variation.state for variation in app.session.variations] == ["waiting", "waiting", "added"]
    assert layer_names(again) == ["Background", "horse → zebra (5)"]


@pytest.mark.parametrize("alpha", [None, bytes(range(200)) * 2])
def test_what_is_noted_comes_back_as_it_was(store: Store, picture, until, alpha: bytes | None) -> None:
    app, link = make_app(store)
    begin(app, link, until)
    job = next(iter(app.jobs._jobs.values()))
    pending = PendingJob.of(job, "gpu1", "/pictures/horse.kra")
    pending = dataclasses.replace(pending, alpha=alpha)
    assert PendingJob.from_map(pending.as_map()) == pending


def test_a_note_that_cannot_be_read_is_left_out(store: Store, krita) -> None:
    store.put("pending", [{"job": "1"}, 7, None])
    app, _ = make_app(store)
    assert app.pending.earlier == ()


@pytest.fixture
def window():
    window = QtWidgets.QMainWindow()
    window.show()
    yield window
    window.deleteLater()


@pytest.mark.parametrize("answer", ["Stay", "Quit Krita"])
def test_krita_asks_before_it_ends_with_an_edit_under_way(store: Store, picture, until, window, answer: str) -> None:
    app, link = make_app(store)
    guard = QuitGuard(app)
    guard.watch(window)
    begin(app, link, until)
    assert not window.close()
    assert guard.box.text() == "An edit is under way: horse.kra."
    assert "is fetched when Krita is started again" in guard.box.informativeText()
    next(button for button in guard.box.buttons() if button.text() == answer).click()
    until(lambda: guard.box is None and window.isVisible() == (answer == "Stay"))


def test_krita_ends_without_a_question_when_no_edit_is_under_way(store: Store, picture, until, window) -> None:
    app, link = make_app(store)
    guard = QuitGuard(app)
    guard.watch(window)
    begin(app, link, until)
    link.finish(square())
    until(lambda: app.session.activity is None)
    assert window.close()
    assert guard.box is None


def test_the_settings_file_holds_no_pixels_of_the_picture(store: Store, picture, until) -> None:
    app, link = make_app(store)
    begin(app, link, until)
    assert Path(store.folder, "plugin.json").stat().st_size < 64 * 1024


def with_a_kept_result(store: Store, picture, until) -> tuple[App, ScriptedLink]:
    """The picture, never saved, was closed during its edit; another one is open."""
    picture._file_name = ""
    app, link = make_app(store)
    begin(app, link, until)
    picture.close()
    app.forget_closed()
    link.finish(square())
    until(lambda: len(app.results.kept) == 1)
    open_picture("other")
    app.look()
    return app, link


def test_a_kept_result_that_is_added_from_history_is_not_offered_again_at_the_next_start(
    store: Store, picture, until
) -> None:
    app, link = with_a_kept_result(store, picture, until)
    assert noted(store) == [link.last.job]
    app.results.put(app.session, app.results.kept[0])
    until(lambda: app.session.activity is None)
    assert (noted(store), link.settled) == ([], [link.last.job])
    _, third = next_krita(store, link.payloads)
    assert third.followed == []


def test_a_kept_result_that_nobody_added_is_offered_at_the_next_start(store: Store, picture, until) -> None:
    _, link = with_a_kept_result(store, picture, until)
    app, later = next_krita(store, link.payloads)
    assert later.followed == [link.last.job]
    later.finish(square())
    assert len(app.results.kept) == 1


def test_a_fetched_result_that_is_added_from_history_is_said_to_wait_no_more(store: Store, picture, until) -> None:
    first, link = with_a_kept_result(store, picture, until)
    first.close()
    app, later = next_krita(store, link.payloads)
    app.look()
    later.finish(square())
    assert app.session.notice.remedies == ("forget",)
    app.results.put(app.session, app.results.kept[0])
    until(lambda: app.session.activity is None)
    assert (app.session.notice, noted(store), later.settled) == (None, [], [link.last.job])


def test_a_waiting_result_that_is_added_from_history_waits_no_more(store: Store, picture, until) -> None:
    store.change(add_single=False)
    app, link = make_app(store)
    begin(app, link, until)
    link.finish(square())
    assert app.session.variations[0].state == "waiting"
    app.results.put(app.session, app.session.history[-1])
    until(lambda: app.session.activity is None)
    assert app.session.variations[0].state == "added"
    assert (noted(store), link.settled) == ([], [link.last.job])


def test_a_result_that_came_after_its_picture_was_closed_is_kept_also_when_none_is_added_by_itself(
    store: Store, picture, until
) -> None:
    store.change(add_single=False)
    app, _ = with_a_kept_result(store, picture, until)
    assert app.results.kept[0].kept.seed == 5


def test_of_several_results_those_that_were_decided_on_are_not_offered_at_the_next_start(
    store: Store, picture, until
) -> None:
    store.change(add_single=False)
    first, link = make_app(store)
    begin(first, link, until, variations=3)
    finish_both(first, link, until)
    seeds = [variation.seed for variation in first.session.variations]
    first.results.show(first.session, 1)
    until(lambda: first.session.activity is None)
    first.results.accept(first.session)
    first.close()
    app, later = next_krita(store, link.payloads[1:])
    app.look()
    later.finish(square(), before=1)
    assert [variation.seed for variation in app.session.variations] == [seeds[2]]


@pytest.mark.parametrize("saved", [True, False])
def test_a_result_whose_layer_was_saved_with_its_picture_is_not_offered_again(
    store: Store, picture, until, krita, saved: bool
) -> None:
    first, link = make_app(store)
    begin(first, link, until, variations=2)
    finish_both(first, link, until)
    shown = picture.topLevelNodes()[1]
    first.close()
    layer = picture.topLevelNodes()[0]
    picture.close()
    again = reopened(picture, layer)
    if saved:
        again.rootNode().addChildNode(twin := again.createNode(shown.name(), "paintlayer"), None)
        twin._id = shown.uniqueId()
    app, later = next_krita(store, link.payloads[:1])
    app.look()
    later.finish(square())
    assert [variation.state for variation in app.session.variations] == ["added" if saved else "waiting"]
    assert (app.session.notice is None) == saved
    assert noted(store) == [link.payloads[1].job] if saved else [payload.job for payload in link.payloads]


def test_a_result_that_was_saved_with_its_picture_is_a_part_of_it_when_that_is_opened_again(
    store: Store, picture, until, krita
) -> None:
    app, link = make_app(store)
    begin(app, link, until, variations=2)
    finish_both(app, link, until)
    shown = picture.topLevelNodes()[1]
    layer = picture.topLevelNodes()[0]
    picture.close()
    app.forget_closed()
    again = reopened(picture, layer)
    again.rootNode().addChildNode(twin := again.createNode(shown.name(), "paintlayer"), None)
    twin._id = shown.uniqueId()
    app.look()
    assert [variation.state for variation in app.session.variations] == ["added", "waiting"]
    assert link.settled == [link.payloads[0].job]
