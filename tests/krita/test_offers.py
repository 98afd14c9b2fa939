"""What a backend offers, used from the docker of a real Krita: LoRAs, learned words, models, suggestions of words.

Every file is built here: the suggestions make no sense, but they are the ones that the models wrote.
"""

from __future__ import annotations

import importlib.util
import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from diffedit_backend.bundled import samples, samples_folder, weights_folder
from diffedit_krita_driver.backend_process import BackendProcess
from diffedit_krita_driver.kra import Kra
from diffedit_krita_driver.remote import RemoteKrita
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_flow_models import tiny_pipeline
from word_models import CAPTION_WORDS, SUGGESTED_WORDS, write_captioner, write_suggester

_SPEC = importlib.util.spec_from_file_location("hands", Path(__file__).with_name("hands.py"))
hands_module = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(hands_module)
Hands, until, at_rest, show_docker = (getattr(hands_module, n) for n in ("Hands", "until", "at_rest", "show_docker"))

SAMPLE = samples()[0]
EDIT = "horse → zebra (41)"


@dataclass
class OpenDocker:
    krita: RemoteKrita
    hands: object
    adapters: Path


@pytest.fixture(scope="module")
def opened(start_krita) -> Iterator[OpenDocker]:
    """A Krita whose backend has a LoRA, the bundled model twice, a model that breaks when it is loaded, a flow model,
    one that describes pictures and one that suggests words."""
    krita = start_krita()
    home = krita.profile.diffedit_home
    adapters = home / "adapters"
    adapters.mkdir(mode=0o700)
    write_lora(adapters / "ink.safetensors")
    shutil.copytree(weights_folder(), home / "models" / "second")
    half_of_it(shutil.copytree(weights_folder(), home / "models" / "half"))
    tiny_pipeline("sd3").save_pretrained(home / "models" / "flow")
    write_captioner(home / "captioner")
    write_suggester(home / "suggester")
    with BackendProcess(home):
        krita.run(show_docker)
        until(krita, link_is, kind="ready")
        yield OpenDocker(krita, Hands(krita), adapters)
        krita.stop()


@pytest.fixture
def easel(opened: OpenDocker) -> OpenDocker:
    """The sample picture freshly opened, its middle selected, words written; LoRA unfolded."""
    opened.krita.run(hands_module.fresh_sheet, picture=samples_folder() / SAMPLE.file)
    opened.krita.run(words_and_a_selection, source=SAMPLE.source, target=SAMPLE.target)
    return opened


def write_lora(file: Path) -> None:
    """Noise on what the bundled UNet's attention layers give out."""
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(weights_folder() / "unet"))
    noise, tensors = torch.Generator().manual_seed(5), {}
    for name, layer in unet.named_modules():
        if name.endswith("to_out.0"):
            tensors[f"unet.{name}.lora_A.weight"] = torch.randn(2, layer.in_features, generator=noise)
            tensors[f"unet.{name}.lora_B.weight"] = torch.randn(layer.out_features, 2, generator=noise)
    save_file(tensors, file)


def half_of_it(folder: Path) -> None:
    """Takes half of the UNet's tensors away: its settings can be read, its weights do not fit them."""
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file({name: tensors[name] for name in sorted(tensors)[::2]}, file)


def link_is(stage, kind):
    from diffedit.extension import extension

    return extension().app.link.state.kind == kind


