"""From nothing to an edit without a terminal: a Krita with an empty home and only the plugin's zip.

All of it by hand, with the mouse and the keys of a virtual screen, as a painter does it; clicks, keys, dialogs and
seconds are counted and kept beside the pictures. The index on loopback serves the real packages of this environment,
torch included, packed again; its address lies in the settings beforehand, where a painter has the public one.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from diffedit_backend.bundled import samples, samples_folder
from diffedit_backend.krita.plugin_zip import backend_wheel, build
from diffedit_krita_driver.display import screenshot
from diffedit_krita_driver.kra import Kra
from diffedit_krita_driver.remote import RemoteKrita
from diffedit_protocol.private_files import write_private

PLUGIN = "diffedit"
HERE = Path(__file__).parent
INSTALL_SECONDS, EDIT_SECONDS = 900.0, 300.0
IMPORT = ["Tools", "Scripts", "Import Python Plugin from File..."]
DOCKER = ["Settings", "Dockers", "DiffEdit"]


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
hands = beside(HERE / "hands.py")


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


def fill_screen(stage):
    """Krita's window over the whole screen, which has no window manager that would do it."""
    window = stage.window()
    window.setGeometry(window.screen().geometry())
    window.activateWindow()
    yield 0.5


def place_in_menu(stage, titles):
    """The middle of the last of `titles`; the menus before it are open. None where it is checked already."""
    yield 0.2
    holder = stage.window().menuBar()
    for title in titles:
        action = next(a for a in holder.actions() if a.text().replace("&", "") == title)
        found, holder = holder, action.menu()
    if action.isChecked():
        return None
    place = found.mapToGlobal(found.actionGeometry(action).center())
    return place.x(), place.y()


def place_of_tab(stage):
    """The middle of the docker's tab; None where nothing stands before the docker."""
    from diffedit.extension import DOCKER_ID
    from diffedit_driver.qt import QDockWidget, QTabBar

    yield 0.5
    if not stage.window().findChild(QDockWidget, DOCKER_ID).panel.visibleRegion().isEmpty():
        return None
    for bar in stage.window().findChildren(QTabBar):
        for index in range(bar.count()):
            if bar.isVisible() and bar.tabText(index).replace("&", "") == "DiffEdit":
                place = bar.mapToGlobal(bar.tabRect(index).center())
                return place.x(), place.y()
    raise AssertionError("The docker is not in sight, and has no tab.")


def place_in_file_dialog(stage, name):
    from diffedit_driver.qt import QFileDialog, QListView, QTreeView

    def dialog():
        return next((d for d in stage.dialogs() if isinstance(d, QFileDialog)), None)

    def found():
        views = [view for kind in (QListView, QTreeView) for view in dialog().findChildren(kind)]
        view = next(v for v in views if v.isVisible() and v.objectName() in ("listView", "treeView"))
        root = view.rootIndex()
        rows = [view.model().index(row, 0, root) for row in range(view.model().rowCount(root))]
        return next(((view, row) for row in rows if row.data() == name), None)

    yield lambda: dialog() is not None
    yield 0.3
    yield lambda: found() is not None
    view, row = found()
    view.scrollTo(row)
    yield 0.2
    place = view.viewport().mapToGlobal(view.visualRect(row).center())
    return place.x(), place.y()


def place_of_button(stage, *, text):
    """The middle of a button, by its text, of a dialog that is or comes up."""
    from diffedit_driver.qt import QPushButton

    def found():
        buttons = [button for dialog in stage.dialogs() for button in dialog.findChildren(QPushButton)]
        return next((b for b in buttons if b.isVisible() and b.isEnabled() and b.text().replace("&", "") == text), None)

    yield lambda: found() is not None
    yield 0.3
    place = found().mapToGlobal(found().rect().center())
    return place.x(), place.y()


def notice_at_rest(stage):
    from diffedit.extension import extension

    yield lambda: extension().app.session.notice is not None, 180
    notice = extension().app.session.notice
    return [notice.sentence, *notice.remedies]


def install_dialog(stage):
    from diffedit.extension import extension

    def found():
        return next((d for d in extension()._dialogs if type(d).__name__ == "InstallDialog"), None)

    yield lambda: found() is not None
    yield 0.3
    dialog = found()
    return [dialog.isVisible(), dialog.needs.text(), dialog.folder.text(), dialog.accelerator.currentData()]


def until_packages_come(stage):
    """ "" as soon as packages come; else why they do not."""
    from diffedit.extension import extension

    installer = extension().app.setup.installer
    yield lambda: any("Downloading" in line for line in installer.lines) or not installer.running, 1800
    return "" if installer.running else "\n".join(installer.lines)


def until_ended(stage):
    from diffedit.extension import extension

    dialog = next(d for d in extension()._dialogs if type(d).__name__ == "InstallDialog")
    yield lambda: not extension().app.setup.installer.running, 180
    return dialog.state.text()


def progress(stage):
    from diffedit.extension import extension

    app = extension().app
    dialog = next(d for d in extension()._dialogs if type(d).__name__ == "InstallDialog")
    yield 0
    return {"running": app.setup.installer.running, "state": dialog.state.text(), "link": app.link.state.kind}


def until_open(stage):
    yield lambda: stage.document is not None and stage.document.activeNode() is not None, 30
    yield 0.5


def fix_seed(stage):
    from diffedit.extension import extension

    extension().app.session.change_inputs(seed=41, seed_locked=True)
    yield 0


def until_edited(stage, seconds, path):
    from diffedit.extension import extension

    app = extension().app
    yield lambda: app.session.activity is not None or app.session.notice is not None
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


