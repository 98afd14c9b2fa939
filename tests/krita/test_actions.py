"""Every action of Tools > DiffEdit in a real Krita, the backend started and stopped from it too."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from diffedit_backend.bundled.samples import samples, samples_folder
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


def test_the_backend_starts_from_the_menu_and_the_link_stands(artist: RemoteKrita) -> None:
    assert artist.run(link_is, kind="down")
    artist.run(trigger, name="start_backend")
    until(artist, backend_is, state="running", limit=180)
    until(artist, link_is, kind="ready", limit=20)


def test_edit_layer_adds_a_layer(artist: RemoteKrita) -> None:
    artist.run(trigger, name="edit_layer")
    until(artist, layer_count_is, count=2, limit=240)
    assert artist.run(layer_names) == ["Background", "horse → zebra (41)"]


def test_repeat_does_it_again_and_new_seed_does_it_differently(artist: RemoteKrita) -> None:
    artist.run(choose_background)
    artist.run(trigger, name="repeat")
    until(artist, layer_count_is, count=3, limit=240)
    artist.run(choose_background)
    artist.run(trigger, name="new_seed")
    until(artist, layer_count_is, count=4, limit=240)
    names = artist.run(layer_names)
    assert names.count("horse → zebra (41)") == 2
    same, other = artist.run(compare_layers)
    assert same
    assert not other


def choose_background(stage):
    yield from stage.settle()
    bottom = stage.document.topLevelNodes()[0]
    stage.document.setActiveNode(bottom)
    yield lambda: stage.document.activeNode().name() == bottom.name()


def compare_layers(stage):
    """Whether the two layers of one seed are equal, and whether that of another seed is."""
    area = (0, 0, stage.document.width(), stage.document.height())
    edits = [node for node in stage.document.topLevelNodes() if "→" in node.name()]
    one, two = (bytes(node.pixelData(*area)) for node in edits if node.name().endswith("(41)"))
    (other,) = (bytes(node.pixelData(*area)) for node in edits if not node.name().endswith("(41)"))
    return [one == two, one == other]


def test_find_mask_and_mask_to_selection_leave_the_artist_a_selection(artist: RemoteKrita) -> None:
    def shown(stage):
        from diffedit.extension import extension

        return extension().app.session.mask_shown

    def selection(stage):
        found = stage.document.selection()
        return None if found is None else [found.width(), found.height()]

    artist.run(choose_background)
    artist.run(trigger, name="find_mask")
    until(artist, shown, limit=240)
    artist.run(trigger, name="mask_to_selection")
    assert not artist.run(shown)
    kept = artist.run(selection)
    assert kept is not None
    artist.run(trigger, name="cancel")
    assert artist.run(selection) == kept


def test_edit_selection_repaints_exactly_what_is_selected(artist: RemoteKrita) -> None:
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

    artist.run(select)
    before = len(artist.run(layer_names))
    artist.run(trigger, name="edit_selection")
    until(artist, layer_count_is, count=before + 1, limit=240)
    assert artist.run(bounds) == [100, 120, 200, 160]


def test_the_backend_stops_from_the_menu(artist: RemoteKrita) -> None:
    artist.run(trigger, name="stop_backend")
    until(artist, backend_is, state="stopped", limit=40)
    until(artist, link_is, kind="down", limit=20)


def test_krita_closes_at_once_and_takes_the_backend_that_it_started_along(artist: RemoteKrita) -> None:
    artist.run(trigger, name="start_backend")
    until(artist, backend_is, state="running", limit=180)

    def pid(stage):
        from diffedit.extension import extension

        return int(extension().app.backend._process.processId())

    server = artist.run(pid)
    os.kill(server, 0)
    assert artist.quit() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)
