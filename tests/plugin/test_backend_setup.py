"""The docker's way to a backend: what is said when there is none, installing, updating, removing, other versions.

The installer itself is tested in test_installer.py; here it is a stand-in of one line that a test ends.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from apps import READY, make_app, open_picture
from diffedit.backend import backend_setup
from diffedit.backend.backend_installer import InstallOutcome, carried_version
from diffedit.backend.installation import Installation, program_in
from diffedit.backend.installer import InstallProgress
from diffedit.model.payload import LinkState
from diffedit.model.sentences import of_no_backend
from diffedit.ui.dialogs import install_dialog
from diffedit.ui.dialogs.install_dialog import InstallDialog
from diffedit.ui.dialogs.settings_dialog import SettingsDialog
from diffedit_protocol import __version__
from diffedit_protocol.errors import LinkError

DOWN = LinkState("down", "", True, None, LinkError("No backend is running."))


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Neither a `diffedit` on the path nor one in the usual places."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("DIFFEDIT_PROGRAM", raising=False)


def installed(place: Installation, version: str) -> Path:
    """An environment in use, with a program that does nothing."""
    environment = place.environments / f"{version}-cpu-1"
    program = program_in(environment)
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\nexec /bin/sleep 600\n")
    program.chmod(0o755)
    place.switch(environment)
    return program


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheel that the zip carries, of the plugin's own version."""
    path = tmp_path / f"krita_diffedit-{__version__}-py3-none-any.whl"
    path.write_bytes(b"")
    monkeypatch.setattr(backend_setup, "carried_wheel", lambda: path)
    monkeypatch.setattr(install_dialog, "carried_wheel", lambda: path)
    return path


def test_at_rest_without_a_backend_the_three_ways_are_offered_once(store, krita) -> None:
    app, _ = make_app(store)
    app.setup.watch(DOWN)
    assert app.session.notice.sentence.startswith("No backend yet")
    assert app.session.notice.remedies == ("install", "join", "choose")
    app.session.notice = None
    app.setup.watch(DOWN)
    assert app.session.notice is None


def test_what_was_said_before_a_picture_was_open_is_said_in_the_first_one(store, krita) -> None:
    app, link = make_app(store)
    link.become(DOWN)
    open_picture("first")
    app.look()
    assert app.session.notice is not None
    assert app.session.notice.remedies == ("install", "join", "choose")
    open_picture("second")
    app.look()
    assert app.session.notice is None, "once"


def test_that_no_picture_was_open_is_not_said_any_more_when_one_is(store, krita) -> None:
    app, _ = make_app(store)
    app.edit_layer()
    assert app.session.notice is not None
    open_picture()
    app.look()
    assert app.session.notice is None


def test_the_three_ways_go_when_there_is_a_backend(store, krita) -> None:
    app, link = make_app(store)
    app.setup.watch(DOWN)
    link.state_changed.emit(READY)
    assert app.session.notice is None


def test_where_a_backend_is_installed_nothing_is_said_at_rest(store, krita) -> None:
    app, _ = make_app(store)
    program = installed(app.setup.installation, "1.0")
    app.setup.watch(DOWN)
    assert app.session.notice is None
    assert app.setup.program() == str(program)


def test_what_was_installed_is_started_and_the_older_one_deleted_when_it_is_ready(store, krita, until) -> None:
    app, _ = make_app(store)
    old = installed(app.setup.installation, "0.1").parents[1]
    environment = app.setup.installation.environments / "0.2-cpu-1"
    program = program_in(environment)
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho ready\nexec /bin/sleep 600\n")
    program.chmod(0o755)
    app.setup.installation.switch(environment)
    store.change(backend="remote", program="/some/other")
    app.session.notice = of_no_backend()
    try:
        app.setup.installer.finished.emit(InstallOutcome(program))
        assert app.session.notice is None
        assert (app.settings.backend, app.settings.program) == ("local", "")
        until(lambda: app.backend.state == "running")
        assert old.exists()
        app.setup.watch(READY)
        until(lambda: not old.exists())
        assert environment.exists()
    finally:
        app.backend.stop(wait=True)


def test_an_installation_that_failed_is_said_in_the_docker_with_the_way_to_try_again(store, krita) -> None:
    app, _ = make_app(store)
    app.setup.installer.finished.emit(InstallOutcome(None, "The disk is full."))
    assert (app.session.notice.sentence, app.session.notice.remedies) == ("The disk is full.", ("install",))
    app.session.notice = None
    app.setup.installer.finished.emit(InstallOutcome(None))
    assert app.session.notice is None


def test_an_older_backend_that_the_plugin_installed_is_updated_by_one_click(store, krita, wheel: Path) -> None:
    app, _ = make_app(store)
    installed(app.setup.installation, "0.0.1")
    info = dataclasses.replace(READY.info, version="0.0.1")
    app.setup.watch(dataclasses.replace(READY, local=True, info=info))
    assert app.session.notice.sentence == f"The backend is version 0.0.1, the plugin brings {__version__}."
    assert app.session.notice.remedies == ("install",)
    dialog = InstallDialog(app)
    assert dialog.install.text() == "Update"


def test_a_backend_elsewhere_of_another_version_is_named(store, krita) -> None:
    app, _ = make_app(store)
    info = dataclasses.replace(READY.info, version="9.9")
    app.setup.watch(dataclasses.replace(READY, local=False, host="gpu1", info=info))
    assert "gpu1 is version 9.9, this plugin" in app.session.notice.sentence
    assert app.session.notice.remedies == ()


def test_the_dialog_shows_what_it_takes_before_it_begins_and_how_far_it_is(store, krita, wheel: Path) -> None:
    app, _ = make_app(store)
    dialog = InstallDialog(app)
    assert "GB will be downloaded" in dialog.needs.text()
    assert dialog.folder.text() == str(app.setup.installation.folder)
    cpu = dialog.needs.text()
    dialog.accelerator.setCurrentIndex(dialog.accelerator.findData("cuda"))
    assert dialog.needs.text() != cpu
    assert not dialog.cancel.isEnabled()
    app.setup.installer.progressed.emit(InstallProgress("Downloading torch (172 MB)…", 0.25))
    assert dialog.state.text().startswith("Downloading torch")
    assert dialog.bar.value() == 250
    app.setup.installer.finished.emit(InstallOutcome(None))
    assert "goes on from there" in dialog.state.text()


def test_a_plugin_without_a_wheel_says_so_in_the_dialog(store, krita) -> None:
    app, _ = make_app(store)
    dialog = InstallDialog(app)
    dialog.install.click()
    assert "carries no backend" in dialog.state.text()
    assert not app.setup.installer.running


def test_the_settings_show_the_size_and_remove_the_backend(store, krita, until) -> None:
    app, _ = make_app(store)
    installed(app.setup.installation, "1.0")
    dialog = SettingsDialog(app)
    until(lambda: "GB" in dialog.installed.text())
    assert dialog.remove.isEnabled()
    app.setup.remove()
    until(lambda: "by itself" in dialog.installed.text())
    assert not app.setup.installation.folder.exists()
    assert not dialog.remove.isEnabled()


def test_the_version_of_a_wheel_is_in_its_name() -> None:
    assert carried_version(Path("krita_diffedit-1.2.3-py3-none-any.whl")) == "1.2.3"
