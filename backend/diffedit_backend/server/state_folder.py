"""The server's own folder: keys, the allow list, results, the log, and a lock so that only one server uses it."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from diffedit_protocol.connection import IPC_PATH_LIMIT, KeyPair
from diffedit_protocol.errors import BadInputError
from diffedit_protocol.private_files import data_folder, private_folder, read_private, write_private
from filelock import FileLock, Timeout
from zmq.error import ZMQError

HOLDER = "server.pid"


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
        if len(os.fsencode(path)) <= IPC_PATH_LIMIT:
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
        except (ValueError, ZMQError) as error:
            raise BadInputError(
                f"'{path}' holds no key ({path.stat().st_size} bytes). Put its copy back; or delete it, and a new key "
                "is made, with which every client has to be invited again."
            ) from error


class Lock:
    """Held while a server uses the folder. Raises BadInputError with the holder's pid when another one does.

    The system lets go of the lock when the process ends, however it does. The pid lies in a file beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._holder = path.with_name(HOLDER)
        self._lock = FileLock(path, timeout=0, mode=0o600)

    def __enter__(self) -> Lock:
        try:
            self._lock.acquire()
        except Timeout as error:
            try:
                holder = self._holder.read_text(encoding="ascii").strip()
            except (OSError, ValueError):
                holder = ""
            raise BadInputError(
                f"A backend is running already{f' (process {holder})' if holder else ''}: '{self._path}' is locked. "
                "Stop it, or give this one a folder of its own (--state)."
            ) from error
        with contextlib.suppress(OSError):  # a full disk: the lock is held all the same
            self._holder.write_text(str(os.getpid()), encoding="ascii")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._holder.unlink(missing_ok=True)
        self._lock.release()
