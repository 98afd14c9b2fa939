"""The docker used as a person uses it, in a real Krita with the bundled model: mouse and keys, nothing else."""

from __future__ import annotations

import importlib.util
import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from diffedit_backend.bundled import samples, samples_folder
from diffedit_krita_driver.backend_process import BackendProcess
from diffedit_krita_driver.display import screenshot
from diffedit_krita_driver.kra import Kra
from diffedit_krita_driver.remote import RemoteKrita
from PIL import Image, ImageChops

_SPEC = importlib.util.spec_from_file_location("hands", Path(__file__).with_name("hands.py"))
hands_module = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(hands_module)
Hands, until, at_rest, show_docker = (getattr(hands_module, n) for n in ("Hands", "until", "at_rest", "show_docker"))
held, is_working, is_cancelling = (getattr(hands_module, n) for n in ("held", "is_working", "is_cancelling"))

SAMPLE = samples()[0]


@pytest.fixture(scope="module")
def painter(start_krita) -> Iterator[tuple[RemoteKrita, object, BackendProcess]]:
    """A Krita with the sample picture open, hands, and its backend running."""
    krita = start_krita()
    with BackendProcess(krita.profile.diffedit_home) as backend:
        krita.run(show_docker)
        until(krita, link_is_ready)
        yield krita, Hands(krita), backend
        krita.stop()


@pytest.fixture
def backend(painter) -> BackendProcess:
    """The one that the easel's Krita works with."""
    return painter[2]


@pytest.fixture
def easel(painter):
    """The sample picture freshly opened; no words, folds shut but Results, draft quality."""
    krita, hands, _ = painter
    krita.run(hands_module.fresh_sheet, picture=samples_folder() / SAMPLE.file)
    return krita, hands


def link_is_ready(stage):
    from diffedit.extension import extension

    return extension().app.link.state.kind == "ready"


def layers(stage):
    nodes = [node for node in stage.document.topLevelNodes() if node.type() != "selectionmask"]  # the selection itself
    return [[node.name(), [child.type() for child in node.childNodes()]] for node in nodes]


def selected(stage):
    selection = stage.document.selection()
    return None if selection is None else [selection.x(), selection.y(), selection.width(), selection.height()]


def states(stage):
    from diffedit.extension import extension

    return [variation.state for variation in extension().app.session.variations]


def notice(stage):
    from diffedit.extension import extension

    printed = extension().app.session.notice
    return None if printed is None else printed.sentence


def mask_is_shown(stage):
    from diffedit.extension import extension

    return extension().app.session.mask_shown


def save(stage, path):
    stage.save(path)


def undo(stage):
    yield from stage.undo()


def canvas_picture(krita: RemoteKrita, path: Path) -> Image.Image:
    """What is seen of the picture on the screen, away from rulers, brush outline and dockers."""
    assert krita.process.display is not None
    screenshot(krita.process.display, path)
    return Image.open(path).convert("RGB").crop((300, 250, 900, 750))


def write_words(hands) -> None:
    hands.replace("source.edit", SAMPLE.source)
    hands.key("Tab")
    hands.type(SAMPLE.target)


def test_words_typed_and_enter_pressed_become_a_layer_with_its_mask_that_one_undo_takes_away(easel, tmp_path) -> None:
    krita, hands = easel
    write_words(hands)
    hands.key("Return")
    until(krita, layers_are, count=2)
    name, masks = krita.run(layers)[1]
    assert (name, masks) == ("horse → zebra (41)", ["selectionmask"])
    krita.run(save, path=tmp_path / "edited.kra")
    kra = Kra(tmp_path / "edited.kra")
    assert kra.layers[0].name == name
    krita.run(undo)
    assert [name for name, _ in krita.run(layers)] == ["Background"]


def layers_are(stage, count):
    from diffedit.extension import extension

    return extension().app.session.activity is None and len(stage.document.topLevelNodes()) == count


def show_masks_as(stage, form):
    from diffedit.extension import extension

    extension().app.store.change(mask_form=form)


def reddened(bare: Image.Image, now: Image.Image) -> int:
    """How many px of the screen lost green and not red."""
    before, after = np.asarray(bare, np.int16), np.asarray(now, np.int16)
    return int(((before - after)[..., 1] > 25).sum() - ((before - after)[..., 0] > 25).sum())


def test_find_mask_is_red_over_the_canvas_the_slider_moves_it_and_escape_takes_it_away(easel, tmp_path) -> None:
    krita, hands = easel
    write_words(hands)
    bare = canvas_picture(krita, tmp_path / "bare.png")
    hands.click("run.find")
    until(krita, mask_is_shown)
    krita.run(unfold, name="mask")
    found = wait_for_more_red(krita, bare, 1000, tmp_path / "found.png")
    hands.drag("mask.threshold.slider", 0.5, 0.05)
    wait_for_more_red(krita, bare, found, tmp_path / "low.png")
    assert krita.run(selected) is None
    hands.touch_canvas()
    hands.key("Escape")
    until(krita, mask_is_gone)
    wait_for_no_red(krita, bare, tmp_path / "gone.png")
    assert [name for name, _ in krita.run(layers)] == ["Background"]