class Painter:
    """Does it by hand, and keeps count for each part of the way."""

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, int]] = {}

    def sit_at(self, krita: RemoteKrita) -> None:
        self.krita, self.hands = krita, hands.Hands(krita)
        krita.run(fill_screen)

    def begin(self, part: str) -> None:
        self._part = self.counts.setdefault(part, {"clicks": 0, "keys": 0, "dialogs": 0, "seconds": 0})
        self._before = self.hands.clicks, self.hands.keys, time.monotonic()

    def end(self, dialogs: int = 0) -> None:
        clicks, keys, begun = self._before
        self._part["clicks"] += self.hands.clicks - clicks
        self._part["keys"] += self.hands.keys - keys
        self._part["dialogs"] += dialogs
        self._part["seconds"] += round(time.monotonic() - begun)

    def choose(self, titles: list[str]) -> None:
        """An entry of a menu, a click for each level."""
        for depth in range(1, len(titles) + 1):
            place = self.krita.run(place_in_menu, titles=titles[:depth])
            assert place is not None, f"{titles[:depth]} is checked already"
            self.hands.click_at(place)

    def press(self, text: str) -> None:
        self.hands.click_at(self.krita.run(place_of_button, text=text))

    def bring_docker_up(self) -> None:
        """By Krita's menu where it is hidden, by its tab where another docker stands before it."""
        if self.krita.run(place_in_menu, titles=DOCKER) is not None:
            self.choose(DOCKER)
        if (tab := self.krita.run(place_of_tab)) is not None:
            self.hands.click_at(tab)

    def pick(self, name: str, button: str) -> None:
        """A file of the home, in the dialog for files."""
        self.hands.click_at(self.krita.run(place_in_file_dialog, name=name))
        self.press(button)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_from_the_zip_alone_to_an_edit_without_a_terminal(
    index: str, start_krita: Callable[..., RemoteKrita], display: str, tmp_path: Path
) -> None:
    shots = tmp_path / "shots"
    shots.mkdir()
    sample = next(sample for sample in samples() if sample.file == "apple-and-car.png")
    painter = Painter()

    first = start_krita(plugins=[])
    home = first.profile.root / "home"
    archive = build(tmp_path / "dist")
    shutil.copy(archive, home)
    shutil.copy(samples_folder() / sample.file, home)
    mirrors = {"settings": {"index_url": index, "torch_index_url": index}}
    write_private(first.profile.diffedit_home / "plugin.json", json.dumps(mirrors))
    painter.sit_at(first)
    painter.begin("import")
    painter.choose(IMPORT)
    painter.hands.click_at(first.run(place_in_file_dialog, name=archive.name))
    screenshot(display, shots / "1-import.png")
    painter.press("Open")
    place = first.run(place_of_button, text="Yes")
    screenshot(display, shots / "2-enable.png")
    painter.hands.click_at(place)
    painter.end(dialogs=2)
    first.quit()
    assert f"enable_{PLUGIN}=true" in (first.profile.root / "config" / "kritarc").read_text()

    begun = time.monotonic()
    krita = RemoteKrita(
        first.profile,
        display,
        extra_environment={"UV_PYTHON": str(Path(sys.executable).resolve()), "PATH": "/usr/bin:/bin"},
        look=None,
    )
    with krita:
        painter.sit_at(krita)
        painter.begin("open")  # first: from 5.2 on Krita shows no docker before
        painter.counts["open"]["seconds"] = round(time.monotonic() - begun)  # Krita's start
        painter.choose(["File", "Open..."])
        painter.pick(sample.file, "Open")
        krita.run(until_open)
        krita.run(fill_screen)  # no window manager gives the keys back to it when a dialog is closed
        painter.end(dialogs=1)
        painter.begin("docker")
        painter.bring_docker_up()
        painter.end()
        sentence, *ways = krita.run(notice_at_rest)
        assert sentence.startswith("No backend yet")
        assert ways == ["install", "join", "choose"]

        painter.begin("install")
        painter.hands.click("notice.buttons.install")
        visible, needs, folder, kind = krita.run(install_dialog)
        screenshot(display, shots / "3-before.png")
        assert visible
        assert "GB will be downloaded" in needs
        assert folder == str(krita.profile.diffedit_home / "backend")
        assert kind == "cpu"
        painter.press("Install")
        painter.end(dialogs=1)

        painter.begin("cancel in the middle")
        assert krita.run(until_packages_come, limit=320) == ""
        painter.press("Cancel")
        assert "goes on from there" in krita.run(until_ended)
        screenshot(display, shots / "4-cancelled.png")
        painter.press("Install")
        painter.end()

        painter.begin("install")
        deadline = time.monotonic() + INSTALL_SECONDS
        seen = krita.run(progress)
        while seen["running"] or seen["link"] != "ready":
            assert time.monotonic() < deadline, seen
            if not seen["running"]:
                assert "is installed" in seen["state"], seen
            time.sleep(0.5)
            seen = krita.run(progress)
        screenshot(display, shots / "5-installed.png")
        painter.press("Close")
        painter.end()

        painter.begin("edit")
        krita.run(fill_screen)
        krita.run(fix_seed)
        painter.hands.click("source.edit")
        painter.hands.type(sample.source)
        painter.hands.key("Tab")
        painter.hands.type(sample.target)
        painter.hands.key("Return")
        edited = {"seconds": EDIT_SECONDS, "path": tmp_path / "edited.kra"}
        layers, problem = krita.run(until_edited, limit=EDIT_SECONDS + 60, **edited)
        assert len(layers) == 2, problem
        painter.end()
        screenshot(display, shots / "6-edited.png")
        assert Kra(tmp_path / "edited.kra").layers[0].name == layers[-1]
        (tmp_path / "counts.json").write_text(json.dumps(painter.counts, indent=2))
        print(json.dumps(painter.counts))
        assert krita.run(stop_backend) == "stopped"
        krita.quit()
