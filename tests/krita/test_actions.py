"""Every action of Tools > DiffEdit in a real Krita, the backend started and stopped from it too."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from diffedit_backend.bundled import samples, samples_folder
from diffedit_krita_driver.remote import RemoteKrita

_SPEC = importlib.util.spec_from_file_location("hands", Path(__file__).with_name("hands.py"))
hands_module = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(hands_module)
Hands, until, at_rest, show_docker = (getattr(hands_module, n) for n in ("Hands", "until", "at_rest", "show_docker"))

SAMPLE = samples()[0]
MENU = [
    "Edit Layer…",
    "Find Mask…",
    "Edit Layers…",
    "Edit Frames…",
    "Edit Selection…",
    "",
    "Repeat Last Edit",
    "Edit with New Seed",
    "Swap the Two Texts",
    "Describe Layer",
    "Suggest Words",
    "Mask to Selection",
    "Cancel",
    "",
    "Start Local Backend",
    "Stop Local Backend",
    "Settings…",
    "Diagnostics…",
]


@pytest.fixture(scope="module")
def artist(start_krita) -> Iterator[RemoteKrita]:
    """A Krita whose plugin knows where `diffedit` is, the sample open, the words written."""
    program = Path(sys.executable).with_name("diffedit")
    krita = start_krita(extra_environment={"DIFFEDIT_PROGRAM": str(program)})
    krita.run(open_sample, picture=samples_folder() / SAMPLE.file, source=SAMPLE.source, target=SAMPLE.target)
    krita.run(show_docker)
    yield krita
    krita.stop()


def open_sample(stage, picture, source, target):
    from diffedit.extension import extension

    yield from stage.open(picture)
    app = extension().app
    yield lambda: app.session.document_id != ""
    app.store.change(input="layer")  # an edit after an edit would see the first one's result
    app.session.change_inputs(source=source, target=target, quality="draft", seed=41, seed_locked=True)


def trigger(stage, name):
    stage.app.action(f"diffedit_{name}").trigger()
    yield 0.2


def layer_names(stage):
    return [node.name() for node in stage.document.topLevelNodes() if node.type() != "selectionmask"]


def layer_count_is(stage, count):
    from diffedit.extension import extension

    nodes = [node for node in stage.document.topLevelNodes() if node.type() != "selectionmask"]
    return extension().app.session.activity is None and len(nodes) == count


def backend_is(stage, state):
    from diffedit.extension import extension

    return extension().app.backend.state == state


def link_is(stage, kind):
    from diffedit.extension import extension

    return extension().app.link.state.kind == kind


def test_the_menu_holds_every_action_and_krita_s_shortcut_settings_know_each_by_name(artist: RemoteKrita) -> None:
    def menu(stage):
        import gc

        gc.collect()  # what window, menu and actions hold of each other only would be taken apart
        bar = stage.window().menuBar()
        tools = next(a for a in bar.actions() if a.text().replace("&", "") == "Tools").menu()
        ours = next(a for a in tools.actions() if a.text() == "DiffEdit").menu()
        ours.aboutToShow.emit()
        return [[a.objectName(), a.text().replace("&", ""), a.shortcut().toString()] for a in ours.actions()]

    found = artist.run(menu)
    assert [text for _, text, _ in found] == MENU
    shortcuts = {name: keys for name, _, keys in found if keys}
    assert shortcuts == {"diffedit_edit_layer": "Ctrl+Alt+E", "diffedit_find_mask": "Ctrl+Alt+M"}


def test_our_shortcuts_belong_to_nobody_else_in_krita(artist: RemoteKrita) -> None:
    def owners(stage, keys):
        from diffedit_driver.qt import QKeySequence

        wanted = QKeySequence(keys)
        return [action.objectName() for action in stage.app.actions() if wanted in action.shortcuts()]

    assert artist.run(owners, keys="Ctrl+Alt+E") == ["diffedit_edit_layer"]
    assert artist.run(owners, keys="Ctrl+Alt+M") == ["diffedit_find_mask"]


def test_swap_turns_the_words_round_and_back(artist: RemoteKrita) -> None:
    def words(stage):
        from diffedit.extension import extension

        inputs = extension().app.session.inputs
        return [inputs.source, inputs.target]

    artist.run(trigger, name="swap")
    assert artist.run(words) == [SAMPLE.target, SAMPLE.source]
    artist.run(trigger, name="swap")
    assert artist.run(words) == [SAMPLE.source, SAMPLE.target]


def test_settings_and_diagnostics_open_beside_krita_and_only_once(artist: RemoteKrita) -> None:
    def dialogs(stage):
        stage.expect_dialogs = True
        for name in ("settings", "settings", "diagnostics"):
            stage.app.action(f"diffedit_{name}").trigger()
            yield 0.3
        open_ones = stage.dialogs()
        found = sorted((dialog.windowTitle(), dialog.isModal()) for dialog in open_ones)
        for dialog in open_ones:
            dialog.close()
        return found

    assert artist.run(dialogs) == [["DiffEdit diagnostics", False], ["DiffEdit settings", False]]


@pytest.fixture
def backed(artist: RemoteKrita) -> RemoteKrita:
    """The artist's Krita, its backend started from the menu unless it runs."""
    if not artist.run(backend_is, state="running"):
        artist.run(trigger, name="start_backend")
        until(artist, backend_is, state="running")
    until(artist, link_is, kind="ready")
    return artist


