"""The local backend started, watched and stopped from the plugin; the settings dialog; *Test connection*."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import fake_krita
import pytest
from apps import make_app, open_picture
from diffedit.app import App
from diffedit.backend.connection_test import ConnectionTest
from diffedit.backend.local_backend import LocalBackend, find_program
from diffedit.model.settings import Store
from diffedit.ui.dialogs.diagnostics import DiagnosticsDialog, report
from diffedit.ui.dialogs.settings_dialog import SettingsDialog
from diffedit_protocol.connection import Connection, KeyPair

PROGRAM = """#!{python}
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("stopped", flush=True), sys.exit(0)))
assert sys.argv[1:] == ["serve"], sys.argv
print("PYTHONHOME" in os.environ, flush=True)
{body}
"""
READY = 'print("ready ipc:///nowhere", flush=True)\ntime.sleep(600)'


@pytest.fixture
def program(tmp_path: Path):
    def make(body: str = READY) -> str:
        path = tmp_path / "diffedit"
        path.write_text(PROGRAM.format(python=sys.executable, body=body))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return make


@pytest.fixture
def backend(home: Path) -> Iterator[LocalBackend]:
    backend = LocalBackend()
    yield backend
    backend.stop(wait=True)


def test_a_backend_is_starting_until_it_says_that_it_is_ready_and_stops_politely(
    backend, program, until, monkeypatch
) -> None:
    monkeypatch.setenv("PYTHONHOME", "/of/krita")
    states = []
    backend.state_changed.connect(lambda: states.append(backend.state))
    backend.start(program())
    until(lambda: backend.state == "running")
    assert backend.started_here
    assert "False" in backend.lines  # Krita's own PYTHONHOME is not handed on
    backend.stop()
    until(lambda: backend.state == "stopped")
    assert states == ["starting", "running", "stopped"]
    assert backend.lines[-1] == "stopped"


def test_a_backend_that_ends_by_itself_is_told_with_its_last_words(backend, program, until) -> None:
    backend.start(program('print("No such model: xl", flush=True)\nsys.exit(3)'))
    until(lambda: backend.state == "failed")
    assert backend.problem == "The backend stopped unexpectedly (code 3): No such model: xl"


def test_a_program_that_cannot_be_started_is_named(backend, until) -> None:
    backend.start("/nowhere/diffedit")
    until(lambda: backend.state == "failed")
    assert backend.problem == "'/nowhere/diffedit' could not be started. Choose it in Settings."


def test_the_program_is_what_the_artist_chose_else_what_the_installation_noted(home, program, monkeypatch) -> None:
    monkeypatch.delenv("DIFFEDIT_PROGRAM", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("HOME", str(home))
    assert find_program() == ""
    path = program()
    (home / "program").write_text(path + "\n")
    assert find_program() == path
    assert find_program("/nowhere/else") == ""
    monkeypatch.setenv("DIFFEDIT_PROGRAM", path)
    (home / "program").unlink()
    assert find_program() == path


def test_krita_stops_what_it_started_unless_the_artist_wants_it_to_go_on(home, program, until) -> None:
    for stop_with_krita in (True, False):
        store = Store()
        store.change(stop_with_krita=stop_with_krita, program=program())
        app, _ = make_app(store)
        app.start_backend()
        until(lambda app=app: app.backend.state == "running")
        app.close()
        assert app.backend.started_here != stop_with_krita
        app.backend.stop(wait=True)


def test_without_a_program_start_offers_the_three_ways_to_one(store, krita, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.delenv("DIFFEDIT_PROGRAM", raising=False)
    app, _ = make_app(store)
    app.start_backend()
    assert app.session.notice.remedies == ("install", "join", "choose")
    wanted = []
    app.settings_wanted.connect(lambda: wanted.append("settings"))
    app.install_wanted.connect(lambda: wanted.append("install"))
    for way in app.session.notice.remedies:
        app.remedy(way)
    assert wanted == ["install", "settings", "settings"]


def test_a_backend_of_somebody_else_is_not_stopped(store, krita) -> None:
    app, _ = make_app(store)
    app.stop_backend()
    assert "did not start the backend" in app.session.notice.sentence


class TestSettingsDialog:
    @pytest.fixture
    def dialog(self, store: Store, krita: fake_krita.Krita) -> Iterator[SettingsDialog]:
        app, self.link = make_app(store)
        self.app: App = app
        dialog = SettingsDialog(app)
        dialog.show()
        yield dialog
        dialog.close()
        app.close()

    def test_a_pasted_line_is_kept_privately_and_used_at_once(self, dialog, home) -> None:
        server = KeyPair.generate()
        line = Connection.invite("tcp://gpu1:5599", server.public, "anna").to_line()
        dialog.line.setText("\n".join([line[:40], line[40:]]))
        dialog.join.click()
        assert self.app.settings.backend == "remote"
        assert self.app.find_connection().endpoint == "tcp://gpu1:5599"
        assert (home / "remote.json").stat().st_mode & 0o777 == 0o600
        assert line not in (home / "plugin.json").read_text()
        assert self.link.reconnects >= 1
        assert dialog.joined.text() == "Connected to tcp://gpu1:5599 as 'anna'"
        assert dialog.line.text() == ""

    def test_a_line_that_is_not_whole_is_told_and_changes_nothing(self, dialog) -> None:
        dialog.line.setText("diffedit://gpu1:5599/abc")
        dialog.join.click()
        assert "not whole" in dialog.joined.text()
        assert self.app.settings.backend == "local"

    def test_start_shows_the_log_and_stop_ends_it(self, dialog, program, until) -> None:
        dialog.program.setText(program())
        dialog.program.editingFinished.emit()
        dialog.start.click()
        until(lambda: dialog.state.text() == "is running")
        assert "ready ipc:///nowhere" in dialog.log.toPlainText()
        assert not dialog.start.isEnabled()
        dialog.stop.click()
        until(lambda: dialog.state.text() == "not started here")

    def test_every_setting_is_in_force_at_once(self, dialog) -> None:
        from diffedit.qt import QtWidgets

        boxes = {box.text(): box for box in dialog.findChildren(QtWidgets.QCheckBox)}
        boxes["Add a single result at once, without asking"].click()
        assert not Store().settings.add_single

    def test_testing_a_connection_without_a_backend_says_so(self, dialog, until) -> None:
        dialog.test.click()
        until(lambda: dialog.result.text().startswith("✗"))
        assert "No backend is running" in dialog.result.text()


def test_testing_a_connection_to_a_machine_that_does_not_answer_says_so(until) -> None:
    from diffedit.qt import QtCore

    keys = KeyPair.generate()
    nobody = Connection("tcp://127.0.0.1:9", keys.public, keys.secret, keys.public)
    owner, reported = QtCore.QObject(), []
    test = ConnectionTest(lambda: nobody, owner)
    test.done.connect(lambda sentence, good: reported.append((sentence, good)))
    test.start()
    until(lambda: bool(reported))
    assert reported[0][1] is False
    assert test.wait(60_000)


def test_the_report_names_versions_and_the_document_and_holds_no_key_and_no_prompt(store, krita) -> None:
    app, _ = make_app(store)
    server = KeyPair.generate()
    connection = Connection.invite("tcp://gpu1:5599", server.public, "anna")
    app.join(connection.to_line())
    open_picture()
    app.look()
    app.session.change_inputs(source="my secret picture", target="a zebra")
    text = report(app)
    for expected in ("Krita 5.1.5", "pyzmq", "64 × 48 px, RGBA U8", "Backend: remote", "models bundled"):
        assert expected in text
    for secret in (connection.client_secret, connection.to_line(), "my secret picture"):
        assert secret not in text
    dialog = DiagnosticsDialog(app)
    assert dialog.text.toPlainText() == text
    assert os.environ["DIFFEDIT_HOME"] not in text
