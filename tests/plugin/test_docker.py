"""The docker as a person uses it: mouse, keys, small widths, bright and dark."""

from __future__ import annotations

import fake_krita
import pytest
from apps import READY, finish_all, layer_names, make_app, open_picture, square
from diffedit.model.payload import LinkState
from diffedit.model.settings import Store
from diffedit.qt import QtCore, QtGui, QtWidgets
from diffedit.translation import LANGUAGES, use_language
from diffedit.ui.docker.panel import EditPanel
from diffedit.ui.docker.results_part import Tile
from diffedit.ui.docker.run_row import RunRow
from diffedit_protocol.errors import LinkError
from diffedit_protocol.messages import Preview, Progress, Started

NARROW = 260  # px: the docker beside Krita's own
Key = QtCore.Qt.Key
SHIFT = QtCore.Qt.KeyboardModifier.ShiftModifier


@pytest.fixture
def opened(store: Store, krita: fake_krita.Krita):
    app, link = make_app(store)
    panel = EditPanel(app)
    panel.resize(NARROW, 700)
    panel.show()
    link.become(READY)
    yield app, link, panel
    panel.close()


def press(widget: QtWidgets.QWidget, key: Key, modifiers=QtCore.Qt.KeyboardModifier.NoModifier, text: str = "") -> None:
    for kind in (QtCore.QEvent.Type.KeyPress, QtCore.QEvent.Type.KeyRelease):
        QtWidgets.QApplication.sendEvent(widget, QtGui.QKeyEvent(kind, key, modifiers, text))


def write(edit: QtWidgets.QPlainTextEdit, text: str) -> None:
    for character in text:
        press(edit, Key.Key_A, text=character)


def words(panel: EditPanel) -> None:
    write(panel.source.edit, "a horse")
    write(panel.target.edit, "a zebra")


def test_what_is_typed_is_what_is_asked_for(opened) -> None:
    app, _, panel = opened
    words(panel)
    assert (app.session.inputs.source, app.session.inputs.target) == ("a horse", "a zebra")


def test_enter_edits_and_shift_enter_finds_the_mask(opened, until) -> None:
    app, link, panel = opened
    open_picture()
    app.look()
    words(panel)
    press(panel.target.edit, Key.Key_Return, SHIFT)
    until(lambda: len(link.payloads) == 1)
    assert link.last.request.task == "mask"
    link.finish(square())
    press(panel.source.edit, Key.Key_Return)
    until(lambda: len(link.payloads) == 2)
    assert link.last.request.task == "edit"
    assert "\n" not in panel.source.edit.toPlainText()


def test_edit_becomes_cancel_with_a_bar_a_preview_and_words(opened, until) -> None:
    app, link, panel = opened
    open_picture()
    app.look()
    words(panel)
    panel.run.edit.click()
    until(lambda: bool(link.payloads))
    assert not panel.run.edit.isVisible()
    assert panel.run.cancel.isVisible()
    link.report(Started())
    link.report(Progress("editing", 5, 16, 4.0))
    link.report(Preview(2, 1, bytes([255, 0, 0, 0, 255, 0])))
    assert panel.run.bar.maximum() > 0
    assert 0 < panel.run.bar.value() < panel.run.bar.maximum()
    assert panel.run.title.toolTip() == "Editing · painting 5/16 · 4 s left"
    assert panel.run.preview.isVisible()
    panel.run.cancel.click()
    assert link.cancelled == [link.last.job]
    assert not panel.run.cancel.isEnabled()


def test_escape_in_the_docker_cancels(opened, until) -> None:
    app, link, panel = opened
    open_picture()
    app.look()
    words(panel)
    panel.run.edit.click()
    until(lambda: bool(link.payloads))
    panel.activateWindow()
    panel.source.edit.setFocus()
    (shortcut,) = panel.findChildren(type(panel.escape))
    assert shortcut.key() == QtGui.QKeySequence("Esc")
    shortcut.activated.emit()
    assert link.cancelled == [link.last.job]