def wait_for_more_red(krita: RemoteKrita, bare: Image.Image, than: int, path: Path) -> int:
    """How many px then are."""
    deadline = time.monotonic() + 120
    while (red := reddened(bare, canvas_picture(krita, path))) <= than:
        assert time.monotonic() < deadline, f"No more red than {than} px, see {path}"
        time.sleep(0.2)
    return red


def wait_for_no_red(krita: RemoteKrita, bare: Image.Image, path: Path) -> None:
    deadline = time.monotonic() + 120
    while (red := reddened(bare, canvas_picture(krita, path))) >= 1000:
        assert time.monotonic() < deadline, f"{red} px are red, see {path}"
        time.sleep(0.2)


def mask_is_gone(stage):
    from diffedit.extension import extension

    return not extension().app.session.mask_shown


def test_find_mask_draws_its_outline_the_slider_moves_it_and_escape_takes_it_away(easel, tmp_path) -> None:
    krita, hands = easel
    krita.run(show_masks_as, form="selection")
    write_words(hands)
    bare = canvas_picture(krita, tmp_path / "bare.png")
    hands.click("run.find")
    until(krita, mask_is_shown)
    wait_for_an_outline(krita, bare, tmp_path / "outlined.png")
    found = krita.run(selected)
    krita.run(unfold, name="mask")
    hands.drag("mask.threshold.slider", 0.5, 0.95)
    until(krita, selected_area_is, below=found[2] * found[3])
    hands.drag("mask.threshold.slider", 0.95, 0.05)
    until(krita, selected_area_is, above=found[2] * found[3])
    hands.click("source.edit")
    hands.key("Escape")
    until(krita, mask_is_gone)
    assert krita.run(selected) is None
    assert [name for name, _ in krita.run(layers)] == ["Background"]


def selected_area_is(stage, above=-1, below=1 << 40):
    """Whether the rectangle around the selection has more px than `above` and fewer than `below`."""
    selection = stage.document.selection()
    return above < (0 if selection is None else selection.width() * selection.height()) < below


def wait_for_an_outline(krita: RemoteKrita, bare: Image.Image, path: Path) -> None:
    """Krita computes it in the background."""
    deadline = time.monotonic() + 120
    while True:
        difference = ImageChops.difference(bare, canvas_picture(krita, path)).convert("L")
        if difference.point(lambda value: 255 * (value > 40)).getbbox():
            return
        assert time.monotonic() < deadline, f"No outline is to be seen, see {path}"
        time.sleep(0.2)


def unfold(stage, name):
    from diffedit.extension import DOCKER_ID
    from diffedit_driver.qt import QDockWidget

    stage.window().findChild(QDockWidget, DOCKER_ID).panel.parts[name].fold.unfold()
    yield 0.2


def test_shift_enter_finds_the_mask(easel) -> None:
    krita, hands = easel
    write_words(hands)
    hands.key("shift+Return")
    until(krita, mask_is_shown)
    assert [name for name, _ in krita.run(layers)] == ["Background"]


def test_variations_are_looked_through_with_clicks_and_accepted_with_a_double_click(easel) -> None:
    krita, hands = easel
    krita.run(want_variations, count=3)
    krita.run(note_what_is_on_the_canvas)
    write_words(hands)
    hands.click("run.edit")
    until(krita, states_are, wanted=["shown", "waiting", "waiting"])
    assert [["shown"], ["Background", "horse → zebra (41)"]] in krita.run(was_on_the_canvas_while_painting)
    hands.click("results.tiles.tiles.1")
    until(krita, states_are, wanted=["waiting", "shown", "waiting"])
    assert krita.run(layers)[1][0].endswith("(42)")
    hands.click("results.tiles.tiles.0")
    until(krita, states_are, wanted=["shown", "waiting", "waiting"])
    assert [name for name, _ in krita.run(layers)] == ["Background", "horse → zebra (41)"]
    hands.click("results.tiles.tiles.0", times=2)
    until(krita, states_are, wanted=["added", "waiting", "waiting"])
    krita.run(undo)
    assert len(krita.run(layers)) == 1


def want_variations(stage, count):
    from diffedit.extension import extension

    extension().app.session.change_inputs(variations=count)


def note_what_is_on_the_canvas(stage):
    from diffedit.extension import extension

    session = extension().app.session
    session.seen = []

    def look(aspect):
        if session.activity is not None and session.activity.phase == "working":
            states = [variation.state for variation in session.variations]
            names = [node.name() for node in stage.document.topLevelNodes() if node.type() != "selectionmask"]
            session.seen.append([states, names])

    session.changed.connect(look)


