"""Where Krita keeps a user's plugins and settings on each system, and what is put there: `pykrita/`, `actions/`, and
the protocol package inside the plugin.

What is written is the same tree that the plugin's zip for Krita's own importer holds.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import diffedit_protocol
from diffedit_protocol.errors import BadInputError

DEBIAN_PACKAGES = "krita xvfb python3-pyqt5 python3-pyqt5.sip python3-zmq python3-msgpack libqt5sql5-sqlite"
DEBIAN_TEST_PACKAGES = "xdotool imagemagick"


def resource_folder(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Krita's resource folder (*Manage Resources > Open Resource Folder*) of the user whose environment `environ` is.

    Plugins live in its `pykrita/`, their shortcuts in its `actions/`. Source: Krita's manual, "Resource Management".
    """
    if platform == "win32":
        return Path(environ["APPDATA"]) / "krita"
    if platform == "darwin":
        return Path(environ["HOME"]) / "Library" / "Application Support" / "krita"
    return Path(environ.get("XDG_DATA_HOME") or Path(environ["HOME"]) / ".local" / "share") / "krita"


def krita_program(path: str | None = None) -> Path:
    """The `krita` executable on `path` (as in PATH); without one, BadInputError says which packages to install."""
    found = shutil.which("krita", path=path)
    if found is None:
        raise BadInputError(
            "Krita is not installed here. On Debian or Ubuntu: "
            f"sudo apt-get install --no-install-recommends {DEBIAN_PACKAGES}",
        )
    return Path(found)


def needed_program(name: str, package: str, path: str | None = None) -> Path:
    """The program `name`; BadInputError names the Debian package that brings it."""
    found = shutil.which(name, path=path)
    if found is None:
        raise BadInputError(
            f"{name} is not installed here. On Debian or Ubuntu: sudo apt-get install --no-install-recommends {package}"
        )
    return Path(found)


PLUGIN = "diffedit"
_PACKAGE = Path(__file__).resolve().parents[1]
_NOT_CARRIED = shutil.ignore_patterns("__pycache__", "*.pyc")


def plugin_source() -> Path:
    """The folder that holds diffedit.desktop, diffedit.action and diffedit/: inside the wheel, or in the checkout."""
    for folder in (_PACKAGE / "krita_plugin", _PACKAGE.parents[1] / "krita_plugin"):
        if (folder / PLUGIN).is_dir():
            return folder
    raise BadInputError(f"This installation of krita-diffedit holds no Krita plugin (looked beside {_PACKAGE}).")


def install_plugin(resources: Path, source: Path | None = None, name: str = PLUGIN, vendor: bool = True) -> str:
    """Copies plugin `name` from `source` into the resource folder `resources`; returns the name to enable in kritarc.

    An older copy is replaced as a whole, so that no file of it stays behind. With `vendor`, the protocol package
    goes to `diffedit/_vendor/diffedit_protocol`, where the plugin finds it without an installed Python package.
    """
    source = plugin_source() if source is None else source
    if not (source / name).is_dir() or not (source / f"{name}.desktop").is_file():
        raise BadInputError(f"No Krita plugin {name!r} in {source}: {name}/ and {name}.desktop are needed.")
    pykrita = resources / "pykrita"
    pykrita.mkdir(parents=True, exist_ok=True)
    aside = pykrita / f".{name}-new"  # the older copy stays until this one is whole
    shutil.rmtree(aside, ignore_errors=True)
    try:
        shutil.copytree(source / name, aside, ignore=_NOT_CARRIED)
        if vendor:
            protocol = Path(diffedit_protocol.__file__).resolve().parent
            vendored = aside / "_vendor" / protocol.name
            shutil.rmtree(vendored, ignore_errors=True)
            shutil.copytree(protocol, vendored, ignore=_NOT_CARRIED)
        shutil.rmtree(pykrita / name, ignore_errors=True)
        aside.rename(pykrita / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    shutil.copy2(source / f"{name}.desktop", pykrita)
    if (source / f"{name}.action").is_file():
        (resources / "actions").mkdir(exist_ok=True)
        shutil.copy2(source / f"{name}.action", resources / "actions")
    return name