def test_a_long_text_grows_to_four_lines_and_then_scrolls(opened) -> None:
    _, _, panel = opened
    edit = panel.source.edit
    one = edit.height()
    edit.setPlainText("a bay horse with a white star that runs")
    few = edit.height()
    edit.setPlainText("a horse and " * 60)
    assert one < few < edit.height() <= 4 * edit.fontMetrics().lineSpacing() + 20


@pytest.mark.parametrize("height", [200, 260, 320, 600])
def test_the_buttons_stay_in_sight_of_long_texts_however_low_the_docker_is(opened, until, height: int) -> None:
    app, link, panel = opened
    open_picture()
    app.look()
    panel.resize(NARROW, height)
    panel.source.edit.setPlainText("a horse on a meadow in the evening sun " * 12)
    panel.target.edit.setPlainText("a zebra on a meadow in the evening sun " * 12)
    app.session.mask_in_use = "a horse (mask)"
    QtWidgets.QApplication.sendPostedEvents()

    def bottom(widget: QtWidgets.QWidget) -> int:
        until(lambda: widget.isVisible())
        return widget.mapTo(panel.viewport(), widget.rect().bottomLeft()).y()

    assert bottom(panel.run.edit) <= height
    assert panel.source.edit.verticalScrollBar().isVisible()
    app.session.selection = True
    QtWidgets.QApplication.sendPostedEvents()
    assert bottom(panel.run.edit) <= height
    panel.run.edit.click()
    until(lambda: bool(link.payloads))
    assert bottom(panel.run.cancel) <= height


def test_pasted_lines_become_one(opened) -> None:
    app, _, panel = opened
    data = QtCore.QMimeData()
    data.setText("a horse\n  on grass\n")
    panel.source.edit.insertFromMimeData(data)
    assert app.session.inputs.source == "a horse on grass"


def test_the_swap_button_turns_the_words_round(opened) -> None:
    _, _, panel = opened
    words(panel)
    button = next(b for b in panel.findChildren(QtWidgets.QToolButton) if b.toolTip() == "Swap the two texts")
    button.click()
    assert (panel.source.edit.toPlainText(), panel.target.edit.toPlainText()) == ("a zebra", "a horse")


def test_sliders_and_boxes_move_together_and_tell_the_session(opened) -> None:
    app, _, panel = opened
    panel.edit.strength.slider.setValue(10)
    assert panel.edit.strength.box.value() == pytest.approx(0.5)
    assert app.session.inputs.strength == pytest.approx(0.5)
    panel.mask.grow.box.setValue(-12)
    assert panel.mask.grow.slider.value() == -12
    assert app.session.inputs.grow == -12


def test_a_tile_is_large_enough_to_judge_and_its_tooltip_shows_the_whole_picture(opened, until) -> None:
    app, link, panel = opened
    open_picture()
    app.look()
    words(panel)
    app.session.change_inputs(variations=3)
    panel.run.edit.click()
    until(lambda: bool(link.payloads))
    finish_all(app, link, until)
    until(lambda: len(panel.results.tiles.tiles) == 4)
    tile = panel.results.tiles.tiles[0]
    assert tile.width() >= 72
    shown = QtGui.QTextDocument()
    variation = app.session.variations[0]
    shown.setHtml(tile.enlarged(variation))
    assert "horse → zebra" in shown.toPlainText()
    picture = variation.thumbnail
    assert shown.size().width() >= picture.width()


def test_with_a_selection_the_docker_offers_to_repaint_it(opened, until) -> None:
    app, link, panel = opened
    document = open_picture()
    app.look()
    words(panel)
    assert not panel.run.repaint_selection.isVisible()
    selection = fake_krita.Selection()
    selection.select(8, 8, 20, 16, 255)
    document.setSelection(selection)
    until(lambda: panel.run.repaint_selection.isVisible())
    panel.run.repaint_selection.click()
    until(lambda: bool(link.payloads))
    assert not panel.run.repaint_selection.isVisible()
    assert link.last.mask is not None  # the selection itself, nothing is searched
    document.setSelection(None)
    link.finish(None)
    until(lambda: app.session.activity is None and not panel.run.repaint_selection.isVisible())


