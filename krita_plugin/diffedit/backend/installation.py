"""The backend that the plugin installed by itself: where it lies, which environment is in use, how large it is.

    FOLDER/current              the name of the environment in use
    FOLDER/environments/NAME/   a Python environment each; NAME is VERSION-ACCELERATOR-NUMBER
    FOLDER/tools/               uv, the installer
    FOLDER/downloads/           uv's cache, so that an installation that was cancelled goes on where it was
    FOLDER/install.log          what the last installation printed

An environment is never changed in place: a new one is made beside it, `current` is switched, and the old one is deleted
after the first good start of the new one. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from diffedit_protocol.private_files import data_folder

PROGRAM = "diffedit.exe" if sys.platform == "win32" else "diffedit"
_BINARIES = "Scripts" if sys.platform == "win32" else "bin"


class Installation:
    """The files of an installed backend in `folder`, by default `backend` in the user's data folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = data_folder() / "backend" if folder is None else folder

    @property
    def environments(self) -> Path:
        return self.folder / "environments"

    @property
    def tools(self) -> Path:
        return self.folder / "tools"

    @property
    def downloads(self) -> Path:
        return self.folder / "downloads"

    @property
    def log(self) -> Path:
        return self.folder / "install.log"

    def current(self) -> Path | None:
        """The environment in use; None where none is installed or the one that is named is gone."""
        try:
            name = (self.folder / "current").read_text(encoding="utf-8").strip()
        except OSError:
            return None
        environment = self.environments / name
        return environment if name and environment.is_dir() else None

    def program(self) -> Path | None:
        """The `diffedit` of the environment in use; None where there is none, or it is damaged."""
        environment = self.current()
        if environment is None:
            return None
        program = program_in(environment)
        return program if program.is_file() else None

    def version(self) -> str:
        """The version that is installed, "" where none is."""
        environment = self.current()
        return environment.name.partition("-")[0] if environment is not None else ""

    def accelerator(self) -> str:
        """What the installed version computes on ("cpu", "cuda", ...), "" where none is installed."""
        environment = self.current()
        return environment.name.split("-")[1] if environment is not None else ""

    def next_environment(self, version: str, accelerator: str) -> Path:
        """Where to install: an unfinished environment of the same kind is gone on with, else a new one is begun."""
        in_use = self.current()
        for number in range(1, 1000):
            environment = self.environments / f"{version}-{accelerator}-{number}"
            if environment != in_use and (not environment.exists() or (environment / "unfinished").exists()):
                return environment
        raise OSError(f"{self.environments} holds a thousand environments; delete some.")

    def switch(self, environment: Path) -> None:
        """Makes `environment` the one in use, whole or not at all."""
        beside = self.folder / "current.new"
        with beside.open("w", encoding="utf-8") as file:
            file.write(f"{environment.name}\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.folder / "current")

    def delete_old(self) -> int:
        """Deletes every environment but the one in use, after a good start of that one. Returns how many went."""
        in_use = self.current()
        if in_use is None or not self.environments.is_dir():
            return 0
        old = [path for path in self.environments.iterdir() if path.is_dir() and path != in_use]
        for path in old:
            _delete(path)
        return len(old)

    def size(self) -> int:
        """Bytes on the disk, hard links counted once."""
        return sum(_sizes(self.folder))

    def remove(self) -> None:
        """Deletes everything of it, the folder itself included. Models, keys and settings lie elsewhere and stay."""
        if self.folder.is_dir():
            (self.folder / "current").unlink(missing_ok=True)  # from here on nobody starts it
            _delete(self.folder)


def program_in(environment: Path) -> Path:
    """The command `diffedit` of an environment."""
    return environment / _BINARIES / PROGRAM


def python_in(environment: Path) -> Path:
    """The Python of an environment."""
    return environment / _BINARIES / ("python.exe" if sys.platform == "win32" else "python")


def _sizes(folder: Path) -> list[int]:
    seen: set[tuple[int, int]] = set()
    sizes: list[int] = []
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(place, name))
            except OSError:
                continue  # deleted meanwhile
            key = (status.st_dev, status.st_ino)
            if not stat.S_ISREG(status.st_mode) or (status.st_nlink > 1 and status.st_ino and key in seen):
                continue
            seen.add(key)
            sizes.append(status.st_size)
    return sizes


def _delete(folder: Path) -> None:
    """Deletes a folder; a file that is write-protected (as on Windows) is made writable first."""

    def writable_again(function: Callable[[str], object], path: str, _: object) -> None:
        os.chmod(path, stat.S_IWRITE)
        function(path)

    if sys.version_info >= (3, 12):
        shutil.rmtree(folder, onexc=writable_again)
    else:
        shutil.rmtree(folder, onerror=writable_again)
