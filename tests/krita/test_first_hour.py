"""What an artist tries in the first hour, as a person does it: the bright theme, a narrow docker, mouse and keys.

The list of all of them is docs/first-hour.md; those that other files try are not tried again here.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from diffedit_backend.bundled import samples, samples_folder
from diffedit_krita_driver.backend_process import BackendProcess
from diffedit_krita_driver.display import screenshot
from diffedit_krita_driver.kra import Kra
from diffedit_krita_driver.profile import Look
from diffedit_krita_driver.remote import RemoteKrita

_SPEC = importlib.util.spec_from_file_location("hands", Path(__file__).with_name("hands.py"))
hands_module = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(hands_module)
Hands, until, at_rest, show_docker = (getattr(hands_module, n) for n in ("Hands", "until", "at_rest", "show_docker"))
held, is_working = hands_module.held, hands_module.is_working

SAMPLE = samples()[0]
NARROW = 260  # px of the docker
EDIT = "horse → zebra (41)"


@dataclass
class OpenDocker:
    """A Krita with its backend, and the hands of the person before it."""

    krita: RemoteKrita
    hands: object
    backend: BackendProcess


@pytest.fixture(scope="module")
def opened(start_krita) -> Iterator[OpenDocker]:
    """Bright theme, a docker of 260 px."""
    krita = start_krita(look=Look("Krita bright"))
    opened = OpenDocker(krita, Hands(krita), BackendProcess(krita.profile.diffedit_home))
    try:
        krita.run(show_docker)
        krita.run(narrow_docker, width=NARROW)
        until(krita, link_is, kind="ready")
        yield opened
    finally:
        krita.stop()
        opened.backend.stop()


@pytest.fixture
def easel(opened: OpenDocker) -> OpenDocker:
    """The sample picture freshly opened, draft quality, no words, folds shut but Results."""
    opened.krita.run(hands_module.fresh_sheet, picture=samples_folder() / SAMPLE.file)
    return opened


def narrow_docker(stage, width):
    from diffedit.extension import DOCKER_ID
    from diffedit_driver.qt import QDockWidget, Qt

    docks = {dock.objectName(): dock for dock in stage.window().findChildren(QDockWidget)}
    stage.window().resizeDocks([docks[DOCKER_ID], docks["KisLayerBox"]], [width, width], Qt.Orientation.Horizontal)
    yield 0.5


def unfold(stage, name):
    from diffedit.extension import DOCKER_ID
    from diffedit_driver.qt import QDockWidget

    stage.window().findChild(QDockWidget, DOCKER_ID).panel.parts[name].fold.unfold()
    yield 0.2


def change_inputs(stage, **values):
    from diffedit.extension import extension

    extension().app.session.change_inputs(**values)


def link_is(stage, kind):
    from diffedit.extension import extension

    return extension().app.link.state.kind == kind


def joined(stage):
    from diffedit.extension import extension

    app = extension().app
    return app.settings.backend == "remote" and app.link.state.kind == "ready"


def notice(stage):
    from diffedit.extension import extension

    printed = extension().app.session.notice
    return None if printed is None else printed.sentence


def notice_begins(stage, words):
    from diffedit.extension import extension

    printed = extension().app.session.notice
    return printed is not None and printed.sentence.startswith(words)


def title_begins(stage, words):
    from diffedit.extension import extension

    activity = extension().app.session.activity
    return activity is not None and activity.title.startswith(words)


def mask_is_shown(stage):
    from diffedit.extension import extension

    return extension().app.session.mask_shown


def variations(stage, count):
    """The seeds and the states, once there are `count` and nothing runs."""
    from diffedit.extension import extension

    session = extension().app.session
    found = [[variation.seed, variation.state] for variation in session.variations]
    return found if session.activity is None and len(found) == count else None


def states_are(stage, wanted):
    from diffedit.extension import extension

    session = extension().app.session
    return session.activity is None and [variation.state for variation in session.variations] == wanted


def layer_names(stage):
    return [node.name() for node in stage.document.topLevelNodes() if node.type() != "selectionmask"]


def layers_are(stage, count):
    from diffedit.extension import extension

    nodes = [node for node in stage.document.topLevelNodes() if node.type() != "selectionmask"]
    return extension().app.session.activity is None and len(nodes) == count


def take_brush(stage, on):
    """The freehand brush with white, on the node of that name."""
    from diffedit_driver.qt import QApplication

    node = stage.document.nodeByName(on)
    stage.document.setActiveNode(node)
    yield lambda: stage.document.activeNode().name() == on
    yield 0.3
    stage.app.action("KritaShape/KisToolBrush").trigger()
    stage.app.action("reset_fg_bg").trigger()
    stage.app.action("toggle_fg_bg").trigger()
    QApplication.setActiveWindow(stage.window())
    yield 0.5


def more_is_selected(stage, of, than):
    """Whether more than so many pixels of the selection mask of that name are wholly selected."""
    selection = stage.document.nodeByName(of).selection()
    data = bytes(selection.pixelData(0, 0, stage.document.width(), stage.document.height()))
    return data.count(255) > than


def selected_pixels(stage, of):
    """How many pixels of the selection mask of that name are wholly selected."""
    selection = stage.document.nodeByName(of).selection()
    width, height = stage.document.width(), stage.document.height()
    data = bytes(selection.pixelData(0, 0, width, height))
    return data.count(255)


def settle(stage):
    yield from stage.settle()


def save(stage, path):
    yield from stage.settle()
    stage.save(path)


def write_words(hands) -> None:
    hands.replace("source.edit", SAMPLE.source)
    hands.key("Tab")
    hands.type(SAMPLE.target)


def test_at_260_px_and_in_the_bright_theme_nothing_of_the_docker_is_cut_off(easel: OpenDocker, tmp_path: Path) -> None:
    krita, hands = easel.krita, easel.hands
    write_words(hands)
    for name in ("mask", "edit", "history"):
        krita.run(unfold, name=name)
    reported = krita.run(cut_off)
    screenshot(krita.process.display, tmp_path / "narrow.png")
    print(tmp_path / "narrow.png")
    assert reported["width"] == NARROW
    assert reported["cut"] == []
    assert reported["background"] > 150


def cut_off(stage):
    """Widgets that reach beyond the docker, and buttons and labels with less room than their text needs."""
    from diffedit.extension import DOCKER_ID
    from diffedit_driver.qt import QAbstractButton, QDockWidget, QPalette, QWidget

    dock = stage.window().findChild(QDockWidget, DOCKER_ID)
    panel = dock.panel
    cut, right = [], panel.viewport().mapToGlobal(panel.viewport().rect().topRight()).x()
    for widget in panel.widget().findChildren(QWidget):
        if not widget.isVisible():
            continue
        beyond = widget.mapToGlobal(widget.rect().topRight()).x() > right
        text = widget.text() if isinstance(widget, QAbstractButton) else ""
        if beyond or (text and widget.width() < widget.fontMetrics().horizontalAdvance(text.replace("&", ""))):
            cut.append([type(widget).__name__, text])
    return {
        "width": dock.width(),
        "cut": cut,
        "background": panel.palette().color(QPalette.ColorRole.Window).lightness(),
    }


def test_with_the_keyboard_alone_words_become_results_and_one_becomes_a_layer(easel: OpenDocker) -> None:
    krita, hands = easel.krita, easel.hands
    krita.run(change_inputs, variations=2)
    hands.key("ctrl+alt+e")  # no words yet: the docker comes and waits for them
    hands.type(SAMPLE.source)
    hands.key("Tab")
    hands.type(SAMPLE.target)
    hands.key("Return")
    until(krita, variations, count=2)
    for _ in range(12):
        if krita.run(focused) == "Tile":
            break
        hands.key("Tab")
    assert krita.run(focused) == "Tile"
    hands.key("space")  # looks at it; the focus stays where it is
    until(krita, states_are, wanted=["shown", "waiting"])
    assert krita.run(focused) == "Tile"
    hands.key("Tab", "space")
    until(krita, states_are, wanted=["waiting", "shown"])
    hands.key("Return")
    until(krita, states_are, wanted=["waiting", "added"])
    assert krita.run(layer_names) == ["Background", EDIT.replace("41", "42")]


def focused(stage):
    from diffedit_driver.qt import QApplication

    return type(QApplication.focusWidget()).__name__


def test_plus_gives_one_more_variation_with_a_seed_of_its_own(easel: OpenDocker) -> None:
    krita, hands = easel.krita, easel.hands
    krita.run(change_inputs, variations=2)
    write_words(hands)
    hands.click("run.edit")
    until(krita, variations, count=2)
    hands.click("results.tiles.tiles.2")  # behind the two results
    found = until(krita, variations, count=3)
    assert [seed for seed, _ in found[:2]] == [41, 42]
    assert len({seed for seed, _ in found}) == 3


def test_a_mask_that_was_painted_on_is_used_and_the_docker_says_so(easel: OpenDocker, tmp_path: Path) -> None:
    krita, hands = easel.krita, easel.hands
    write_words(hands)
    hands.click("run.find")
    until(krita, mask_is_shown)
    krita.run(unfold, name="mask")
    hands.click("mask.keep")
    until(krita, notice_begins, words="The mask is now a selection mask.")
    mask = f"{SAMPLE.source} (mask)"
    before = krita.run(selected_pixels, of=mask)
    krita.run(take_brush, on=mask)
    hands.paint((0.3, 0.3), (0.45, 0.3))
    krita.run(settle)
    until(krita, more_is_selected, of=mask, than=before + 100)
    with held(easel.backend):
        hands.click("run.edit")
        until(krita, title_begins, words="Using your mask")
    until(krita, layers_are, count=2)
    krita.run(save, path=tmp_path / "painted.kra")
    kra = Kra(tmp_path / "painted.kra")
    asked, made = kra.pixels(kra.node(mask))[..., 0], kra.pixels(kra.node(EDIT))[..., 3]
    assert np.array_equal(asked == 255, made == 255)


def test_black_on_a_transparency_mask_paints_the_old_picture_back_and_white_the_result(easel: OpenDocker) -> None:
    krita, hands = easel.krita, easel.hands
    krita.run(change_settings, result_form="transparency")
    try:
        before = picture(krita)
        write_words(hands)
        hands.key("Return")
        until(krita, layers_are, count=2)
        after = picture(krita)
        changed = (before != after).any(axis=2)
        full = picture(krita, mask_of=EDIT)[..., 0] == 255
        krita.run(brush_on_the_mask_of, layer=EDIT, colour="black")
        hands.paint((0.3, 0.5), (0.7, 0.5))
        erased = picture(krita)
        stroke = changed & (erased == before).all(axis=2)
        assert stroke.sum() > 500
        away = changed & (erased == after).all(axis=2)
        assert away.sum() > changed.sum() // 2
        low, high = np.minimum(before, after).astype(int), np.maximum(before, after).astype(int)
        assert ((erased >= low - 1) & (erased <= high + 1)).all()  # the stroke's edge is soft
        krita.run(brush_on_the_mask_of, layer=EDIT, colour="white")
        hands.paint((0.3, 0.5), (0.7, 0.5))
        stroke &= full
        assert np.array_equal(picture(krita)[stroke], after[stroke])
    finally:
        krita.run(change_settings, result_form="layer")


def change_settings(stage, **values):
    from diffedit.extension import extension

    extension().app.store.change(**values)


def picture(krita: RemoteKrita, mask_of: str = "") -> np.ndarray:
    """What is seen of the document, (height, width, 4), or the mask of a layer, (height, width, 1)."""
    path = krita.folder / "seen.raw"
    width, height = krita.run(write_seen, path=path, mask_of=mask_of)
    return np.frombuffer(path.read_bytes(), np.uint8).reshape(height, width, -1)


def write_seen(stage, path, mask_of):
    from pathlib import Path

    yield from stage.settle()
    area = 0, 0, stage.document.width(), stage.document.height()
    if mask_of:
        (mask,) = stage.document.nodeByName(mask_of).childNodes()
        seen = mask.pixelData(*area)
    else:
        seen = stage.document.rootNode().projectionPixelData(*area)
    Path(path).write_bytes(bytes(seen))
    return area[2:]


def brush_on_the_mask_of(stage, layer, colour):
    """The freehand brush, wide and hard, on the transparency mask of that layer."""
    from diffedit_driver.qt import QApplication

    (mask,) = stage.document.nodeByName(layer).childNodes()
    assert mask.type() == "transparencymask"
    stage.document.setActiveNode(mask)
    yield lambda: stage.document.activeNode().type() == "transparencymask"
    yield 0.3
    stage.app.action("KritaShape/KisToolBrush").trigger()
    stage.app.action("reset_fg_bg").trigger()
    if colour == "white":
        stage.app.action("toggle_fg_bg").trigger()
    QApplication.setActiveWindow(stage.window())
    yield 0.5


def test_nothing_found_is_told_with_the_way_out(easel: OpenDocker) -> None:
    krita, hands = easel.krita, easel.hands
    write_words(hands)
    krita.run(select_grass)
    krita.run(unfold, name="mask")
    hands.drag("mask.threshold.slider", 0.5, 1.0)
    hands.click("run.edit")
    until(krita, notice_begins, words="No region differs clearly")
    assert krita.run(notice) == (
        f"No region differs clearly between '{SAMPLE.source}' and '{SAMPLE.target}'. "
        "Lower the threshold, or select the region yourself."
    )
    assert krita.run(layer_names) == ["Background"]


def select_grass(stage):
    from krita import Selection

    selection = Selection()
    selection.select(10, 10, 100, 100, 255)
    stage.document.setSelection(selection)
    yield 0.3


def test_painting_on_while_a_job_runs_loses_neither_the_stroke_nor_the_result(
    easel: OpenDocker, tmp_path: Path
) -> None:
    krita, hands = easel.krita, easel.hands
    krita.run(save, path=tmp_path / "before.kra")
    write_words(hands)
    krita.run(take_brush, on="Background")
    with held(easel.backend):
        hands.click("run.edit")
        until(krita, is_working)
        hands.paint((0.35, 0.2), (0.65, 0.2))
        krita.run(settle)
        assert not krita.run(at_rest)
    until(krita, layers_are, count=2)
    krita.run(save, path=tmp_path / "after.kra")
    before, after = Kra(tmp_path / "before.kra"), Kra(tmp_path / "after.kra")
    assert krita.run(layer_names) == ["Background", EDIT]
    old, new = (kra.pixels(kra.node("Background")) for kra in (before, after))
    stroke = (old != new).any(axis=2)
    assert stroke.sum() > 100
    colours = slice(0, 3)
    assert (new[stroke][:, colours].mean(axis=0) > old[stroke][:, colours].mean(axis=0)).all()  # it is white
    krita.run(undo, times=2)
    krita.run(save, path=tmp_path / "undone.kra")
    undone = Kra(tmp_path / "undone.kra")
    assert np.array_equal(undone.pixels(undone.node("Background")), old)


def undo(stage, times):
    yield from stage.undo(times)


def test_a_file_that_is_saved_and_opened_again_has_its_history_and_its_words_back(
    easel: OpenDocker, tmp_path: Path
) -> None:
    krita, hands = easel.krita, easel.hands
    write_words(hands)
    hands.key("Return")
    until(krita, layers_are, count=2)
    krita.run(save, path=tmp_path / "sketch.kra")
    krita.run(hands_module.fresh_sheet, picture=tmp_path / "sketch.kra")
    assert krita.run(words) == ["", "", 41]
    krita.run(change_inputs, seed=7, seed_locked=False)
    krita.run(unfold, name="history")
    hands.click("history.list")
    hands.key("Home")
    hands.click("history.use")
    until(krita, words_are, wanted=[SAMPLE.source, SAMPLE.target, 41])
    assert krita.run(layer_names) == ["Background", EDIT]


def words_are(stage, wanted):
    from diffedit.extension import extension

    inputs = extension().app.session.inputs
    return [inputs.source, inputs.target, inputs.seed] == wanted


def words(stage):
    from diffedit.extension import extension

    inputs = extension().app.session.inputs
    return [inputs.source, inputs.target, inputs.seed]


def test_a_second_backend_is_joined_by_pasting_its_line_and_edits_there(easel: OpenDocker, tmp_path: Path) -> None:
    krita, hands = easel.krita, easel.hands
    home = tmp_path / "box"
    home.mkdir(mode=0o700)
    with BackendProcess(home, ["--listen", "tcp://127.0.0.1:0"]) as box:
        ready = next(line for line in box.output().splitlines() if line.startswith("ready "))
        address = next(word for word in ready.split() if word.startswith("tcp://")).removeprefix("tcp://")
        command = [sys.executable, "-m", "diffedit_backend.cli", "invite", "anna", "--host", address]
        line = subprocess.run(
            command, env=os.environ | {"DIFFEDIT_HOME": str(home)}, check=True, capture_output=True, text=True
        ).stdout.strip()
        krita.run(settings_with_line_in_the_clipboard, line=line)
        hands.key("ctrl+v", "Return")
        until(krita, joined)
        until(krita, connection_test_line, words="✓")
        krita.run(close_settings)
        write_words(hands)
        hands.key("Return")
        until(krita, layers_are, count=2)
        assert box.output().count("task=edit") == 1
        krita.run(use_local)
        until(krita, link_is, kind="ready")
    assert krita.run(layer_names) == ["Background", EDIT]


def settings_with_line_in_the_clipboard(stage, line):
    """Opens the settings; the cursor is in the field that the line is pasted into."""
    from diffedit_driver.qt import QApplication

    QApplication.clipboard().setText(line)
    stage.app.action("diffedit_settings").trigger()

    def found():
        return next((dialog for dialog in stage.dialogs() if dialog.windowTitle() == "DiffEdit settings"), None)

    yield lambda: found() is not None
    yield 0.5
    found().line.setFocus()
    yield lambda: found().line.hasFocus()
    yield 0.1


def connection_test_line(stage, words):
    dialog = next(dialog for dialog in stage.dialogs() if dialog.windowTitle() == "DiffEdit settings")
    return dialog.result.text().startswith(words)


def close_settings(stage):
    next(dialog for dialog in stage.dialogs() if dialog.windowTitle() == "DiffEdit settings").close()
    stage.window().activateWindow()
    yield 0.5


def use_local(stage):
    from diffedit.extension import extension

    extension().app.store.change(backend="local")
    yield 0.3


def test_a_server_that_is_killed_in_the_middle_and_started_again_still_brings_the_result(easel: OpenDocker) -> None:
    krita, hands = easel.krita, easel.hands
    write_words(hands)
    with held(easel.backend):
        hands.key("Return")
        until(krita, is_working)
        os.kill(easel.backend.pid, signal.SIGKILL)
        until(krita, notice_begins, words="The connection to the backend was lost.")
    assert krita.run(layer_names) == ["Background"]
    easel.backend.stop()
    easel.backend = BackendProcess(krita.profile.diffedit_home)
    until(krita, layers_are, count=2)
    assert krita.run(layer_names) == ["Background", EDIT]
    assert krita.run(notice) is None