def test_a_mask_that_is_shown_as_a_selection_is_not_taken_for_the_artist_s(opened, until) -> None:
    app, link, panel = opened
    app.store.change(mask_form="selection")
    document = open_picture()
    app.look()
    words(panel)
    panel.run.find.click()
    until(lambda: bool(link.payloads))
    link.finish(square())
    until(lambda: document.selection() is not None)
    app._look_for_changes()
    assert not panel.run.repaint_selection.isVisible()


def test_the_headings_tell_what_is_folded_away(opened, until) -> None:
    app, link, panel = opened
    open_picture()
    app.look()
    words(panel)
    app.session.change_inputs(variations=3, quality="fine")
    panel.run.find.click()
    until(lambda: bool(link.payloads))
    link.finish(square())
    assert panel.parts["mask"].fold.note.toolTip() == "10 % found"
    assert panel.parts["edit"].fold.note.toolTip() == "Fine · 3×"


def test_seeds_up_to_the_largest_are_shown_as_they_are(opened) -> None:
    app, _, panel = opened
    app.session.change_inputs(seed=4294967295)
    assert panel.edit.seed.text() == "4294967295"
    panel.edit.seed.setValue(3000000000)
    assert app.session.inputs.seed == 3000000000


def test_folds_are_remembered(opened, store: Store) -> None:
    _, _, panel = opened
    fold = panel.parts["mask"].fold
    fold.heading.click()
    assert "mask" in Store().settings.unfolded
    fold.heading.click()
    assert "mask" not in Store().settings.unfolded


def test_presets_keep_words_and_sliders_and_are_used_and_deleted(opened) -> None:
    app, _, panel = opened
    words(panel)
    app.session.change_inputs(strength=0.35, seed=7)
    panel.edit.presets.setEditText("stripes")
    panel.edit.save.click()
    app.session.change_inputs(source="a cat", strength=0.9, seed=8)
    panel.edit.presets.activated.emit(0) if QtCore.qVersion().startswith("6") else panel.edit.presets.activated[
        int
    ].emit(0)
    inputs = app.session.inputs
    assert (inputs.source, inputs.strength, inputs.seed) == ("a horse", 0.35, 8)
    panel.edit.delete.click()
    assert panel.edit.presets.count() == 0


def test_tiles_show_accept_and_ask_for_more(opened, until) -> None:
    app, link, panel = opened
    document = open_picture()
    app.look()
    words(panel)
    app.session.change_inputs(variations=2, seed=40, seed_locked=True)
    panel.run.edit.click()
    until(lambda: bool(link.payloads))
    finish_all(app, link, until)

    def tiles() -> list[Tile]:
        return panel.results.tiles.tiles

    assert len(tiles()) == 3
    tiles()[1].click()
    until(lambda: layer_names(document)[1] == "horse → zebra (41)")
    until(lambda: app.session.activity is None)
    press(tiles()[1], Key.Key_Return)
    assert app.session.variations[1].state == "added"
    assert not panel.results.accept.isEnabled()
    tiles()[2].click()
    until(lambda: len(link.payloads) == 3)


def test_the_chosen_tile_has_a_frame_and_its_picture_stays_as_bright(opened, until) -> None:
    app, link, panel = opened
    open_picture()
    app.look()
    words(panel)
    app.session.change_inputs(variations=2)
    panel.run.edit.click()
    until(lambda: bool(link.payloads))
    finish_all(app, link, until)
    chosen, other = (panel.results.tiles.tiles[i].grab().toImage() for i in (0, 1))
    middle = chosen.width() // 2
    assert chosen.pixelColor(middle, middle).red() == 10
    assert other.pixelColor(middle, middle).red() == 20
    assert chosen.pixelColor(1, middle) == panel.palette().color(QtGui.QPalette.ColorRole.Highlight)


