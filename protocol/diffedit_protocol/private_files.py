"""The user's data folder, and files in it that only the user may read."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from pathlib import Path

from .errors import AuthError

POSIX = os.name == "posix"  # elsewhere the user's profile folder is private by its access list


def data_folder() -> Path:
    """Where keys and the connection file lie: $DIFFEDIT_HOME, or `diffedit` in the user's data folder."""
    if "DIFFEDIT_HOME" in os.environ:
        return Path(os.environ["DIFFEDIT_HOME"])
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", Path.home() / "AppData" / "Roaming")) / "diffedit"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "diffedit"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "diffedit"


def private_folder(path: Path) -> Path:
    """Makes `path` with mode 0700 where it is missing. Raises AuthError when others may enter it or own it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private(path, 0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Puts `text` in place of the file `path`, whole or not at all, with mode 0600 from its first byte on."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def read_private(path: Path) -> str:
    """The text of `path`. Raises FileNotFoundError, or AuthError when others may read it or own it."""
    check_private(path, 0o600)
    return path.read_text(encoding="utf-8")


def check_private(path: Path, widest: int) -> None:
    """Raises AuthError when the mode of `path` is wider than `widest` (0o600 or 0o700), or another user owns it."""
    if not POSIX:
        return
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.getuid():
        raise AuthError(f"'{path}' belongs to another user, so it is not trusted. Delete it, or choose another folder.")
    if mode & ~widest:
        raise AuthError(
            f"Others can open '{path}' (mode {mode:04o}), so it is not used. Make it private: chmod {widest:o} '{path}'"
        )
