"""Makes the pictures of the manual: `python krita_plugin/make_manual_pictures.py` (a real Krita, the bundled model).

The docker is brought into each of its states as an artist would bring it there, and photographed by Qt. `--theme dark`
or `--theme bright` makes one half; `--scale 2` makes them for a screen of twice the resolution, into `manual-2x/`, and
`--width 400` a wider docker, into `manual-400/`: to be looked at, not shipped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from diffedit_backend.bundled import samples, samples_folder
from diffedit_backend.krita.install import PLUGIN
from diffedit_krita_driver.backend_process import BackendProcess
from diffedit_krita_driver.display import Xvfb
from diffedit_krita_driver.profile import Look
from diffedit_krita_driver.remote import RemoteKrita, fresh_profile
from diffedit_protocol.connection import Connection, KeyPair
from PIL import Image
from safetensors.torch import save_file

PICTURES = Path(__file__).resolve().parent / "manual"
WIDTH = 280  # px of the docker
COLOURS = 128  # of a PNG's palette: a third of the size, and nobody sees it
THEMES = {"dark": ("", "Krita dark"), "bright": ("bright-", "Krita bright")}
ADAPTERS = ("ink-and-wash", "oil-sketch", "watercolour")  # names only: nothing is edited with these


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--theme", choices=THEMES, action="append", help="(default: both)")
    parser.add_argument("--scale", type=int, default=1, help="device pixels of a pixel (default: 1)")
    parser.add_argument("--width", type=int, default=WIDTH, help=f"px of the docker (default: {WIDTH})")
    args = parser.parse_args()
    folder = PICTURES
    if args.scale != 1 or args.width != WIDTH:
        folder = PICTURES.with_name(f"manual-{args.scale}x" if args.scale != 1 else f"manual-{args.width}")
    folder.mkdir(exist_ok=True)
    made = [
        path for theme in args.theme or THEMES for path in _pictures(folder, *THEMES[theme], args.scale, args.width)
    ]
    for path in made:
        Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)
        print(f"{path} ({path.stat().st_size // 1024} KiB)")
    return 0


def _pictures(folder: Path, prefix: str, theme: str, scale: int, width: int) -> list[Path]:
    """Makes the pictures of one theme and tells where they are."""
    sample = samples()[0]
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.png")}
    with tempfile.TemporaryDirectory() as temporary, Xvfb(1280 * scale, 860 * scale) as display:
        profile = fresh_profile(Path(temporary) / "profile", display)
        # As an installation finds it; it is shown, not started.
        program = Path(temporary) / "diffedit"
        program.touch(mode=0o755)
        environment = {"DIFFEDIT_PROGRAM": str(program), "QT_SCALE_FACTOR": str(scale)}
        with RemoteKrita(profile, display, [(None, PLUGIN)], extra_environment=environment, look=Look(theme)) as krita:
            arguments = {"folder": folder, "prefix": prefix, "picture": samples_folder() / sample.file}
            words = {"source": sample.source, "target": sample.target}
            krita.run(before_there_is_a_backend, width=width, line=_line_to_nobody(), limit=60, **arguments)
            _write_adapters(profile.diffedit_home / "adapters")
            with BackendProcess(profile.diffedit_home):
                krita.run(with_a_backend, limit=600, **arguments, **words)
    return [path for path in sorted(folder.glob("*.png")) if before.get(path) != path.stat().st_mtime_ns]


def _write_adapters(folder: Path) -> None:
    """LoRAs of one empty layer, and a learned word, for the list to have something to show."""
    folder.mkdir(mode=0o700)
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    for name in ADAPTERS:
        save_file(
            {f"{layer}.lora_A.weight": torch.zeros(1, 128), f"{layer}.lora_B.weight": torch.zeros(192, 1)},
            folder / f"{name}.safetensors",
        )
    save_file({"<my-cat>": torch.zeros(1, 128)}, folder / "my-cat.safetensors")


def _line_to_nobody() -> str:
    """An invitation to an address that is kept for documentation (RFC 5737) and answers to nobody."""
    return Connection.invite("tcp://192.0.2.1:7860", KeyPair.generate().public, "anna").to_line()


def before_there_is_a_backend(stage, folder, prefix, picture, width, line):  # type: ignore[no-untyped-def]
    from diffedit.extension import DOCKER_ID, extension
    from diffedit_driver.qt import QDockWidget, QRect, Qt

    window, app = stage.window(), extension().app
    window.setGeometry(window.screen().geometry())
    docks = {dock.objectName(): dock for dock in window.findChildren(QDockWidget)}
    for name, dock in docks.items():
        dock.setVisible(name in ("ToolBox", "KisLayerBox", DOCKER_ID))
    ours, layers = docks[DOCKER_ID], docks["KisLayerBox"]
    ours.setFloating(False)
    for dock in (ours, layers):
        window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    window.splitDockWidget(ours, layers, Qt.Orientation.Vertical)
    window.resizeDocks([ours, layers], [width, width], Qt.Orientation.Horizontal)
    window.resizeDocks([ours, layers], [600, 200], Qt.Orientation.Vertical)
    panel = ours.panel

    def photograph(name):  # the docker, as high as what it shows
        bottom = max(part.fold.geometry().bottom() for part in panel.parts.values() if part.fold.isVisible())
        panel.grab(QRect(0, 0, panel.width(), min(panel.height(), bottom + 8))).save(f"{folder}/{prefix}{name}.png")

    yield from stage.open(picture)
    yield lambda: app.link.state.kind == "down", 20
    stage.app.action("diffedit_edit_layer").trigger()  # without words: the docker says what is missing
    yield 0.3
    app.session.notice = None
    app.session.change_inputs(source="a horse", target="a zebra")
    stage.app.action("diffedit_edit_layer").trigger()
    yield lambda: app.session.notice is not None, 10
    yield 0.2
    photograph("no-backend")
    stage.app.action("diffedit_cancel").trigger()
    yield lambda: app.session.activity is None, 10
    app.session.notice = None
    app.join(line)
    yield lambda: app.link.state.kind == "connecting", 10
    yield 0.2
    photograph("connecting")
    app.store.change(backend="local")


def with_a_backend(stage, folder, prefix, picture, source, target):  # type: ignore[no-untyped-def]
    from diffedit.extension import DOCKER_ID, extension
    from diffedit_driver.qt import QDockWidget, QRect, Qt, QWidget
    from diffedit_protocol.messages import Adapter

    app, window = extension().app, stage.window()
    session, panel = app.session, window.findChild(QDockWidget, DOCKER_ID).panel

    def photograph(name):  # the docker, as high as what it shows
        bottom = max(part.fold.geometry().bottom() for part in panel.parts.values() if part.fold.isVisible())
        panel.grab(QRect(0, 0, panel.width(), min(panel.height(), bottom + 8))).save(f"{folder}/{prefix}{name}.png")

    stage.app.activeWindow().activeView().canvas().setZoomLevel(1.4)
    yield lambda: app.link.state.kind == "ready", 60

    def rest():
        return session.activity is None

    def canvas():  # the picture as it is seen, as wide as three of them fit into the manual
        found = window.centralWidget().findChildren(QWidget)
        shown = next(w for w in found if w.metaObject().className() == "KisQPainterCanvas" and w.isVisible())
        place = QRect(shown.mapTo(window, shown.rect().topLeft()), shown.size())
        side = min(place.width(), place.height())
        middle = QRect(0, 0, side, side)
        middle.moveCenter(place.center())
        return window.grab(middle).scaledToWidth(260, Qt.TransformationMode.SmoothTransformation)

    def layers():
        return window.findChild(QDockWidget, "KisLayerBox").grab()

    def fold(*unfolded):
        for name, part in panel.parts.items():
            part.fold.heading.setChecked(name in unfolded)

    session.change_inputs(source=source, target=target, seed=41, seed_locked=True)
    fold("results")
    yield 0.3
    photograph("rest")
    form_at_first = app.settings.mask_form
    stage.app.action("diffedit_find_mask").trigger()
    yield lambda: rest() or session.activity.stage == "finding", 60
    photograph("searching")
    yield rest, 240
    yield lambda: session.mask_shown
    fold("mask")
    yield 1.5
    photograph("mask")
    window.grab().save(f"{folder}/{prefix}window-mask.png")
    for form in ("overlay", "selection", "selectionmask"):
        app.store.change(mask_form=form)
        yield 2.0  # Krita draws the outline of a selection in the background
        shown = layers() if form == "selectionmask" else canvas()  # a mask on a layer is seen in the list of layers
        shown.save(f"{folder}/{prefix}mask-{form}.png")
    app.store.change(mask_form=form_at_first)
    app.masks.hide(session)
    fold("edit")
    yield 0.3
    photograph("options")
    fold("adapters")
    session.change_inputs(adapters=(Adapter("ink-and-wash", 0.7), Adapter("my-cat")))
    yield 0.3
    photograph("adapters")
    session.change_inputs(adapters=())
    fold("results")
    session.change_inputs(variations=4)
    stage.app.action("diffedit_edit_layer").trigger()
    yield lambda: session.preview is not None and session.activity.stage == "editing", 240
    yield lambda: session.activity.step > session.activity.total // 2, 120
    photograph("editing")
    yield rest, 240
    app.results.show(session, 1)
    yield lambda: session.variations[1].state == "shown", 60
    yield 0.8
    photograph("results")
    window.grab().save(f"{folder}/{prefix}window-results.png")
    app.results.accept(session)
    fold("history")
    yield 0.3
    photograph("history")
    fold()
    session.change_inputs(target=source)
    app.edit_layer()
    yield 0.3
    photograph("same-words")
    stage.app.action("diffedit_settings").trigger()
    yield 0.5
    (dialog,) = stage.dialogs()
    dialog.test.click()
    yield lambda: dialog.result.text()[0] in "✓✗", 20
    yield 0.2
    dialog.program.setPlaceholderText("/home/anna/.local/bin/diffedit")  # not a place of the machine that makes these
    dialog.grab().save(f"{folder}/{prefix}settings.png")
    dialog.close()


if __name__ == "__main__":
    sys.exit(main())
