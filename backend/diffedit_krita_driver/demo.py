"""The demonstration: an edit in a real Krita, as an artist makes it, kept as pictures."""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass
from pathlib import Path

from diffedit_backend.bundled import Sample, samples, samples_folder
from PIL import Image

from .display import screenshot
from .kra import Kra
from .remote import RemoteKrita

EDIT_SECONDS = 600.0  # 40 s on a quiet machine of two cores


@dataclass(frozen=True)
class Shown:
    """What a demonstration left: the layer's name, the share of the picture that the mask covers, and the seconds."""

    layer: str
    share: float
    seconds: float


def prepare(krita: RemoteKrita, sample: Sample) -> None:
    """Brings the docker to the front with the sample's words in it, beside a picture that can be seen whole."""
    krita.run(
        _open_sample,
        picture=samples_folder() / sample.file,
        source=sample.source,
        target=sample.target,
        hidden=krita.display is not None,
    )


def perform(krita: RemoteKrita, sample: Sample, folder: Path) -> Shown:
    """Triggers the menu action, waits for the result, and leaves demo.kra, source.png, mask.png, edit.png and
    screenshot.png in `folder`. KritaTaskError with the plugin's own words when no result came."""
    report = krita.run(_edit, limit=EDIT_SECONDS + 60, seconds=EDIT_SECONDS, path=folder / "demo.kra")
    if krita.display is not None:
        screenshot(krita.display, folder / "screenshot.png")
    saved = Kra(folder / "demo.kra")
    shutil.copyfile(samples_folder() / sample.file, folder / "source.png")
    Image.open(io.BytesIO(saved.merged())).convert("RGB").save(folder / "edit.png")
    mask = saved.pixels(saved.layers[0].children[0])[..., 0]
    Image.fromarray(mask).save(folder / "mask.png")
    return Shown(report["layer"], float((mask > 127).mean()), report["seconds"])


def demo_sample() -> Sample:
    """The picture to show: two things, one to be found from the words and one to be left alone."""
    return next(sample for sample in samples() if sample.file == "apple-and-car.png")


def _open_sample(stage, picture, source, target, hidden):  # type: ignore[no-untyped-def]
    from diffedit.extension import DOCKER_ID, extension
    from diffedit_driver.qt import QCursor, QDockWidget, Qt

    yield from stage.open(picture)
    window = stage.window()
    window.showMaximized()
    if hidden:  # a virtual screen has no window manager that would do it, and nobody who holds a brush
        window.setGeometry(window.screen().geometry())
        QCursor.setPos(window.screen().geometry().bottomRight())
    docks = {dock.objectName(): dock for dock in window.findChildren(QDockWidget)}
    for name, dock in docks.items():
        dock.setVisible(name in ("ToolBox", "KisLayerBox", DOCKER_ID))
    ours, layer_stack = docks[DOCKER_ID], docks["KisLayerBox"]
    for dock in (ours, layer_stack):
        window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    window.splitDockWidget(ours, layer_stack, Qt.Orientation.Vertical)
    window.resizeDocks([ours, layer_stack], [320, 320], Qt.Orientation.Horizontal)
    window.resizeDocks([ours, layer_stack], [520, 260], Qt.Orientation.Vertical)
    yield 0.3
    stage.app.activeWindow().activeView().canvas().setZoomLevel(1.25)
    extension().app.look()
    extension().app.session.change_inputs(source=source, target=target, seed=41, seed_locked=True)
    yield 0.3


def _edit(stage, seconds, path):  # type: ignore[no-untyped-def]
    import time

    from diffedit.extension import extension

    app = extension().app
    session, document = app.session, stage.document
    yield lambda: app.link.state.kind == "ready", 60
    begun = time.monotonic()
    stage.app.action("diffedit_edit_layer").trigger()
    yield lambda: session.activity is not None or session.notice is not None, 20
    yield lambda: session.activity is None, seconds
    took = time.monotonic() - begun
    yield from stage.settle()
    layers = document.topLevelNodes()
    if len(layers) < 2:
        raise RuntimeError(session.notice.sentence if session.notice is not None else "No layer was added.")
    yield 0.5
    stage.save(path)
    yield 0.5
    return {"layer": layers[-1].name(), "seconds": took}
