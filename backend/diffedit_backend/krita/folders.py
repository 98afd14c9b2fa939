"""Where Krita keeps a user's plugins and settings on each system."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

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
