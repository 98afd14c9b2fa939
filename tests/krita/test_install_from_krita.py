"""From nothing to an edit without a terminal: a Krita with an empty home and only the plugin's zip.

The index on loopback serves the real packages of this environment, torch included, packed again. Buttons are pressed
from inside Krita; the seconds that it takes are kept beside the pictures.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from diffedit_backend.bundled.samples import samples, samples_folder
from diffedit_backend.krita.backend_wheel import backend_wheel
from diffedit_backend.krita.plugin_zip import build
from diffedit_krita_driver.display import screenshot
from diffedit_krita_driver.kra import Kra
from diffedit_krita_driver.remote import RemoteKrita

PLUGIN = "diffedit"
HERE = Path(__file__).parent
INSTALL_SECONDS, EDIT_SECONDS = 900.0, 300.0


def beside(path: Path) -> ModuleType:
    """A module of the tests, by its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


small_index = beside(HERE.parent / "plugin" / "small_index.py")
installed_wheels = beside(HERE / "installed_wheels.py")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an index with all that the backend needs."""
    wheels = tmp_path_factory.mktemp("wheels")
    small_index.fetch_uv(wheels, _uv_version())
    ours = backend_wheel(tmp_path_factory.mktemp("ours"))
    for distribution in installed_wheels.needed(ours, "backend").values():
        installed_wheels.pack(distribution, wheels)
    with small_index.SmallIndex(wheels).running() as running:
        yield running.url


def _uv_version() -> str:
    text = (HERE.parents[1] / "krita_plugin" / PLUGIN / "backend" / "installer.py").read_text(encoding="utf-8")
    return next(line.split('"')[1] for line in text.splitlines() if line.startswith("UV_VERSION"))


def import_zip(stage, archive, folder):
    """What *Tools > Scripts > Import Python Plugin from File* does."""
    from plugin_importer.plugin_importer import PluginImporter

    def no_older_plugin(plugin):
        raise AssertionError(f"The folder was empty, but the importer found {plugin}.")

    yield 0
    return [plugin["name"] for plugin in PluginImporter(archive, folder, no_older_plugin).import_all()]


def notice_at_rest(stage):
    from diffedit.extension import extension

    yield lambda: extension().app.session.notice is not None, 60
    notice = extension().app.session.notice
    return [notice.sentence, *notice.remedies]


def open_dialog(stage):
    from diffedit.extension import DOCKER_ID, extension
    from diffedit.qt import QtWidgets

    dock = next(d for d in stage.window().findChildren(QtWidgets.QDockWidget) if d.objectName() == DOCKER_ID)
    dock.setVisible(True)
    dock.raise_()
    yield 0.3
    dock.panel.notice.buttons["install"].click()
    yield 0.3
    dialog = next(d for d in extension()._dialogs if type(d).__name__ == "InstallDialog")
    return [dialog.isVisible(), dialog.needs.text(), dialog.folder.text(), dialog.accelerator.currentData()]


def press_install(stage, index):
    from diffedit.extension import extension

    dialog = next(d for d in extension()._dialogs if type(d).__name__ == "InstallDialog")
    dialog.index.setText(index)
    dialog.torch_index.setText(index)
    dialog.install.click()
    yield 0.2
    return extension().app.setup.installer.running


def cancel_in_the_middle(stage):
    from diffedit.extension import extension

    dialog = next(d for d in extension()._dialogs if type(d).__name__ == "InstallDialog")
    installer = extension().app.setup.installer
    yield lambda: any("Downloading" in line for line in installer.lines), 300
    dialog.cancel.click()
    yield lambda: not installer.running, 30
    return dialog.state.text()


def progress(stage):
    from diffedit.extension import extension

    app = extension().app
    dialog = next(d for d in extension()._dialogs if type(d).__name__ == "InstallDialog")
    yield 0
    return {"running": app.setup.installer.running, "state": dialog.state.text(), "link": app.link.state.kind}


def edit(stage, picture, source, target, seconds, path):
    from diffedit.extension import extension

    for dialog in extension()._dialogs:
        dialog.close()
    yield from stage.open(picture)
    app = extension().app
    app.look()
    app.session.change_inputs(source=source, target=target, seed=41, seed_locked=True)
    stage.app.action("diffedit_edit_layer").trigger()
    yield lambda: app.session.activity is not None or app.session.notice is not None, 20
    yield lambda: app.session.activity is None, seconds
    yield from stage.settle()
    layers = [node.name() for node in stage.document.topLevelNodes()]
    stage.save(path)
    yield 0.3
    return [layers, app.session.notice.sentence if app.session.notice is not None else ""]


def stop_backend(stage):
    from diffedit.extension import extension

    extension().app.backend.stop(wait=True)
    yield 0
    return extension().app.backend.state


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_from_the_zip_alone_to_an_edit_without_a_terminal(
    index: str, start_krita: Callable[..., RemoteKrita], tmp_path: Path
) -> None:
    begun = time.monotonic()
    first = start_krita(plugins=[])
    assert first.run(import_zip, archive=build(tmp_path / "dist"), folder=first.profile.resources) == [PLUGIN]
    imported = first.profile.resources
    first.quit()
    # Krita enables what it imported when the artist says yes to its question; then it is started anew.
    krita = start_krita(
        plugins=[(imported / "pykrita", PLUGIN)],
        extra_environment={"UV_PYTHON": sys.executable, "PATH": "/usr/bin:/bin"},
    )
    shots = tmp_path / "shots"
    shots.mkdir()
    sentence, *ways = krita.run(notice_at_rest, limit=90)
    assert sentence.startswith("No backend yet")
    assert ways == ["install", "join", "choose"]
    visible, needs, folder, kind = krita.run(open_dialog)
    screenshot(krita.process.display, shots / "1-before.png")
    assert visible
    assert "GB will be downloaded" in needs
    assert folder == str(krita.profile.diffedit_home / "backend")
    assert kind == "cpu"
    assert krita.run(press_install, index=index)
    assert "goes on from there" in krita.run(cancel_in_the_middle, limit=400)
    screenshot(krita.process.display, shots / "2-cancelled.png")
    resumed = time.monotonic()
    assert krita.run(press_install, index=index)
    deadline = time.monotonic() + INSTALL_SECONDS
    seen = krita.run(progress)
    while seen["running"] or seen["link"] != "ready":
        assert time.monotonic() < deadline, seen
        if not seen["running"]:
            assert "is installed" in seen["state"], seen
        time.sleep(0.5)
        seen = krita.run(progress)
    installed = time.monotonic()
    screenshot(krita.process.display, shots / "3-installed.png")
    sample = next(sample for sample in samples() if sample.file == "apple-and-car.png")
    layers, problem = krita.run(
        edit,
        limit=EDIT_SECONDS + 60,
        picture=samples_folder() / sample.file,
        source=sample.source,
        target=sample.target,
        seconds=EDIT_SECONDS,
        path=tmp_path / "edited.kra",
    )
    assert len(layers) == 2, problem
    screenshot(krita.process.display, shots / "4-edited.png")
    assert Kra(tmp_path / "edited.kra").layers[0].name == layers[-1]
    figures = {
        "seconds in all": round(time.monotonic() - begun),
        "seconds of the installation after the cancel": round(installed - resumed),
    }
    (tmp_path / "figures.json").write_text(json.dumps(figures, indent=2))
    assert krita.run(stop_backend) == "stopped"
    krita.quit()
