"""A server small enough to be seen to be right: the protocol's rules on ServerSession, in memory, without workers.

Tests drive its jobs by hand (`send_event`); links are given frames and give frames. `SocketServer` puts it behind a
real ROUTER.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import zmq
from diffedit_protocol import requests
from diffedit_protocol.blobs import BlobAssembler
from diffedit_protocol.connection import Connection, KeyPair
from diffedit_protocol.errors import DiffEditError, NoBlobError, UnknownJobError
from diffedit_protocol.frames import Frames
from diffedit_protocol.messages import FINAL_EVENTS, Cancelled, Event, Preview, Queued
from diffedit_protocol.replies import (
    Accepted,
    Chunk,
    JobInfo,
    JobList,
    Lacking,
    Limits,
    ModelInfo,
    Okay,
    Reply,
    ServerInfo,
    StatusReport,
    Stored,
    Subscribed,
)
from diffedit_protocol.server_session import Received, ServerSession
from zmq.auth.thread import ThreadAuthenticator


@dataclass
class ReferenceJob:
    """A job's request and its numbered events (the first has the number 1); previews are passed on and not kept."""

    request: requests.Submit
    log: list[Event] = field(default_factory=list)
    submissions: int = 1
    cancels: int = 0

    @property
    def ended(self) -> bool:
        return bool(self.log) and isinstance(self.log[-1], FINAL_EVENTS)


class ReferenceServer:
    """Blobs and jobs of one key."""

    def __init__(self, limits: Limits | None = None, versions: tuple[int, int] = (1, 1)) -> None:
        self.limits = limits or Limits(chunk_bytes=64, blob_bytes=1 << 20, window=4)
        self.versions = versions
        self.blobs: dict[str, bytes] = {}
        self.uploads: dict[str, BlobAssembler] = {}
        self.jobs: dict[str, ReferenceJob] = {}
        self.history: dict[str, list[ReferenceJob]] = {}  # every life of a job, those that were forgotten too
        self.links: list[ReferenceLink] = []
        self.bytes_put = 0
        self.bytes_got = 0
        self.refuse_next: DiffEditError | None = None
        self.when_submitted: Callable[[str], None] | None = None
        self.boot()

    def boot(self, *, keep: bool = False) -> None:
        """Start anew under another boot id; `keep`: with the jobs and blobs that there were."""
        self.info = ServerInfo("0.1.0", uuid.uuid4().hex, (ModelInfo("bundled"),), "test", self.limits)
        self.links.clear()
        self.uploads.clear()
        if not keep:
            self.blobs.clear()
            self.jobs.clear()

    def connect(self) -> ReferenceLink:
        link = ReferenceLink(self)
        self.links.append(link)
        return link

    def send_event(self, job: str, event: Event) -> None:
        """The worker says something of `job`; it goes to every link that subscribed."""
        entry = self.jobs[job]
        if not isinstance(event, Preview):
            entry.log.append(event)
        for link in self.links:
            if job in link.sent:
                link.publish(job, event)