def was_on_the_canvas_while_painting(stage):
    from diffedit.extension import extension

    return extension().app.session.seen


def states_are(stage, wanted):
    from diffedit.extension import extension

    session = extension().app.session
    return session.activity is None and [variation.state for variation in session.variations] == wanted


def test_cancel_takes_the_place_of_edit_and_nothing_is_changed(easel, backend) -> None:
    krita, hands = easel
    krita.run(want_fine)
    write_words(hands)
    with held(backend):
        hands.click("run.edit")
        until(krita, is_working)
        hands.click("run.cancel")
        until(krita, is_cancelling)
    until(krita, at_rest)
    assert krita.run(notice) == "Cancelled. Nothing was changed."
    assert len(krita.run(layers)) == 1


def want_fine(stage):
    from diffedit.extension import extension

    extension().app.session.change_inputs(quality="fine", variations=4)


def test_the_same_words_are_told_in_the_docker(easel) -> None:
    krita, hands = easel
    hands.replace("source.edit", "a horse")
    hands.replace("target.edit", "A horse")
    hands.click("run.edit")
    until(krita, notice_is, sentence="Both texts are the same, so there is nothing to change.")


def notice_is(stage, sentence):
    from diffedit.extension import extension

    printed = extension().app.session.notice
    return printed is not None and printed.sentence == sentence


def test_the_shortcuts_of_the_actions_work_from_the_canvas(easel) -> None:
    krita, hands = easel
    write_words(hands)
    krita.run(focus_canvas)
    hands.key("ctrl+alt+m")
    until(krita, mask_is_shown)
    hands.key("ctrl+alt+e")
    until(krita, layers_are, count=2)
    assert krita.run(selected) is None


def focus_canvas(stage):
    stage.window().centralWidget().setFocus()
    yield 0.2


def test_full_detail_and_fine_edges_are_switched_on_by_clicks_and_seen_in_the_result(easel, tmp_path) -> None:
    krita, hands = easel
    write_words(hands)
    before, plain = edited(krita, hands, tmp_path / "plain.kra", detail=False, matting=False)
    krita.run(unfold, name="edit")
    krita.run(photograph, path=tmp_path / "off.png")
    hands.click("edit.switches.detail")
    hands.click("edit.switches.matting")
    krita.run(photograph, path=tmp_path / "on.png")
    after, fine = edited(krita, hands, tmp_path / "fine.kra", detail=True, matting=True)
    assert np.array_equal(before, after)
    for layer in (plain, fine):
        assert layer.shape == (512, 512, 4)
        assert 0 < np.count_nonzero(layer[..., 3]) < layer.shape[0] * layer.shape[1] // 2
    assert is_soft(fine) > 5 * is_soft(plain)
    both = (plain[..., 3] == 255) & (fine[..., 3] == 255)
    assert roughness(fine, both) > 1.2 * roughness(plain, both)


def edited(krita: RemoteKrita, hands, path: Path, **asked: bool) -> tuple[np.ndarray, np.ndarray]:
    """The source layer and the result of an edit that was asked for as `asked`, both BGRA; the result is undone."""
    krita.run(without_feather)
    hands.click("run.edit")
    until(krita, layers_are, count=2)
    assert krita.run(last_asked) == asked
    krita.run(save, path=path)
    krita.run(undo)
    kra = Kra(path)
    background, layer = kra.pixels(kra.node("Background")), kra.pixels(kra.layers[0])
    seen = np.asarray(Image.open(io.BytesIO(kra.merged())).convert("RGB"))
    outside = layer[..., 3] == 0
    assert np.array_equal(seen[outside], background[..., 2::-1][outside])
    return background, layer


def without_feather(stage):
    from diffedit.extension import extension

    extension().app.session.change_inputs(feather=0)


def last_asked(stage):
    from diffedit.extension import extension

    inputs = extension().app.session.history[-1].inputs
    return {"detail": inputs.detail, "matting": inputs.matting}


def photograph(stage, path):
    from diffedit.extension import DOCKER_ID
    from diffedit_driver.qt import QDockWidget

    panel = stage.window().findChild(QDockWidget, DOCKER_ID).panel
    panel.ensureWidgetVisible(panel.edit)
    yield 0.2
    panel.grab().save(str(path))


def is_soft(layer: np.ndarray) -> int:
    """How many px are partly there."""
    return int(np.count_nonzero((layer[..., 3] > 0) & (layer[..., 3] < 255)))


def roughness(layer: np.ndarray, where: np.ndarray) -> float:
    """How much neighbours differ, in the mean of the px `where`."""
    green = layer[..., 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=1))[where[:, 1:]].mean())
