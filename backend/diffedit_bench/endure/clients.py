"""The honest side: artists whose every result is checked to the last byte, over links that can be cut."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from dataclasses import dataclass, field

from diffedit_protocol.blobs import pack_picture
from diffedit_protocol.client import Client, Timeouts
from diffedit_protocol.connection import Connection
from diffedit_protocol.errors import DiffEditError
from diffedit_protocol.messages import Done, EditRequest, Failed
from diffedit_protocol.requests import new_job_id

SIDE = 256  # px
PAUSE_SECONDS = 1.0  # between two edits of an artist
JOB_SECONDS = 120.0  # after which a job counts as lost
PATIENT = Timeouts(connect=30.0, answer=30.0, lost=120.0)
RELAY_BYTES = 64 * 1024


class Relay:
    """A TCP connection's way through this process, which can be cut. `connection` leads through it."""

    def __init__(self, connection: Connection) -> None:
        self._server = connection.address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: set[socket.socket] = set()
        port = self._listener.getsockname()[1]
        self.connection = Connection(
            f"tcp://127.0.0.1:{port}",
            connection.server_key,
            connection.client_secret,
            connection.client_public,
            connection.name,
        )
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection; later ones are carried again."""
        for end in list(self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            try:
                server = socket.create_connection(self._server, 5.0)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for source, sink in ((client, server), (server, client)):
                self._ends.add(source)
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(RELAY_BYTES):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.discard(source)
        source.close()


@dataclass
class Tally:
    """What became of the edits. `mixed`: results with other pixels than were sent; `lost`: no end in time."""

    done: int = 0
    retried: int = 0
    lost: int = 0
    mixed: int = 0
    errors: dict[str, int] = field(default_factory=dict)

    def error(self, code: str) -> None:
        self.errors[code] = self.errors.get(code, 0) + 1


class Artist(threading.Thread):
    """Edits one picture after the other, each of random pixels, until told to stop; an edit whose worker died is
    submitted again, as the plugin's user would."""

    def __init__(self, relay: Relay) -> None:
        super().__init__(daemon=True)
        self.relay = relay
        self.tally = Tally()
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                with Client(self.relay.connection, PATIENT, software="endure artist") as client:
                    while not self.stop.wait(PAUSE_SECONDS):
                        self._edit(client)
            except DiffEditError as error:
                self.tally.error(error.code)
                self.stop.wait(PAUSE_SECONDS)

    def _edit(self, client: Client) -> None:
        pixels = os.urandom(SIDE * SIDE * 3)
        picture, blob = pack_picture(pixels, SIDE, SIDE, 3)
        request = EditRequest("steps=5 pause=0.02", "", picture=picture, preview=True)
        job, until = new_job_id(), time.monotonic() + JOB_SECONDS
        while time.monotonic() < until:
            try:
                if self._finish(client, request, {picture.blob: blob}, job, pixels):
                    return
                job = new_job_id()
                self.tally.retried += 1
            except DiffEditError as error:  # the same job again: the server knows it
                self.tally.error(error.code)
                time.sleep(PAUSE_SECONDS)
        self.tally.lost += 1

    def _finish(self, client: Client, request: EditRequest, blobs: dict[str, bytes], job: str, pixels: bytes) -> bool:
        """Whether the job is done; False when it has to be submitted as a new one."""
        client.submit(request, blobs, job)
        for event in client.events(job):
            if isinstance(event, Done):
                mask = event.manifest.mask
                same = client.fetch(event.manifest.edits[0].pixels) == pixels
                same = same and mask is not None and client.fetch(mask) == pixels[::3]
                client.ack(job)
                self.tally.done += 1
                self.tally.mixed += not same
                return True
            if isinstance(event, Failed):
                self.tally.error(event.error.code)
                return False
        return False