def test_the_history_offers_its_settings_again(opened, until) -> None:
    app, link, panel = opened
    document = open_picture()
    app.look()
    words(panel)
    panel.run.edit.click()
    until(lambda: bool(link.payloads))
    link.finish(square())
    until(lambda: len(layer_names(document)) == 2)
    app.session.change_inputs(source="a cat")
    assert panel.history.list.count() == 1
    assert not panel.history.use.isEnabled()
    panel.history.list.setCurrentRow(0)
    panel.history.use.click()
    assert panel.source.edit.toPlainText() == "a horse"


def test_earlier_texts_are_offered(opened, until) -> None:
    app, link, panel = opened
    open_picture()
    app.look()
    words(panel)
    panel.run.edit.click()
    until(lambda: bool(link.payloads))
    menu = panel.source.menu()
    assert [action.text() for action in menu.actions()] == ["a horse"]
    panel.source.edit.setPlainText("")
    menu.actions()[0].trigger()
    assert app.session.inputs.source == "a horse"


def test_a_notice_offers_its_ways_out_and_can_be_dismissed(opened) -> None:
    app, link, panel = opened
    open_picture()
    app.look()
    link.become(LinkState("down", "", True, None, LinkError("No backend is running.")))
    words(panel)
    panel.run.edit.click()
    assert panel.status.text.toolTip() == "No backend is running."
    from diffedit.model import sentences

    app.session.notice = sentences.of_link(link.state)
    assert panel.notice.isVisible()
    assert [name for name, button in panel.notice.buttons.items() if button.isVisible()] == ["start", "settings"]
    panel.notice.dismissed.emit()
    assert not panel.notice.isVisible()


def test_the_menu_of_the_status_line_chooses_the_model(opened) -> None:
    app, _, panel = opened
    menu = panel.status.menu()
    next(action for action in menu.actions() if action.text() == "bundled").trigger()
    assert app.settings.model == "bundled"
    texts = [action.text() for action in menu.actions() if action.text()]
    assert "Stop the local backend" not in texts
    assert texts[-2:] == ["Settings…", "Diagnostics…"]


def test_another_picture_shows_its_own_edit(opened, until) -> None:
    app, link, panel = opened
    first = open_picture("first")
    app.look()
    words(panel)
    panel.run.edit.click()
    until(lambda: bool(link.payloads))
    open_picture("second")
    app.look()
    assert panel.run.edit.isVisible()
    fake_krita.Krita.instance().setActiveDocument(first)
    app.look()
    assert panel.run.cancel.isVisible()


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_fits_into_260_px(store: Store, krita: fake_krita.Krita, language: str, until) -> None:
    store.change(language=language)
    app, link = make_app(store)
    use_language(language)
    document = open_picture()
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra", variations=5)
    panel = EditPanel(app)
    for part in panel.parts.values():
        part.fold.unfold()
    app.edit_layer()
    until(lambda: bool(link.payloads))
    finish_all(app, link, until)
    link.become(LinkState("down", "", True, None, LinkError("x")))
    from diffedit.model import sentences

    app.session.notice = sentences.of_link(link.state)
    panel.resize(NARROW, 900)
    panel.show()
    QtWidgets.QApplication.sendPostedEvents()
    scroll_bar = panel.style().pixelMetric(QtWidgets.QStyle.PixelMetric.PM_ScrollBarExtent)
    widths = {name: part.fold.minimumSizeHint().width() for name, part in panel.parts.items()}
    assert panel.widget().minimumSizeHint().width() + scroll_bar <= NARROW, widths
    assert len(layer_names(document)) == 2
    panel.close()


