"""The keys that may enter: a private text file with one client per line, read again whenever it changed.

    NAME  PUBLIC-KEY in base64url  when it was invited, ISO 8601

Deleting a line, by `diffedit revoke` or in an editor, revokes the key. No secret of a client is ever stored here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from diffedit_protocol.connection import OWN_NAME, Connection, key_from_base64url, key_to_base64url
from diffedit_protocol.errors import BadInputError
from diffedit_protocol.private_files import check_private, read_private, write_private

_NAME = re.compile(r"[\w.@+-]{1,64}")
HEADER = "# Clients that may enter: NAME PUBLIC-KEY SINCE. Deleting a line revokes the key.\n"


@dataclass(frozen=True)
class Invited:
    """One client that may enter; `public_key` in Z85, `since` as ISO 8601."""

    name: str
    public_key: str
    since: str


class AllowList:
    """The file at `path`; a missing file is an empty list. Raises AuthError when others may read or write it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._clients: tuple[Invited, ...] = ()
        self.refresh()

    @property
    def clients(self) -> tuple[Invited, ...]:
        """Everyone invited, in the order of their invitation."""
        return self._clients

    def name_of(self, public_key: str) -> str | None:
        """The name of the client with this key in Z85; None when it may not enter."""
        return next((client.name for client in self._clients if client.public_key == public_key), None)

    def refresh(self) -> bool:
        """Read the file again if it changed. Whether it did. Raises AuthError, BadInputError with the line's number."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            stamp = None
        else:
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        if stamp == self._seen:
            return False
        self._clients = ()  # should the file be refused now, nobody on it enters
        if stamp is not None:
            self._clients = self._read()
        self._seen = stamp
        return True

    def invite(self, name: str, endpoint: str, server_key: str) -> Connection:
        """Let a new client in; returns its connection, whose secret key is kept nowhere else.

        Raises BadInputError for a name that is taken, is that of the machine's own programs, or is not made of letters,
        digits and `. _ - + @`.
        """
        if not _NAME.fullmatch(name):
            raise BadInputError(f"A client's name is 1 to 64 letters, digits and . _ - + @, not {name!r:.80}.")
        if name == OWN_NAME:
            raise BadInputError(f"{name!r} is the name of this machine's own programs. Choose another one.")
        self.refresh()
        if any(client.name == name for client in self._clients):
            raise BadInputError(
                f"There is a client {name!r} already. Choose another name, or revoke it first: diffedit revoke {name}"
            )
        connection = Connection.invite(endpoint, server_key, name)
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._write((*self._clients, Invited(name, connection.client_public, since)))
        return connection

    def revoke(self, name: str) -> Invited:
        """Take the client's key off the list. Raises BadInputError when there is none of that name."""
        self.refresh()
        for client in self._clients:
            if client.name == name:
                self._write(tuple(other for other in self._clients if other.name != name))
                return client
        names = ", ".join(client.name for client in self._clients) or "nobody"
        raise BadInputError(f"There is no client {name!r} to revoke. Invited: {names}.")

    def _read(self) -> tuple[Invited, ...]:
        clients = []
        for number, line in enumerate(read_private(self._path).splitlines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            try:
                name, key, since = words
                clients.append(Invited(name, key_from_base64url(key), since))
            except (ValueError, BadInputError) as error:
                raise BadInputError(
                    f"Line {number} of '{self._path}' is not 'NAME KEY SINCE'. Correct or delete it."
                ) from error
        return tuple(clients)

    def _write(self, clients: tuple[Invited, ...]) -> None:
        if self._path.exists():
            check_private(self._path, 0o600)
        lines = [f"{client.name} {key_to_base64url(client.public_key)} {client.since}\n" for client in clients]
        write_private(self._path, HEADER + "".join(lines))
        self.refresh()
