"""Makes the pictures of the manual: `python krita_plugin/make_manual_pictures.py` (a real Krita, the bundled model).

The docker is brought into each of its states as an artist would bring it there, and photographed by Qt.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from diffedit_backend.bundled.samples import samples, samples_folder
from diffedit_backend.krita_host.backend_process import BackendProcess
from diffedit_backend.krita_host.display import Xvfb
from diffedit_backend.krita_host.install import PLUGIN
from diffedit_backend.krita_host.remote import RemoteKrita, fresh_profile
from diffedit_protocol.connection import Connection, KeyPair
from PIL import Image

PICTURES = Path(__file__).resolve().parent / "manual"
WIDTH = 280  # px of the docker
COLOURS = 128  # of a PNG's palette: a third of the size, and nobody sees it
THEMES = {"": "Krita dark", "bright-": "Krita bright"}


def main() -> int:
    PICTURES.mkdir(exist_ok=True)
    sample = samples()[0]
    for prefix, theme in THEMES.items():
        with tempfile.TemporaryDirectory() as temporary, Xvfb(1280, 860) as display:
            profile = fresh_profile(Path(temporary) / "profile", display)
            # As an installation finds it; it is shown, not started.
            program = Path(temporary) / "diffedit"
            program.touch(mode=0o755)
            with RemoteKrita(
                profile, display, [(None, PLUGIN)], theme=theme, extra_environment={"DIFFEDIT_PROGRAM": str(program)}
            ) as krita:
                told = {"folder": PICTURES, "prefix": prefix, "picture": samples_folder() / sample.file}
                words = {"source": sample.source, "target": sample.target}
                krita.run(before_there_is_a_backend, width=WIDTH, line=_line_to_nobody(), limit=60, **told)
                with BackendProcess(profile.diffedit_home):
                    krita.run(with_a_backend, limit=600, **told, **words)
    for path in sorted(PICTURES.glob("*.png")):
        Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)
        print(f"{path} ({path.stat().st_size // 1024} KiB)")
    return 0


def _line_to_nobody() -> str:
    """An invitation to an address that is kept for documentation (RFC 5737) and answers to nobody."""
    return Connection.invite("tcp://192.0.2.1:7860", KeyPair.generate().public, "anna").to_line()


def before_there_is_a_backend(stage, folder, prefix, picture, width, line):  # type: ignore[no-untyped-def]
    from diffedit.extension import DOCKER_ID, extension
    from PyQt5.QtCore import QRect, Qt
    from PyQt5.QtWidgets import QDockWidget

    window, studio = stage.window(), extension().studio
    window.setGeometry(window.screen().geometry())
    docks = {dock.objectName(): dock for dock in window.findChildren(QDockWidget)}
    for name, dock in docks.items():
        dock.setVisible(name in ("ToolBox", "KisLayerBox", DOCKER_ID))
    ours, layers = docks[DOCKER_ID], docks["KisLayerBox"]
    ours.setFloating(False)
    for dock in (ours, layers):
        window.addDockWidget(Qt.RightDockWidgetArea, dock)
    window.splitDockWidget(ours, layers, Qt.Vertical)
    window.resizeDocks([ours, layers], [width, width], Qt.Horizontal)
    window.resizeDocks([ours, layers], [600, 200], Qt.Vertical)
    panel = ours.panel

    def photograph(name):  # the docker, as high as what it shows
        bottom = max(part.fold.geometry().bottom() for part in panel.parts.values() if part.fold.isVisible())
        panel.grab(QRect(0, 0, panel.width(), min(panel.height(), bottom + 8))).save(f"{folder}/{prefix}{name}.png")

    yield from stage.open(picture)
    yield lambda: studio.link.state.kind == "down", 20
    stage.app.action("diffedit_edit_layer").trigger()  # without words: the docker says what is missing
    yield 0.3
    studio.session.notice = None
    studio.session.change_inputs(source="a horse", target="a zebra")
    stage.app.action("diffedit_edit_layer").trigger()
    yield lambda: studio.session.notice is not None, 10
    yield 0.2
    photograph("no-backend")
    stage.app.action("diffedit_cancel").trigger()
    yield lambda: studio.session.activity is None, 10
    studio.session.notice = None
    studio.join(line)
    yield lambda: studio.link.state.kind == "connecting", 10
    yield 0.2
    photograph("connecting")
    studio.store.change(backend="local")


def with_a_backend(stage, folder, prefix, picture, source, target):  # type: ignore[no-untyped-def]
    from diffedit.extension import DOCKER_ID, extension
    from PyQt5.QtCore import QRect
    from PyQt5.QtWidgets import QDockWidget

    studio, window = extension().studio, stage.window()
    session, panel = studio.session, window.findChild(QDockWidget, DOCKER_ID).panel

    def photograph(name):  # the docker, as high as what it shows
        bottom = max(part.fold.geometry().bottom() for part in panel.parts.values() if part.fold.isVisible())
        panel.grab(QRect(0, 0, panel.width(), min(panel.height(), bottom + 8))).save(f"{folder}/{prefix}{name}.png")

    stage.app.activeWindow().activeView().canvas().setZoomLevel(1.4)
    yield lambda: studio.link.state.kind == "ready", 60

    def rest():
        return session.activity is None

    def fold(*unfolded):
        for name, part in panel.parts.items():
            part.fold.heading.setChecked(name in unfolded)

    session.change_inputs(source=source, target=target, seed=41, seed_locked=True)
    fold("results")
    yield 0.3
    photograph("rest")
    stage.app.action("diffedit_find_mask").trigger()
    yield lambda: session.activity is not None and session.activity.phase == "working", 60
    yield 0.1
    photograph("searching")
    yield rest, 240
    yield lambda: session.mask_shown
    fold("mask")
    yield 1.5
    photograph("mask")
    window.grab().save(f"{folder}/{prefix}window-mask.png")
    studio.masks.hide(session)
    fold("edit")
    yield 0.3
    photograph("options")
    fold("results")
    session.change_inputs(variations=3)
    stage.app.action("diffedit_edit_layer").trigger()
    yield lambda: session.preview is not None and session.activity.stage == "editing", 240
    yield lambda: session.activity.step > session.activity.total // 2, 120
    photograph("editing")
    yield rest, 240
    studio.results.show(session, 1)
    yield lambda: session.variations[1].state == "shown", 60
    yield 0.8
    photograph("results")
    window.grab().save(f"{folder}/{prefix}window-results.png")
    studio.results.accept(session)
    fold("history")
    yield 0.3
    photograph("history")
    fold()
    session.change_inputs(target=source)
    studio.edit_layer()
    yield 0.3
    photograph("same-words")
    stage.app.action("diffedit_settings").trigger()
    yield 0.5
    (dialog,) = stage.dialogs()
    dialog.test.click()
    yield lambda: dialog.result.text()[0] in "✓✗", 20
    yield 0.2
    dialog.grab().save(f"{folder}/{prefix}settings.png")
    dialog.close()


if __name__ == "__main__":
    sys.exit(main())
