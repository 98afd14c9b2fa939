"""The server's process: one loop over its sockets, its executor and its clock. It never runs a model itself.

Nothing in the loop waits for anything but the poll: workers are spoken to and results are written by threads.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import zmq
from diffedit_protocol.connection import OWN_NAME, Connection
from diffedit_protocol.errors import AuthError, BadInputError, BusyError
from diffedit_protocol.messages import Event
from diffedit_protocol.replies import ServerInfo
from diffedit_protocol.server_session import ServerSession

from ..executors.base import Executor
from .addresses import LOCAL_SOCKET, Address, has_local_socket
from .allow_list import AllowList
from .authenticator import Authenticator
from .client_connection import ClientConnections
from .hello_info import hello_info
from .job_table import JobTable
from .listener import Listener
from .results import Key, ResultStore
from .service import Service
from .settings import ServerSettings
from .state_folder import StateFolder
from .status import status_report, worker_status
from .uploads import Uploads

log = logging.getLogger("diffedit.server")
TICK_MS = 100  # also how fast a flood is noticed
STALLED_MS = 10  # between two attempts to send to a link that has no room
HOUSEKEEPING_SECONDS = 1.0  # also how fast a revoked client's links are cut
FINAL_SEND_SECONDS = 1.0  # for the clients to be told how their jobs ended
WORKERS_SECONDS = 10.0  # for workers to end after their jobs, before they are killed
STOPPED = "The backend was stopped. Start it again, then try again."


class Server:
    """One server. `serve` returns after `stop`; `close` then leaves nothing behind."""

    def __init__(self, settings: ServerSettings, executor: Executor) -> None:
        """Opens every address. Raises BadInputError or AuthError when that cannot be done, or not safely."""
        folder = StateFolder(settings.state)
        self.settings = settings
        self.executor = executor
        self.boot_id = secrets.token_hex(8)
        self.started = time.monotonic()
        self.allowed = AllowList(folder.allow_list)
        self.uploads = Uploads(settings.limits.blob_bytes, settings.limits.stored_bytes, settings.upload_bytes)
        self._server_keys = folder.server_keys()
        self._local_keys = folder.local_keys()
        self._allow_list_trouble = ""
        self._stop_reader, self._stop_writer = socket.socketpair()
        self._stop_requests = 0
        self._deadline = 0.0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.authenticator = Authenticator(self._context, self._admit)
        self.listener = Listener(self._context, self._server_keys, self._local_keys.public)
        try:
            for address in settings.listen:
                if address == LOCAL_SOCKET and has_local_socket():
                    self.listener.open_local(folder.socket_path())
                else:
                    self.listener.open_tcp(
                        Address("127.0.0.1", 0) if address == LOCAL_SOCKET else Address.parse(address)
                    )
            self.results = ResultStore(folder.results, settings.result_bytes, settings.disk_bytes)
        except BaseException:
            self._close_sockets()
            raise
        self.links = ClientConnections(self.listener, self._events_of, lambda: ServerSession(self.info()))
        self.jobs = JobTable(
            executor,
            self.uploads,
            self.results,
            self.links.announce,
            total=settings.queue,
            limits=settings.limits,
        )
        self._service = Service(self.links, self.uploads, self.results, self.jobs, settings, self.status)
        self.jobs.restore()

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(bound.endpoint for bound in self.listener.sockets)

    def name_of(self, public_key: str) -> str | None:
        """The name of a key that may enter, None for any other. This user's own clients are called OWN_NAME."""
        return OWN_NAME if public_key == self._local_keys.public else self.allowed.name_of(public_key)

    def info(self) -> ServerInfo:
        """What hello answers."""
        return hello_info(self.boot_id, self.settings, self.executor.workers())

    def local_connection(self) -> Connection:
        """How this user's own clients on this machine reach the server."""
        endpoint = self.endpoints[0]
        if endpoint.startswith("ipc://"):
            return Connection(endpoint, "", "", "", OWN_NAME)
        for anywhere, here in (("//0.0.0.0:", "//127.0.0.1:"), ("//*:", "//127.0.0.1:"), ("//[::]:", "//[::1]:")):
            endpoint = endpoint.replace(anywhere, here)
        own = self._local_keys
        return Connection(endpoint, self._server_keys.public, own.secret, own.public, OWN_NAME)

    def status(self, owner: str) -> dict[str, Any]:
        """The server's state, for people; who else is there is reported to this user's own clients only."""
        report = {
            "boot_id": self.boot_id,
            "uptime_seconds": round(time.monotonic() - self.started, 1),
            "models": [model.name for model in self.settings.models],
            "stopping": self.jobs.closing,
            "workers": worker_status(self.executor.workers()),
            "queue": {**self.jobs.status(), "most_waiting": self.settings.queue},
            "memory": {"uploads": self.uploads.size, **self.results.status()},
            "links": len(self.links),
        }
        if owner == self._local_keys.public:
            report["endpoints"] = list(self.endpoints)
            report["clients"] = [
                {"name": self.name_of(other) or "revoked", "links": count} for other, count in self.links.owners.items()
            ]
            report["gate"] = {**self.authenticator.status(), **self.listener.status()}
        return status_report(report)

    def serve(self, on_ready: Callable[[], None]) -> None:
        """Run until stopped. `on_ready` is called once, when a worker is ready for the first job.

        Raises the DiffEditError that makes every worker unusable, when that is found before the first was ready.
        """
        self.executor.start()
        poller = zmq.Poller()
        for bound in self.listener.sockets:
            poller.register(bound.socket, zmq.POLLIN)
            poller.register(bound.monitor, zmq.POLLIN)
        for other in (self.authenticator.socket, self.executor.fileno(), self._stop_reader.fileno()):
            poller.register(other, zmq.POLLIN)
        is_ready = False
        ticked = housekeeping = time.monotonic()
        while not self._over():
            ready = dict(poller.poll(STALLED_MS if self.links.behind else TICK_MS))
            self._turn(ready)
            if not is_ready and self.executor.room():
                is_ready = True
                on_ready()
            trouble = self.executor.trouble()
            if trouble is not None and not is_ready:
                raise trouble
            if trouble is not None:
                self.jobs.fail_queued(trouble)
            now = time.monotonic()
            if now - ticked >= TICK_MS / 1000:
                ticked = now
                self._tick()
            if now - housekeeping >= HOUSEKEEPING_SECONDS:
                housekeeping = now
                self._housekeep()

    def stop(self) -> None:
        """End soon; a second call ends at once. May be called from a signal handler or another thread."""
        self._stop_requests += 1
        with contextlib.suppress(OSError):
            self._stop_writer.send(b".")

    def close(self) -> None:
        """Tell clients how their jobs ended, end the workers, write what is unwritten, close every socket."""
        self.jobs.closing = True
        self.jobs.fail_queued(BusyError(STOPPED))
        self.jobs.fail_running(BusyError(STOPPED))
        until = time.monotonic() + FINAL_SEND_SECONDS
        while self.links.behind and time.monotonic() < until:
            time.sleep(STALLED_MS / 1000)
            self.links.flush()
        self.executor.close(0.0 if self._stop_requests > 1 else WORKERS_SECONDS)
        self.results.close()
        self._close_sockets()
        log.info("stopped")

    def _turn(self, ready: dict[Any, int]) -> None:
        """Everything that waits, once. `ready`: what the poll found readable."""
        if self.authenticator.socket in ready:
            self.authenticator.answer()
        for number, bound in enumerate(self.listener.sockets):
            if bound.monitor in ready:
                for descriptor in self.listener.watch(number):
                    self.links.disconnected(descriptor)
            if bound.socket in ready:
                for incoming in self.listener.receive(number):
                    link = self.links.of(incoming)
                    self._service.handle(link, link.session.receive(incoming.frames))
        if self.executor.fileno() in ready:
            self.jobs.on_reports(self.executor.poll())
        self.links.flush()

    def _tick(self) -> None:
        """What has to be looked at now and then."""
        self.jobs.on_reports(self.executor.poll())  # keeps the workers' time limits
        self.results.tidy()
        self.listener.flood_guard.check()

    def _over(self) -> bool:
        """Whether to end: asked to, and no job runs any more or the time for it is up."""
        if self._stop_requests and not self.jobs.closing:
            log.info("stopping", extra={"fields": {"running": self.jobs.running, "waiting": self.jobs.waiting}})
            self.jobs.closing = True
            self.jobs.fail_queued(BusyError(STOPPED))
            self._stop_reader.recv(1)
            self._deadline = time.monotonic() + self.settings.grace
        if not self.jobs.closing:
            return False
        return not self.jobs.running or self._stop_requests > 1 or time.monotonic() > self._deadline

    def _housekeep(self) -> None:
        self._refresh_allow_list()
        for owner in self.links.owners:
            if self.name_of(owner) is None:
                links = self.links.cut_owner(owner)
                self.jobs.drop_owner(owner)
                self.uploads.drop_owner(owner)
                log.info("revoked", extra={"fields": {"key": owner[:8], "links": links}})
        self.links.sweep()
        self.uploads.sweep()
        self.jobs.sweep(self.settings.limits.result_seconds)

    def _admit(self, public_key: str) -> str | None:
        """For the gate: an invitation counts from the moment that it is written."""
        self._refresh_allow_list()
        return self.name_of(public_key)

    def _refresh_allow_list(self) -> None:
        try:
            self.allowed.refresh()
        except (AuthError, BadInputError) as error:
            if error.sentence != self._allow_list_trouble:
                log.error("allow list refused: nobody from elsewhere enters", extra={"fields": {"why": error.sentence}})
            self._allow_list_trouble = error.sentence
        else:
            self._allow_list_trouble = ""

    def _events_of(self, key: Key) -> Sequence[Event]:
        return self.jobs.events_of(key)

    def _close_sockets(self) -> None:
        self.listener.close()
        self.authenticator.close()
        self._context.term()
        self._stop_reader.close()
        self._stop_writer.close()