def words_and_a_selection(stage, source, target):
    from diffedit.extension import DOCKER_ID, extension
    from diffedit_driver.qt import QDockWidget
    from krita import Selection

    extension().app.session.change_inputs(source=source, target=target)
    width, height = stage.document.width(), stage.document.height()
    selection = Selection()
    selection.select(width // 4, height // 4, width // 2, height // 2, 255)
    stage.document.setSelection(selection)
    panel = stage.window().findChild(QDockWidget, DOCKER_ID).panel
    for name, part in panel.parts.items():
        part.fold.heading.setChecked(name == "adapters")
    yield 0.3


def rows(stage):
    from diffedit.extension import DOCKER_ID
    from diffedit_driver.qt import QDockWidget

    part = stage.window().findChild(QDockWidget, DOCKER_ID).panel.adapters
    return [[line.name.text_whole, line.weight.value, line.remark.text()] for line in part.rows]


def rows_are(stage, wanted):
    from diffedit.extension import DOCKER_ID
    from diffedit_driver.qt import QDockWidget

    part = stage.window().findChild(QDockWidget, DOCKER_ID).panel.adapters
    return [[line.name.text_whole, line.weight.value, line.remark.text()] for line in part.rows] == wanted


def weight_is_below(stage, most):
    from diffedit.extension import DOCKER_ID
    from diffedit_driver.qt import QDockWidget

    return stage.window().findChild(QDockWidget, DOCKER_ID).panel.adapters.rows[0].weight.value < most


def offered(stage, name):
    from diffedit.extension import DOCKER_ID
    from diffedit_driver.qt import QDockWidget

    return stage.window().findChild(QDockWidget, DOCKER_ID).panel.adapters.choice.findText(name) >= 0


def edited_layer(opened: OpenDocker, file: Path) -> NDArray[np.uint8]:
    """*Edit Selection*, and the pixels of the layer that it made; the layer is taken away again."""
    opened.krita.run(edit_selection, file=file, limit=300)
    return Kra(file).pixels(Kra(file).node(EDIT))


def edit_selection(stage, file):
    from diffedit.extension import extension

    session = extension().app.session
    stage.app.action("diffedit_edit_selection").trigger()
    yield lambda: session.activity is not None
    yield lambda: session.activity is None, 280
    if session.notice is not None:
        raise AssertionError(session.notice.sentence)
    yield from stage.settle()
    stage.save(file)
    yield from stage.undo()


def test_a_lora_that_is_added_by_name_changes_the_edit_and_without_it_the_edit_is_as_before(
    easel: OpenDocker, tmp_path: Path
) -> None:
    bare = edited_layer(easel, tmp_path / "bare.kra")
    easel.hands.click("adapters.choice")
    easel.hands.type("in")
    easel.hands.key("Return")
    until(easel.krita, rows_are, wanted=[["ink", 1.0, ""]])
    whole = edited_layer(easel, tmp_path / "whole.kra")
    easel.hands.drag("adapters.rows.0.weight.slider", 0.66, 0.4)
    until(easel.krita, weight_is_below, most=1)
    (row,) = easel.krita.run(rows)
    assert -1 < row[1] < 1
    some = edited_layer(easel, tmp_path / "some.kra")
    easel.hands.click("adapters.rows.0.remove")
    until(easel.krita, rows_are, wanted=[])
    again = edited_layer(easel, tmp_path / "again.kra")
    assert np.array_equal(bare, again)
    inside = bare[..., 3] == 255
    assert np.array_equal(whole[..., 3] == 255, inside)
    changed = [np.abs(layer[inside][:, :3].astype(int) - bare[inside][:, :3]).mean() for layer in (some, whole)]
    assert min(changed) > 2, changed
    assert not np.array_equal(some, whole)


def test_a_learned_word_is_found_in_the_folder_at_the_next_look_and_is_heard_where_a_text_says_it(
    easel: OpenDocker, tmp_path: Path
) -> None:
    vectors = torch.randn(2, 128, generator=torch.Generator().manual_seed(3))
    save_file({"<toy>": vectors}, easel.adapters / "toy.safetensors")
    assert not easel.krita.run(offered, name="toy")
    easel.hands.click("adapters.again")
    until(easel.krita, offered, name="toy", limit=120)
    bare = edited_layer(easel, tmp_path / "bare.kra")
    easel.hands.click("adapters.choice")
    easel.hands.type("toy")
    easel.hands.key("Return")
    until(easel.krita, rows_are, wanted=[["toy", 1.0, "Write <toy> in a text, or it has no effect."]])
    easel.krita.run(change_target, target=f"<toy> {SAMPLE.target}")
    until(easel.krita, rows_are, wanted=[["toy", 1.0, ""]])
    easel.krita.run(edit_selection, file=tmp_path / "toy.kra", limit=300)
    kra = Kra(tmp_path / "toy.kra")
    recorded = kra.pixels(kra.node("a horse → <toy> a zebra (41)"))
    assert not np.array_equal(bare, recorded)


def change_target(stage, target):
    from diffedit.extension import extension

    extension().app.session.change_inputs(target=target)
    yield 0.2


def test_one_that_went_away_is_named_nothing_is_sent_and_it_stays_on_the_list(easel: OpenDocker) -> None:
    file = easel.adapters / "ink.safetensors"
    kept = file.rename(easel.adapters / "ink.away")
    try:
        easel.krita.run(wear, name="ink")
        easel.hands.click("adapters.again")
        until(easel.krita, not_offered, name="ink")
        easel.hands.click("run.edit")
        until(easel.krita, notice_begins, words="'ink' is not in the adapters folder.")
        assert easel.krita.run(rows)[0][0] == "ink"
    finally:
        kept.rename(file)
    easel.hands.click("notice.buttons.look")
    until(easel.krita, no_remark)


def wear(stage, name):
    from diffedit.extension import extension
    from diffedit_protocol.messages import Adapter

    extension().app.session.change_inputs(adapters=(Adapter(name),))
    yield 0.2


def not_offered(stage, name):
    from diffedit.extension import extension

    info = extension().app.link.state.info
    return info is not None and name not in [adapter.name for adapter in info.known_adapters]


def no_remark(stage):
    from diffedit.extension import DOCKER_ID, extension
    from diffedit_driver.qt import QDockWidget

    app, panel = extension().app, stage.window().findChild(QDockWidget, DOCKER_ID).panel
    line = panel.adapters.rows[0]
    return app.link.state.kind == "ready" and app.session.notice is None and line.remark.isHidden()


def notice_begins(stage, words):
    from diffedit.extension import extension

    shown = extension().app.session.notice
    return shown is not None and shown.sentence.startswith(words)


def test_another_model_is_chosen_in_the_menu_used_and_remembered_and_one_that_breaks_is_reported(
    easel: OpenDocker, tmp_path: Path
) -> None:
    entries = easel.krita.run(model_entries)
    assert [entry.partition("\t")[0] for entry in entries] == ["bundled", "flow", "half", "second"]
    assert entries[0].endswith("MB")
    with_bundled = edited_layer(easel, tmp_path / "bundled.kra")
    try:
        easel.krita.run(choose_model, name="second")
        assert np.array_equal(edited_layer(easel, tmp_path / "second.kra"), with_bundled)
        assert easel.krita.run(model_of_last_edit) == "second"
        assert easel.krita.run(remembered_model) == "second"
        easel.krita.run(choose_model, name="half")
        easel.hands.click("run.edit")
        until(easel.krita, at_rest_with_notice)
        sentence = easel.krita.run(notice)
        assert "half" in sentence, sentence
        assert easel.krita.run(layer_names) == ["Background"]
    finally:
        easel.krita.run(choose_model, name="bundled")
    assert np.array_equal(edited_layer(easel, tmp_path / "again.kra"), with_bundled)


def test_a_flow_model_chosen_in_the_menu_finds_a_mask_and_edits_it_and_changes_nothing_outside(
    easel: OpenDocker, tmp_path: Path
) -> None:
    try:
        easel.krita.run(choose_model, name="flow")
        easel.krita.run(find_and_edit, folder=tmp_path, limit=500)
        assert easel.krita.run(model_of_last_edit) == "flow"
    finally:
        easel.krita.run(choose_model, name="bundled")
    before, after = Kra(tmp_path / "before.kra"), Kra(tmp_path / "after.kra")
    result = after.node(EDIT)
    assert [layer.name for layer in after.layers if layer.kind == "paintlayer"] == [EDIT, "Background"]
    mask = after.pixels(result.children[0])[..., 0]
    assert 0.005 < (mask > 127).mean() < 0.3  # the selection is a quarter of the picture
    pictures = [np.array(Image.open(io.BytesIO(kra.merged())).convert("RGB")) for kra in (before, after)]
    assert np.array_equal(pictures[0][mask == 0], pictures[1][mask == 0])
    assert (pictures[0] != pictures[1])[mask > 127].any(axis=1).mean() > 0.5


def find_and_edit(stage, folder):
    """*Find Mask*, then *Edit* with what was found; the picture is saved before and after."""
    from pathlib import Path

    from diffedit.extension import extension

    session = extension().app.session
    session.change_inputs(threshold=0.5, grow=0, feather=0)
    stage.save(Path(folder) / "before.kra")
    for action in ("diffedit_find_mask", "diffedit_edit_layer"):
        stage.app.action(action).trigger()
        yield lambda: session.activity is not None
        yield lambda: session.activity is None, 200
        if session.notice is not None and session.notice.kind == "error":
            raise AssertionError(session.notice.sentence)
        yield from stage.settle()
    stage.save(Path(folder) / "after.kra")


def model_entries(stage):
    from diffedit.extension import DOCKER_ID
    from diffedit_driver.qt import QDockWidget

    menu = stage.window().findChild(QDockWidget, DOCKER_ID).panel.status.menu()
    return [action.text() for action in menu.actions() if action.isCheckable()]


def choose_model(stage, name):
    from diffedit.extension import DOCKER_ID
    from diffedit_driver.qt import QDockWidget

    menu = stage.window().findChild(QDockWidget, DOCKER_ID).panel.status.menu()
    next(action for action in menu.actions() if action.text().partition("\t")[0] == name).trigger()
    yield 0.2


def model_of_last_edit(stage):
    from diffedit.extension import extension

    return extension().app.session.history[-1].model


def remembered_model(stage):
    from diffedit.model.settings import Store

    return Store().settings.model


def at_rest_with_notice(stage):
    from diffedit.extension import extension

    session = extension().app.session
    return session.activity is None and session.notice is not None


def notice(stage):
    from diffedit.extension import extension

    return extension().app.session.notice.sentence


def layer_names(stage):
    return [node.name() for node in stage.document.topLevelNodes() if node.type() != "selectionmask"]


def test_words_are_suggested_for_both_texts_and_taken_with_the_mouse_and_with_keys(easel: OpenDocker) -> None:
    easel.krita.run(set_words, source="", target="a zebra")
    easel.hands.click("suggest_source")
    captions = until(easel.krita, suggested, field="source")
    assert {word for caption in captions for word in caption.split()} <= set(CAPTION_WORDS)
    easel.hands.click("words.source.list")
    easel.hands.key("Home", "Return")
    until(easel.krita, word_is, at=0, text=captions[0])
    easel.hands.click("target.edit")
    easel.hands.key("ctrl+space")
    wordings = until(easel.krita, suggested, field="target")
    assert {word for wording in wordings for word in wording.split()} <= set(SUGGESTED_WORDS)
    easel.hands.key("Tab", "Home", "Return")
    until(easel.krita, word_is, at=1, text=wordings[0])
    easel.hands.click("words.target.all")
    until(easel.krita, word_is, at=1, text=" | ".join(["a zebra", *wordings]))
    easel.hands.click("words.target.close_button")
    until(easel.krita, nothing_suggested, field="target")
    assert easel.krita.run(words)[1].startswith("a zebra | ")


def set_words(stage, source, target):
    from diffedit.extension import extension

    extension().app.session.change_inputs(source=source, target=target)
    yield 0.2


def words(stage):
    from diffedit.extension import extension

    inputs = extension().app.session.inputs
    return [inputs.source, inputs.target]


def word_is(stage, at, text):
    from diffedit.extension import extension

    inputs = extension().app.session.inputs
    return [inputs.source, inputs.target][at] == text


def nothing_suggested(stage, field):
    from diffedit.extension import extension

    offered = extension().app.session.suggestions
    return not (offered and offered.field == field)


def suggested(stage, field):
    """What is offered for a text, None while nothing is."""
    from diffedit.extension import extension

    session = extension().app.session
    offered = session.suggestions
    return list(offered.texts) if session.activity is None and offered and offered.field == field else None