class ReferenceLink:
    """One client's link: `receive` answers, `outbox` gathers frames in the order in which they are to be sent."""

    def __init__(self, server: ReferenceServer) -> None:
        self.server = server
        self.session = ServerSession(server.info, server.versions)
        self.sent: dict[str, int] = {}
        self.outbox: list[Frames] = []

    def receive(self, frames: Frames) -> None:
        asked = self.session.receive(frames)
        self.outbox.extend(asked.replies)
        if asked.request is None:
            return
        try:
            if self.server.refuse_next is not None:
                error, self.server.refuse_next = self.server.refuse_next, None
                raise error
            self.outbox.append(self.session.reply(asked, self._reply(asked)))
        except DiffEditError as error:
            self.outbox.append(self.session.refuse(asked, error))
            return
        if isinstance(asked.request, requests.Subscribe):
            self._replay(asked.request)
        if isinstance(asked.request, requests.Submit) and self.server.when_submitted is not None:
            self.server.when_submitted(asked.request.job)

    def publish(self, job: str, event: Event) -> None:
        seq = len(self.server.jobs[job].log)
        frames = self.session.event(job, seq, event)
        if frames is not None:
            self.outbox.append(frames)

    def _replay(self, request: requests.Subscribe) -> None:
        log = self.server.jobs[request.job].log
        self.sent[request.job] = len(log)
        for index in range(request.since, len(log)):
            frames = self.session.event(request.job, index + 1, log[index])
            assert frames is not None
            self.outbox.append(frames)

    def _job(self, job: str) -> ReferenceJob:
        if job not in self.server.jobs:
            raise UnknownJobError(f"There is no job {job}.")
        return self.server.jobs[job]

    def _reply(self, asked: Received) -> Reply:
        server, request = self.server, asked.request
        match request:
            case requests.Have(blobs):
                held = {blob: server.uploads[blob].received for blob in blobs if blob in server.uploads}
                return Lacking({blob: held.get(blob, 0) for blob in blobs if blob not in server.blobs})
            case requests.Put():
                return self._store(request)
            case requests.Get():
                if request.blob not in server.blobs:
                    raise NoBlobError("The result is not there any more. Run the edit again.")
                whole = server.blobs[request.blob]
                data = whole[request.offset : request.offset + request.length]
                server.bytes_got += len(data)
                return Chunk(len(whole), request.offset, len(data), data=data)
            case requests.Submit(job, edit):
                refs = [ref for ref in (edit.picture, edit.selection, edit.mask) if ref is not None]
                if any(ref.blob not in server.blobs for ref in refs):
                    raise NoBlobError("A picture is missing.")
                known = job in server.jobs
                if known:
                    server.jobs[job].submissions += 1
                else:
                    server.jobs[job] = ReferenceJob(request, [Queued(0)])
                    server.history.setdefault(job, []).append(server.jobs[job])
                return Accepted(job, known)
            case requests.Subscribe(job):
                return Subscribed(job, len(self._job(job).log))
            case requests.Cancel(job):
                entry = self._job(job)
                entry.cancels += 1
                if not entry.ended:
                    server.send_event(job, Cancelled())
                return Okay()
            case requests.Ack(job):
                self._job(job)
                del server.jobs[job]
                return Okay()
            case requests.Status():
                return StatusReport({"queue": len(server.jobs)})
            case requests.Jobs():
                states = (("done" if entry.ended else "queued", name, entry) for name, entry in server.jobs.items())
                return JobList(tuple(JobInfo(name, state, len(entry.log)) for state, name, entry in states))
        raise AssertionError(f"unexpected {request}")

    def _store(self, put: requests.Put) -> Stored:
        server = self.server
        if put.blob in server.blobs:
            return Stored(put.blob, len(server.blobs[put.blob]), True)
        if put.blob not in server.uploads:
            server.uploads[put.blob] = BlobAssembler(put.blob, put.size, server.limits.blob_bytes)
        upload = server.uploads[put.blob]
        before = upload.received
        received = upload.put(put.offset, put.size, put.data)
        server.bytes_put += max(0, received - before)
        if upload.complete:
            server.blobs[put.blob] = bytes(upload.take())
            del server.uploads[put.blob]
        return Stored(put.blob, received, put.blob in server.blobs)


class SocketServer:
    """The reference server behind a ROUTER with CURVE and an allow list (`encrypted=False`: plain), in a thread."""

    def __init__(
        self,
        server: ReferenceServer,
        endpoint: str = "tcp://127.0.0.1:0",
        *,
        encrypted: bool = True,
        keys: KeyPair | None = None,
    ) -> None:
        self.server = server
        self.keys = keys or KeyPair.generate()
        self.allowed: set[str] = set()
        self.encrypted = encrypted
        self.lock = threading.Lock()
        self._bind_to = endpoint
        self._thread: threading.Thread | None = None
        self.start()

    def start(self) -> None:
        self._stop = threading.Event()
        self._context = zmq.Context()
        self._auth = ThreadAuthenticator(self._context)
        self._auth.start()
        self._auth.configure_curve_callback("test", self)
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.router_mandatory = True
        if self.encrypted:
            self._socket.curve_server = True
            self._socket.curve_publickey = self.keys.public.encode()
            self._socket.curve_secretkey = self.keys.secret.encode()
            self._socket.zap_domain = b"test"
        self._socket.bind(self._bind_to)
        self.endpoint = self._bind_to = self._socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        self._links: dict[bytes, ReferenceLink] = {}
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def callback(self, domain: str, key: bytes) -> bool:
        """The allow list, as pyzmq's authenticator asks it."""
        return key.decode() in self.allowed

    def connection(self) -> Connection:
        """An invitation for one more client."""
        if not self.encrypted:
            return Connection(self.endpoint, "", "", "")
        connection = Connection.invite(self.endpoint, self.keys.public, "test")
        self.allowed.add(connection.client_public)
        return connection

    def send_event(self, job: str, event: Event) -> None:
        with self.lock:
            self.server.send_event(job, event)

    def stop(self) -> None:
        """As if the process were killed: sockets vanish, state of links too."""
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
        self._auth.stop()
        self._context.destroy(linger=0)

    def _serve(self) -> None:
        while not self._stop.is_set():
            if self._socket.poll(5):
                identity, *frames = self._socket.recv_multipart()
                with self.lock:
                    if identity not in self._links:
                        self._links[identity] = self.server.connect()
                    self._links[identity].receive(frames)
            with self.lock:
                for identity, link in self._links.items():
                    outbox, link.outbox = link.outbox, []
                    for frames in outbox:
                        try:
                            self._socket.send_multipart([identity, *frames], zmq.DONTWAIT)
                        except zmq.ZMQError:  # the client is gone or slow: it will ask again
                            break
        self._socket.close(0)
