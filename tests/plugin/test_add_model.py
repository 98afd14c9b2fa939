"""*Add model…*: looked at first, added then, by the backend's own command; here a stand-in of a few lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from apps import READY, make_app
from diffedit.ui.dialogs.add_model_dialog import AddModelDialog

ANSWER = {"name": "oils", "kind": "model", "about": "SD 1, 2.1 GB. It fits.", "fits": "whole", "download": 0, "more": 1}


@pytest.fixture
def program(tmp_path: Path, store):
    """A `diffedit` that writes down what it was asked and does as told."""

    def write(body: str) -> Path:
        path = tmp_path / "diffedit"
        asked = tmp_path / "asked"
        path.write_text(
            f"#!{sys.executable}\nimport json, sys, time\n"
            f"open({str(asked)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n{body}\n"
        )
        path.chmod(0o755)
        store.change(program=str(path))
        return asked

    return write


def asked(file: Path) -> list[list[str]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_model_is_looked_at_before_it_can_be_added(store, krita, program, until) -> None:
    file = program(f"print({json.dumps(ANSWER)!r})")
    app, _ = make_app(store)
    dialog = AddModelDialog(app)
    assert not dialog.add.isEnabled()
    dialog.what.setText("/pictures/Zoë's models/oils.safetensors")
    assert not dialog.add.isEnabled()
    dialog.look.click()
    until(dialog.add.isEnabled)
    assert dialog.state.text() == "oils: SD 1, 2.1 GB. It fits."
    dialog.add.click()
    until(lambda: dialog.state.text().startswith("Added: oils."))
    assert asked(file) == [
        ["add-model", "--json", "--look", "--", "/pictures/Zoë's models/oils.safetensors"],
        ["add-model", "--json", "--", "/pictures/Zoë's models/oils.safetensors"],
    ]


def test_what_was_changed_since_the_look_is_looked_at_again(store, krita, program, until) -> None:
    program(f"print({json.dumps(ANSWER)!r})")
    dialog = AddModelDialog(make_app(store)[0])
    dialog.what.setText("owner/model")
    dialog.look.click()
    until(dialog.add.isEnabled)
    dialog.what.setText("owner/other")
    assert not dialog.add.isEnabled()


def test_what_cannot_be_used_is_said_in_the_backend_s_own_sentence(store, krita, program, until) -> None:
    program("print('noise\\ndiffedit: This is a ControlNet, no model.', file=sys.stderr); sys.exit(1)")
    dialog = AddModelDialog(make_app(store)[0])
    dialog.what.setText("net.safetensors")
    dialog.look.click()
    until(lambda: dialog.state.text() == "This is a ControlNet, no model.")
    assert not dialog.add.isEnabled()


def test_an_answer_that_cannot_be_read_is_reported(store, krita, program, until) -> None:
    program("print('{}')")
    dialog = AddModelDialog(make_app(store)[0])
    dialog.what.setText("owner/model")
    dialog.look.click()
    until(lambda: "no answer that can be read" in dialog.state.text())


def test_a_download_shows_its_progress_and_can_be_cancelled(store, krita, program, until) -> None:
    program("print('model.safetensors: 12% 0.3/2.1 GB', file=sys.stderr, flush=True); time.sleep(600)")
    dialog = AddModelDialog(make_app(store)[0])
    dialog.what.setText("owner/model")
    dialog.look.click()
    until(lambda: "12%" in dialog.state.text())
    assert dialog.cancel.isEnabled()
    dialog.cancel.click()
    until(lambda: dialog.state.text().startswith("Cancelled."))
    assert not dialog.adder.running


def test_without_a_backend_here_the_way_is_reported(store, krita, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("HOME", "/nowhere")
    dialog = AddModelDialog(make_app(store)[0])
    dialog.what.setText("owner/model")
    dialog.look.click()
    assert "Install it first" in dialog.state.text()


def test_a_backend_that_this_krita_does_not_run_must_be_started_anew(store, krita, program, until) -> None:
    program(f"print({json.dumps(ANSWER)!r})")
    app, link = make_app(store)
    link.state = READY
    dialog = AddModelDialog(app)
    dialog.what.setText("owner/model")
    dialog.look.click()
    until(dialog.add.isEnabled)
    dialog.add.click()
    until(lambda: "Start the backend anew" in dialog.state.text())