def test_tab_walks_from_the_words_down(opened) -> None:
    _, _, panel = opened
    for part in panel.parts.values():
        part.fold.unfold()
    order, widget = [], panel.source.edit
    while widget not in order and len(order) < 200:
        order.append(widget)
        widget = widget.nextInFocusChain()
    places = [order.index(w) for w in (panel.source.edit, panel.target.edit, panel.run.find, panel.run.edit)]
    places += [order.index(w) for w in (panel.mask.threshold.slider, panel.edit.strength.slider, panel.history.list)]
    assert places == sorted(places)


def test_everything_that_can_be_used_says_what_it_is_for(opened) -> None:
    _, _, panel = opened
    kinds = (QtWidgets.QAbstractButton, QtWidgets.QSlider, QtWidgets.QAbstractSpinBox, QtWidgets.QPlainTextEdit)
    silent = []
    for kind in kinds:
        for widget in panel.widget().findChildren(kind):
            named = widget.toolTip() or getattr(widget, "text", str)()
            if not named:
                silent.append(widget)
    assert silent == []


@pytest.mark.parametrize(("window", "text"), [("#2d2d2d", "#dddddd"), ("#f0f0f0", "#202020")], ids=["dark", "bright"])
def test_icons_are_drawn_in_the_themes_own_colour(opened, window: str, text: str, application) -> None:
    from diffedit.ui.docker.icons import icon

    before = application.palette()
    palette = QtGui.QPalette(QtGui.QColor(window))
    palette.setColor(QtGui.QPalette.ColorRole.WindowText, QtGui.QColor(text))
    application.setPalette(palette)
    try:
        image = icon("swap").pixmap(32, 32).toImage()
        drawn = [image.pixelColor(x, y) for x in range(32) for y in range(32) if image.pixelColor(x, y).alpha() > 250]
        assert drawn
        assert {colour.name() for colour in drawn} == {text}
    finally:
        application.setPalette(before)


def test_the_history_tells_variations_apart_and_is_no_taller_than_what_it_lists(opened, until) -> None:
    app, link, panel = opened
    open_picture()
    app.look()
    words(panel)
    panel.parts["history"].fold.unfold()
    assert panel.history.empty.isVisible()
    assert not panel.history.list.isVisible()
    app.session.change_inputs(variations=2, seed=41, seed_locked=True)
    panel.run.edit.click()
    until(lambda: bool(link.payloads))
    finish_all(app, link, until)
    rows = [panel.history.list.item(i).text().splitlines() for i in range(panel.history.list.count())]
    assert [line for line, _ in rows] == ["a horse → a zebra"] * 2
    assert [about.partition(" · ")[0] for _, about in rows] == ["seed 42", "seed 41"]
    assert not panel.history.empty.isVisible()
    assert panel.history.list.height() < 3 * panel.history.list.sizeHintForRow(0)


def test_four_results_and_the_plus_fill_two_rows_and_sliders_end_at_one_line_at_260_px(opened, until) -> None:
    app, link, panel = opened
    open_picture()
    app.look()
    words(panel)
    app.session.change_inputs(variations=4)
    for part in panel.parts.values():
        part.fold.unfold()
    panel.run.edit.click()
    until(lambda: bool(link.payloads))
    finish_all(app, link, until)
    QtWidgets.QApplication.sendPostedEvents()
    tiles = panel.results.tiles.tiles
    assert len(tiles) == 5
    assert [tile.y() > 0 for tile in tiles] == [False, False, False, True, True]
    assert tiles[2].geometry().right() < panel.results.tiles.width()
    for sliders in (
        (panel.mask.threshold, panel.mask.grow, panel.mask.feather),
        (panel.edit.strength, panel.edit.variations),
    ):
        edges = {s.slider.mapTo(panel.widget(), s.slider.rect().topRight()).x() for s in sliders}
        assert len(edges) == 1


def test_the_busy_bar_of_a_backend_that_starts_does_not_widen_a_narrow_docker() -> None:
    row = RunRow()
    before = row.minimumSizeHint().width()
    row.show_starting(True)
    assert not row.bar.isHidden()
    assert row.minimumSizeHint().width() <= before + 40
