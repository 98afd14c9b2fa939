"""The server's process: one loop over its sockets, its executor and its clock. It never runs a model itself.

Nothing in the loop waits for anything but the poll: workers are spoken to and results are written by threads. Every
message and every piece of housekeeping is guarded on its own: what fails is logged and left behind.
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
from .dispatcher import Dispatcher, Offload
from .faults import FaultLog
from .hello_info import AdapterFolder, hello_info
from .job_table import JobTable, owner_prefix
from .listener import Incoming, Listener
from .loop_times import LoopTimes
from .monitoring import Monitoring, metrics_address, status_report, worker_status
from .results import Key, ResultStore
from .service import Service
from .service_manager import ServiceManager
from .settings import ServerSettings
from .state_folder import StateFolder
from .uploads import Uploads

log = logging.getLogger("diffedit.server")
TICK_MS = 100  # also how fast a flood is noticed
STALLED_MS = 10  # between two attempts to send to a link that has no room
HOUSEKEEPING_SECONDS = 1.0  # also how fast a revoked client's links are cut
REVOKED_SECONDS = 5.0  # that the allow list must lack a key before the work of its client is deleted
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
        self._offload = Offload(self._wake)
        self.uploads = Uploads(settings.limits.blob_bytes, settings.limits.stored_bytes, settings.upload_bytes)
        self._server_keys = folder.server_keys()
        self._local_keys = folder.local_keys()
        self._allow_list_trouble = ""
        self._missing: dict[str, float] = {}  # since when the allow list has lacked a key that has something here
        self._times = LoopTimes()
        self._faults = FaultLog(self._times)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
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
            if settings.sandboxes and not self._loopback():
                self.listener.open_tcp(Address("127.0.0.1", 0))
            self.monitoring = Monitoring(metrics_address(settings.metrics)) if settings.metrics else None
            self.results = ResultStore(folder.results, settings.result_bytes, settings.disk_bytes, self._wake)
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
            local_owner=self._local_keys.public,
        )
        self._manager = ServiceManager()
        self._adapters = AdapterFolder(settings.adapters)
        service = Service(self.links, self.uploads, self.results, self.jobs, settings, self.status)
        self._dispatcher = Dispatcher(service, self.links, self._offload)
        self.jobs.restore()

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(bound.endpoint for bound in self.listener.sockets)

    def name_of(self, public_key: str) -> str | None:
        """The name of a key that may enter, None for any other. This user's own clients are called OWN_NAME."""
        return OWN_NAME if public_key == self._local_keys.public else self.allowed.name_of(public_key)

    def info(self) -> ServerInfo:
        """What hello answers."""
        return hello_info(self.boot_id, self.settings, self.executor.workers(), self._adapters.now())

    def local_connection(self) -> Connection:
        """How this user's own clients on this machine reach the server."""
        endpoint = self.endpoints[0]
        if endpoint.startswith("ipc://"):
            return Connection(endpoint, "", "", "", OWN_NAME)
        return self._own_connection(endpoint)

    def sandbox_connection(self) -> Connection:
        """How this user's own sandboxed Kritas reach the server: over loopback, with the keys of local clients."""
        return self._own_connection(self._loopback())

    def _loopback(self) -> str:
        """An endpoint that can be reached over loopback, "" where there is none."""
        reachable = ("tcp://127.0.0.1:", "tcp://0.0.0.0:", "tcp://*:")
        return next((endpoint for endpoint in self.endpoints if endpoint.startswith(reachable)), "")

    def _own_connection(self, endpoint: str) -> Connection:
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
            "workers": self._worker_status(owner),
            "faults": self._faults.count,
            "loop": self._times.status(),
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

    def _worker_status(self, owner: str) -> list[dict[str, Any]]:
        """A job's id is reported to its own client, and to this user's programs."""
        workers = worker_status(self.executor.workers())
        own = owner_prefix(owner)
        for worker in workers:
            if owner != self._local_keys.public and not str(worker["job"]).startswith(own):
                worker["job"] = "another client's" if worker["job"] else ""
        return workers

    def serve(self, on_ready: Callable[[], None]) -> None:
        """Run until stopped. `on_ready` is called once, when a worker is ready for the first job.

        Raises the DiffEditError that makes every worker unusable, when that is found before the first was ready.
        """
        self.executor.start()
        poller = zmq.Poller()
        for bound in self.listener.sockets:
            poller.register(bound.socket, zmq.POLLIN)
            poller.register(bound.monitor, zmq.POLLIN)
        for other in (self.authenticator.socket, self.executor.fileno(), self._wake_reader.fileno()):
            poller.register(other, zmq.POLLIN)
        is_ready = False
        ticked = housekeeping = time.monotonic()
        while not self._over():
            ready = dict(poller.poll(STALLED_MS if self.links.behind else TICK_MS))
            self._times.begin()
            self._turn(ready)
            if not is_ready and self.executor.free_slots():
                is_ready = True
                on_ready()
                self._manager.ready()
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
            self._times.end()

    def stop(self) -> None:
        """End soon; a second call ends at once. May be called from a signal handler or another thread."""
        self._stop_requests += 1
        self._wake()

    def close(self) -> None:
        """Tell clients how their jobs ended, end the workers, write what is unwritten, close every socket."""
        self._manager.stopping()
        self.jobs.closing = True
        self.jobs.fail_queued(BusyError(STOPPED))
        self.jobs.fail_running(BusyError(STOPPED))
        until = time.monotonic() + FINAL_SEND_SECONDS
        while self.links.behind and time.monotonic() < until:
            time.sleep(STALLED_MS / 1000)
            self.links.flush()
        self.executor.close(0.0 if self._stop_requests > 1 else WORKERS_SECONDS)
        self.results.close()
        self._offload.close()
        self._adapters.close()
        if self.monitoring is not None:
            self.monitoring.close()
        self._close_sockets()
        log.info("stopped")

    def _turn(self, ready: dict[Any, int]) -> None:
        """Everything that waits, once. `ready`: what the poll found readable."""
        guard = self._faults.guard
        if self.authenticator.socket in ready:
            guard("authentication", self.authenticator.answer)
        for number, bound in enumerate(self.listener.sockets):
            guard("connections", self._watch, number)  # before its messages: descriptors are used again
            if bound.socket in ready:
                for incoming in self.listener.receive(number):
                    guard("message", self._handle, incoming)
        if self.executor.fileno() in ready:
            guard("workers", self._poll_workers)
        if self._wake_reader.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                while self._wake_reader.recv(4096):
                    pass
            guard("results", self._tidy_results)
            for step in self._offload.finish():
                guard("offloaded", step)
        guard("sending", self.links.flush)

    def _watch(self, number: int) -> None:
        for descriptor in self.listener.watch(number):
            self.links.disconnected(descriptor)

    def _handle(self, incoming: Incoming) -> None:
        link = self.links.of(incoming)
        self._dispatcher.receive(link, incoming.frames)

    def _poll_workers(self) -> None:
        self.jobs.on_reports(self.executor.poll())

    def _tidy_results(self) -> None:
        self.jobs.on_stored(self.results.tidy())

    def _tick(self) -> None:
        """What has to be looked at now and then."""
        self._faults.guard("workers", self._poll_workers)  # keeps the workers' time limits
        self._faults.guard("results", self._tidy_results)
        self._faults.guard("floods", self.listener.flood_guard.check)

    def _over(self) -> bool:
        """Whether to end: asked to, and no job runs any more or the time for it is up."""
        if self._stop_requests and not self.jobs.closing:
            log.info("stopping", extra={"fields": {"running": self.jobs.running, "waiting": self.jobs.waiting}})
            self.jobs.closing = True
            self.jobs.fail_queued(BusyError(STOPPED))
            self._deadline = time.monotonic() + self.settings.grace
        if not self.jobs.closing:
            return False
        return not self.jobs.running or self._stop_requests > 1 or time.monotonic() > self._deadline

    def _housekeep(self) -> None:
        self._manager.alive()
        for name, step in (
            ("monitoring", self._publish),
            ("allow list", self._refresh_allow_list),
            ("revocations", self._drop_revoked),
            ("links", self.links.sweep),
            ("uploads", self.uploads.sweep),
            ("jobs", lambda: self.jobs.sweep(self.settings.limits.result_seconds)),
        ):
            self._faults.guard(name, step)

    def _publish(self) -> None:
        if self.monitoring is not None:
            self.monitoring.publish(self.status(self._local_keys.public))

    def _drop_revoked(self) -> None:
        """Cut the links of keys that a complete allow list lacks; their work goes when it has lacked them for a while.

        An editor may write a file in two steps, and a slip of the hand is soon mended: neither costs anyone a result.
        """
        if not self.allowed.complete:
            self._missing.clear()
            return
        now = time.monotonic()
        owners = {*self.links.owners, *self.jobs.owners, *self.uploads.owners}
        for owner in self.links.owners:
            if self.name_of(owner) is None and self.allowed.lists(owner):
                log.info("expired", extra={"fields": {"key": owner[:8], "links": self.links.cut_owner(owner)}})
        missing = {owner for owner in owners if self.name_of(owner) is None and not self.allowed.lists(owner)}
        self._missing = {owner: self._missing.get(owner, now) for owner in missing}
        for owner, since in self._missing.items():
            links = self.links.cut_owner(owner)
            if links or since == now:
                log.info("revoked", extra={"fields": {"key": owner[:8], "links": links}})
            if now - since >= REVOKED_SECONDS:
                self.jobs.drop_owner(owner)
                self.uploads.drop_owner(owner)

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

    def _wake(self) -> None:
        """Let the loop turn at once; from any thread or signal handler."""
        with contextlib.suppress(OSError):  # full: it will turn; closed: it has ended
            self._wake_writer.send(b".")

    def _events_of(self, key: Key) -> Sequence[Event]:
        return self.jobs.events_of(key)

    def _close_sockets(self) -> None:
        self.listener.close()
        self.authenticator.close()
        self._context.term()
        self._wake_reader.close()
        self._wake_writer.close()
