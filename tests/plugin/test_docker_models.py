"""The model behind ☰: what the backend has, what is chosen, what cannot be had."""

from __future__ import annotations

import dataclasses

import fake_krita
import pytest
from apps import READY, make_app, open_picture
from diffedit.model.settings import Store
from diffedit.ui.docker.panel import EditPanel
from diffedit_protocol.replies import ModelInfo

MODELS = (
    ModelInfo("bundled", "other", 128, 51_000_000),
    ModelInfo("paint & ink", "SD 1", 512, 2_130_000_000),
    ModelInfo("broken", "other", fault="It has no .safetensors weights."),
    ModelInfo("owner/on-the-hub"),
)
STATE = dataclasses.replace(READY, info=dataclasses.replace(READY.info, models=MODELS))


@pytest.fixture
def opened(store: Store, krita: fake_krita.Krita):
    app, link = make_app(store)
    panel = EditPanel(app)
    open_picture()
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra")
    link.become(STATE)
    return app, link, panel


def entries(panel: EditPanel) -> list[tuple[str, bool, bool]]:
    """Text, whether it is chosen, whether it can be."""
    menu = panel.status.menu()
    return [(a.text(), a.isChecked(), a.isEnabled()) for a in menu.actions() if a.isCheckable()]


def test_the_menu_tells_kind_and_memory_and_greys_what_cannot_be_loaded(opened) -> None:
    assert entries(opened[2]) == [
        ("bundled\t51 MB", True, True),
        ("paint && ink\tSD 1 · 2.1 GB", False, True),
        ("broken\tcannot be loaded", False, False),
        ("owner/on-the-hub", False, True),
    ]


def test_what_is_chosen_is_asked_for_and_remembered(opened, until) -> None:
    _app, link, panel = opened
    next(a for a in panel.status.menu().actions() if a.text().startswith("paint")).trigger()
    assert panel.status.text.text_whole == "Ready · paint & ink · this machine"
    panel.run.edit.click()
    until(lambda: link.payloads)
    assert link.last.request.model == "paint & ink"
    assert Store().settings.model == "paint & ink"


def test_a_backend_without_the_chosen_model_says_so_and_edits_with_no_other_one(opened, until) -> None:
    app, link, panel = opened
    app.choose("model:paint & ink")
    link.become(READY)
    assert panel.status.text.text_whole == "Ready · without the model 'paint & ink' · this machine"
    assert ("paint && ink\tmissing", True, False) in entries(panel)
    panel.run.edit.click()
    assert app.session.notice.sentence == (
        "The backend on this machine does not have the model 'paint & ink'. Choose another one in the menu ☰."
    )
    assert not link.payloads
    link.become(STATE)
    panel.run.edit.click()
    until(lambda: link.payloads)
    assert link.last.request.model == "paint & ink"
