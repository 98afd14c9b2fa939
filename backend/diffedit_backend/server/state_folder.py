"""The server's own folder: keys, the allow list, results, the log, and a lock so that only one server uses it."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from diffedit_protocol.connection import IPC_PATH_LIMIT, KeyPair
from diffedit_protocol.errors import BadInputError
from diffedit_protocol.private_files import POSIX, data_folder, private_folder, read_private, write_private

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


@dataclass(frozen=True)
class StateFolder:
    """Paths below `root`, which is private (mode 0700). Raises AuthError when others may enter it."""

    root: Path

    @classmethod
    def default(cls) -> StateFolder:
        """Below the user's data folder."""
        return cls(data_folder() / "server")

    def __post_init__(self) -> None:
        if self.root.parent == data_folder():  # another's place, such as /srv, may be open: the folder itself is not
            private_folder(self.root.parent)
        private_folder(self.root)

    @property
    def allow_list(self) -> Path:
        return self.root / "clients"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def log(self) -> Path:
        return self.root / "server.log"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    def server_keys(self) -> KeyPair:
        """The key pair that clients know this server by; made on first use."""
        return self._keys("server.key")

    def local_keys(self) -> KeyPair:
        """The key pair of this user's own clients on this machine; made on first use."""
        return self._keys("local.key")

    def socket_path(self) -> Path:
        """A path for the local socket in a folder that only this user may enter; short enough for a socket.

        The folder is new: a socket that another process left or holds is never taken over.
        """
        path = self.root / "run" / f"{secrets.token_hex(4)}.sock"
        if len(str(path)) <= IPC_PATH_LIMIT:
            private_folder(path.parent)
            for stale in path.parent.glob("*.sock"):
                stale.unlink()  # of a server that was killed: the lock says that none is running
            return path
        return Path(tempfile.mkdtemp(prefix="diffedit-")) / path.name

    def _keys(self, name: str) -> KeyPair:
        path = self.root / name
        try:
            return KeyPair.from_secret(read_private(path).strip())
        except FileNotFoundError:
            keys = KeyPair.generate()
            write_private(path, keys.secret + "\n")
            return keys


class Lock:
    """Held while a server uses the folder. Raises BadInputError with the holder's pid when another one does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> Lock:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        file = os.fdopen(handle, "r+")
        try:
            if sys.platform == "win32":
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            with file:
                holder = file.read().strip() if POSIX else ""
            raise BadInputError(
                f"A backend is running already{f' (process {holder})' if holder else ''}: '{self._path}' is locked. "
                "Stop it, or give this one a folder of its own (--state)."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.close()  # the system lets go of the lock with the file, even when the process is killed
