"""The keys that may enter: a private text file with one client per line, read again whenever it changed.

    NAME  PUBLIC-KEY in base64url  when it was invited, ISO 8601  [until when it may enter, ISO 8601]

Deleting a line, by `diffedit revoke` or in an editor, revokes the key. No secret of a client is ever stored here.
Programs that change the file hold a lock meanwhile, so that none of two changes is lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from diffedit_protocol.connection import OWN_NAME, Connection, key_from_base64url, key_to_base64url
from diffedit_protocol.errors import BadInputError, name_list
from diffedit_protocol.private_files import check_private, read_private, write_private
from filelock import FileLock, Timeout

_NAME = re.compile(r"[\w.@+-]{1,64}")
LOCK, LOCK_SECONDS = "clients.lock", 20.0
HEADER = "# Clients that may enter: NAME PUBLIC-KEY SINCE. Deleting a line revokes the key.\n"


@dataclass(frozen=True)
class Invited:
    """One client that may enter; `public_key` in Z85, `since` and `until` as ISO 8601, "" for no end."""

    name: str
    public_key: str
    since: str
    until: str = ""

    @property
    def expired(self) -> bool:
        return bool(self.until) and datetime.now(timezone.utc) >= datetime.fromisoformat(self.until)


class AllowList:
    """The file at `path`; a missing file is an empty list. Raises AuthError when others may read or write it.

    `complete`: the file was there, private and well-formed when it was read last. Only then is a key that it lacks one
    that was revoked: an editor empties or moves a file for a moment while it saves.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._clients: tuple[Invited, ...] = ()
        self.complete = False
        self.refresh()

    @property
    def clients(self) -> tuple[Invited, ...]:
        """Everyone invited, in the order of their invitation."""
        return self._clients

    def name_of(self, public_key: str) -> str | None:
        """The name of the client with this key in Z85; None when it may not enter."""
        found = next((client for client in self._clients if client.public_key == public_key), None)
        return found.name if found is not None and not found.expired else None

    def lists(self, public_key: str) -> bool:
        """Whether the key is on the list, though its time may be over: then it does not enter, and keeps its work."""
        return any(client.public_key == public_key for client in self._clients)

    def refresh(self) -> bool:
        """Read the file again if it changed. Whether it did. Raises AuthError, BadInputError with the line's number."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            stamp = None
        else:
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode, found.st_uid)
        if stamp == self._seen:
            return False
        try:
            clients = self._read() if stamp is not None else ()
        except FileNotFoundError:
            return False  # in this moment: looked at again soon
        except OSError as error:  # no descriptor left, a disk that fails: what was known stays true meanwhile
            raise BadInputError(f"'{self._path}' cannot be read now: {error.strerror}.") from error
        except BaseException:
            self._clients, self.complete = (), False  # nobody on a file that is refused enters
            raise
        self._clients, self._seen = clients, stamp
        self.complete = stamp is not None and found.st_size > 0
        return True

    def invite(
        self, name: str, endpoint: str, server_key: str, *, days: float | None = None, again: bool = False
    ) -> Connection:
        """Let a new client in; returns its connection, whose secret key is kept nowhere else.

        `days`: for so long, None for good. `again`: a client of that name gets a new key in place of its old one.
        Raises BadInputError for a name that is taken, is that of the machine's own programs, or is not made of letters,
        digits and `. _ - + @`.
        """
        if not _NAME.fullmatch(name):
            raise BadInputError(f"A client's name is 1 to 64 letters, digits and . _ - + @, not {name!r:.80}.")
        if name == OWN_NAME:
            raise BadInputError(f"{name!r} is the name of this machine's own programs. Choose another one.")
        with self._locked():
            if any(client.name == name for client in self._clients) and not again:
                raise BadInputError(
                    f"There is a client {name!r} already. Choose another name, give it a new key with --again, or "
                    f"revoke it: diffedit revoke {name}"
                )
            connection = Connection.invite(endpoint, server_key, name)
            now = datetime.now(timezone.utc)
            until = "" if days is None else (now + timedelta(days=days)).isoformat(timespec="seconds")
            invited = Invited(name, connection.client_public, now.isoformat(timespec="seconds"), until)
            self._write((*(client for client in self._clients if client.name != name), invited))
        return connection

    def revoke(self, name: str) -> Invited:
        """Take the client's key off the list. Raises BadInputError when there is none of that name."""
        with self._locked():
            for client in self._clients:
                if client.name == name:
                    self._write(tuple(other for other in self._clients if other.name != name))
                    return client
        names = name_list(client.name for client in self._clients) or "nobody"
        raise BadInputError(f"There is no client {name!r} to revoke. Invited: {names}.")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Read the file, and let no other program change it until the block ends."""
        lock = FileLock(self._path.with_name(LOCK), timeout=LOCK_SECONDS, mode=0o600)
        try:
            lock.acquire()
        except Timeout as error:
            raise BadInputError(
                f"Another program has been changing '{self._path}' for {LOCK_SECONDS:.0f} s. Try again."
            ) from error
        except OSError as error:
            raise BadInputError(f"'{self._path}' cannot be changed: {error.strerror}.") from error
        try:
            self._seen = None
            self.refresh()
            yield
        finally:
            lock.release()

    def _read(self) -> tuple[Invited, ...]:
        """Raises AuthError, BadInputError, OSError."""
        clients = []
        try:
            lines = read_private(self._path).splitlines()
        except UnicodeDecodeError as error:
            raise BadInputError(
                f"'{self._path}' is no UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}. Correct it."
            ) from error
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            try:
                name, key, since, *until = words
                clients.append(Invited(name, key_from_base64url(key), since, _time(*until)))
            except (ValueError, TypeError, BadInputError) as error:
                raise BadInputError(
                    f"Line {number} of '{self._path}' is not 'NAME KEY SINCE [UNTIL]'. Correct or delete it."
                ) from error
        return tuple(clients)

    def _write(self, clients: tuple[Invited, ...]) -> None:
        if self._path.exists():
            check_private(self._path, 0o600)
        lines = [
            " ".join((client.name, key_to_base64url(client.public_key), client.since, client.until)).rstrip() + "\n"
            for client in clients
        ]
        text = HEADER + "".join(lines)
        try:
            write_private(self._path, text)
        except OSError as error:
            if not self._overwrite(text):
                raise BadInputError(f"'{self._path}' cannot be written: {error.strerror}.") from error
        self.refresh()

    def _overwrite(self, text: str) -> bool:
        """Write into the file as it is, which needs no room where the text is shorter: on a full disk a key can still
        be revoked. Whether that was possible."""
        data = text.encode()
        try:
            if self._path.stat().st_size < len(data):
                return False
            with open(self._path, "r+b") as file:
                file.write(data)
                file.truncate()
        except OSError:
            return False
        return True


def _time(text: str = "") -> str:
    """Raises ValueError, TypeError for what is no ISO 8601 time with its zone."""
    if text and datetime.fromisoformat(text).tzinfo is None:
        raise ValueError(f"{text!r} names no zone")
    return text
