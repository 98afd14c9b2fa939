"""Krita is quit while an edit runs: it asks, the edit goes on at the backend, and the next Krita brings its result."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

from diffedit_backend.bundled import samples, samples_folder
from diffedit_backend.krita.install import PLUGIN
from diffedit_krita_driver.backend_process import BackendProcess
from diffedit_krita_driver.display import screenshot
from diffedit_krita_driver.remote import RemoteKrita

_SPEC = importlib.util.spec_from_file_location("hands", Path(__file__).with_name("hands.py"))
hands_module = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(hands_module)
until, held, is_working = (getattr(hands_module, name) for name in ("until", "held", "is_working"))


def begin(stage, picture, path):
    from diffedit.extension import extension

    yield from stage.open(picture)
    stage.save(path)
    yield 0.3
    app = extension().app
    app.look()
    yield lambda: app.link.state.kind == "ready"
    app.session.change_inputs(source="a horse", target="a zebra", quality="draft", seed=41, seed_locked=True)
    app.edit_layer()


def question(stage, answer):
    """Krita is asked to end; -> the text of what is asked. `answer`: the button that is pressed."""
    from diffedit_driver.qt import QMessageBox, QTimer

    stage.expect_dialogs = True
    stage.app.action("file_quit").trigger()
    boxes = []

    def asked():
        boxes[:] = [d for d in stage.dialogs() if isinstance(d, QMessageBox)]
        return boxes

    yield asked
    texts = boxes[0].text(), boxes[0].informativeText()
    button = next(b for b in boxes[0].buttons() if b.text().replace("&", "") == answer)
    if answer == "Stay":
        button.click()
        yield lambda: not stage.dialogs()
    else:
        QTimer.singleShot(200, lambda: button.click())  # Krita is gone one turn later
    return texts


def late_result(stage, path):
    """The picture is opened again; -> what is offered for it, once it is here."""
    from diffedit.extension import extension

    document = yield from stage.open(path)
    app = extension().app
    yield lambda: app.session.variations, 240
    states = [variation.state for variation in app.session.variations]
    before = len(document.topLevelNodes())
    said = app.session.notice.sentence
    app.results.accept(app.session)
    yield lambda: app.session.variations[0].state == "added" and app.session.activity is None
    yield lambda: not app.pending.earlier and not app.store.get("pending", [])
    return states, said, before, [node.name() for node in document.topLevelNodes()]


def test_an_edit_that_krita_was_quit_from_is_asked_about_and_its_result_comes_at_the_next_start(
    start_krita, display: str, tmp_path: Path
) -> None:
    krita = start_krita()
    path = tmp_path / "horse.kra"
    with BackendProcess(krita.profile.diffedit_home) as backend:
        with held(backend):
            krita.run(begin, picture=samples_folder() / samples()[0].file, path=path)
            until(krita, is_working)
            text, rest = krita.run(question, answer="Stay")
            assert text == "An edit is under way: horse.kra."
            assert rest == "It goes on at the backend, and its result is fetched when Krita is started again."
            assert krita.process.exit_code() is None
            krita.run(question, answer="Quit Krita")
            try:
                assert krita.process.wait(180) == 0
            except subprocess.TimeoutExpired:
                screenshot(display, tmp_path / "not-ended.png")
                raise
        with RemoteKrita(krita.profile, display, plugins=[(None, PLUGIN)]) as again:
            states, said, before, names = again.run(late_result, path=path, limit=300)
    assert (states, before) == (["waiting"], 1)
    assert names == ["Background", "horse → zebra (41)"]
    assert said == "Results of earlier edits wait here. Accept or discard them."