def made_by(krita: RemoteKrita, action: str) -> list[str]:
    """Id and name of the layer that an action adds when the background is active."""
    krita.run(choose_background)
    before = krita.run(layer_ids)
    krita.run(trigger, name=action)
    until(krita, layer_count_is, count=len(before) + 1)
    ((new, name),) = [entry for entry in krita.run(layer_ids) if entry not in before]
    return [new, name]


def layer_ids(stage):
    nodes = [node for node in stage.document.topLevelNodes() if node.type() != "selectionmask"]
    return [[node.uniqueId().toString(), node.name()] for node in nodes]


def test_the_backend_starts_and_stops_from_the_menu_and_the_link_with_it(backed: RemoteKrita) -> None:
    backed.run(trigger, name="stop_backend")
    until(backed, backend_is, state="stopped")
    until(backed, link_is, kind="down")
    backed.run(trigger, name="start_backend")
    until(backed, backend_is, state="running")
    until(backed, link_is, kind="ready")


def test_edit_layer_adds_a_layer_that_its_words_and_seed_name(backed: RemoteKrita) -> None:
    assert made_by(backed, "edit_layer")[1] == "horse → zebra (41)"


def test_repeat_does_it_again_and_new_seed_does_it_differently(backed: RemoteKrita) -> None:
    first, again, other = (made_by(backed, action) for action in ("edit_layer", "repeat", "new_seed"))
    assert again[1] == first[1] != other[1]
    assert backed.run(same_pixels, one=first[0], other=again[0])
    assert not backed.run(same_pixels, one=first[0], other=other[0])
    backed.run(lock_seed, seed=41)


def same_pixels(stage, one, other):
    area = (0, 0, stage.document.width(), stage.document.height())
    layers = {node.uniqueId().toString(): node for node in stage.document.topLevelNodes()}
    return bytes(layers[one].pixelData(*area)) == bytes(layers[other].pixelData(*area))


def lock_seed(stage, seed):
    from diffedit.extension import extension

    extension().app.session.change_inputs(seed=seed, seed_locked=True)


def choose_background(stage):
    yield from stage.settle()
    bottom = stage.document.topLevelNodes()[0]
    stage.document.setActiveNode(bottom)
    yield lambda: stage.document.activeNode().name() == bottom.name()


def test_find_mask_and_mask_to_selection_leave_the_artist_a_selection(backed: RemoteKrita) -> None:
    def shown(stage):
        from diffedit.extension import extension

        return extension().app.session.mask_shown

    def selection(stage):
        found = stage.document.selection()
        return None if found is None else [found.width(), found.height()]

    backed.run(choose_background)
    backed.run(trigger, name="find_mask")
    until(backed, shown)
    backed.run(trigger, name="mask_to_selection")
    assert not backed.run(shown)
    kept = until(backed, selection)
    backed.run(trigger, name="cancel")
    assert backed.run(selection) == kept


def test_edit_selection_repaints_exactly_what_is_selected(backed: RemoteKrita) -> None:
    def select(stage):
        from krita import Selection

        selection = Selection()
        selection.select(100, 120, 200, 160, 255)
        stage.document.setSelection(selection)
        bottom = stage.document.topLevelNodes()[0]
        stage.document.setActiveNode(bottom)
        yield lambda: stage.document.activeNode().name() == bottom.name()

    def bounds(stage):
        made = next(n for n in stage.document.topLevelNodes() if n.index() == 1)
        area = made.bounds()
        return [area.x(), area.y(), area.width(), area.height()]

    backed.run(select)
    before = len(backed.run(layer_names))
    backed.run(trigger, name="edit_selection")
    until(backed, layer_count_is, count=before + 1)
    assert backed.run(bounds) == [100, 120, 200, 160]


def test_krita_closes_at_once_and_takes_the_backend_that_it_started_along(backed: RemoteKrita) -> None:
    def pid(stage):
        from diffedit.extension import extension

        return int(extension().app.backend._process.processId())

    server = backed.run(pid)
    os.kill(server, 0)
    assert backed.quit() == 0
    deadline = time.monotonic() + 60
    while runs(server):
        assert time.monotonic() < deadline, f"The backend {server} outlives Krita."
        time.sleep(0.05)


def runs(process: int) -> bool:
    """Whether it runs; one that ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
