"""The pieces of an attack: each is bounded in time and number, and leaves the server as it found it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgpack
import zmq
from diffedit_backend.server.allow_list import AllowList
from diffedit_backend.server.state_folder import StateFolder
from diffedit_protocol.blobs import blob_id, pack_picture
from diffedit_protocol.client import Client, Timeouts
from diffedit_protocol.connection import Connection
from diffedit_protocol.encodings import encode_chunk
from diffedit_protocol.messages import EditRequest, Progress
from diffedit_protocol.requests import new_job_id

from ..fuzz.messages import fuzz_backend
from .clients import Relay

FUZZ_MESSAGES = 2000
STRANGERS = 200
FLOOD_PARTS, PART_BYTES = 100, 1 << 20
SHORT_COMMANDS = 20
CANCELLED_JOBS = 100
SAVING_SECONDS = 1.2
BUSY_LINKS, BUSY_BYTES, BUSY_SECONDS = 8, 768 * 1024, 5.0
QUICK = Timeouts(connect=20.0, answer=20.0, lost=20.0)


@dataclass(frozen=True)
class Target:
    """What is attacked: the `endpoint` and `key` of the server below `state`, the artists' links, this user's link."""

    endpoint: str
    state: StateFolder
    relays: tuple[Relay, ...]
    admin: Connection
    chance: random.Random

    def invite(self) -> Connection:
        """A fresh key for an attacker."""
        return AllowList(self.state.allow_list).invite(
            f"attacker-{new_job_id()}", self.endpoint, self.state.server_keys().public
        )

    def revoke(self, connection: Connection) -> None:
        AllowList(self.state.allow_list).revoke(connection.name)


def fuzz(target: Target) -> None:
    """Mutated messages of an invited key."""
    attacker = target.invite()
    fuzz_backend(attacker.to_line(), target.chance.randrange(1 << 30), FUZZ_MESSAGES)
    target.revoke(attacker)


def cut_links(target: Target) -> None:
    """The artists' links are cut, again and again, wherever their edits are."""
    for _ in range(6):
        target.chance.choice(target.relays).cut()
        time.sleep(target.chance.uniform(0.1, 0.8))


def kill_worker(target: Target) -> None:
    """A worker is killed from outside."""
    with Client(target.admin, QUICK) as admin:
        pids = [int(worker["pid"]) for worker in admin.status()["workers"] if worker["pid"]]
    if pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(target.chance.choice(pids), signal.SIGKILL)
    time.sleep(2.0)


def silent_strangers(target: Target) -> None:
    """Connections without a key: some say nothing, some begin a handshake, some speak HTTP."""
    host, _, port = target.endpoint.removeprefix("tcp://").rpartition(":")
    openings = (b"", b"\xff" + bytes(8) + b"\x7f", b"GET / HTTP/1.1\r\nHost: gpu1\r\n\r\n", os.urandom(64))
    peers = []
    for number in range(STRANGERS):
        with contextlib.suppress(OSError):
            peer = socket.create_connection((host, int(port)), 2.0)
            peers.append(peer)
            peer.sendall(openings[number % len(openings)])
    time.sleep(2.0)
    for peer in peers:
        peer.close()


def flood(target: Target) -> None:
    """One endless message of an invited key, and a reset in the middle of it."""
    attacker = target.invite()
    with _dealer(attacker) as dealer:
        dealer.send_multipart([bytes(PART_BYTES)] * FLOOD_PARTS)
        time.sleep(2.0)
    target.revoke(attacker)


def greedy_reader(target: Target) -> None:
    """Asks and asks without ever reading."""
    attacker = target.invite()
    with _dealer(attacker) as dealer:
        dealer.send(_request(0, "hello", versions=[1, 1], client="greedy"))
        for number in range(1, 1000):
            with contextlib.suppress(zmq.Again):
                dealer.send(_request(number, "status"), zmq.DONTWAIT)
        time.sleep(1.0)
    target.revoke(attacker)


def impostor(target: Target) -> None:
    """Takes names that libzmq might give the next client."""
    attacker = target.invite()
    for _ in range(10):
        name = b"\0" + struct.pack(">I", target.chance.randrange(1 << 32))
        with _dealer(attacker, name) as dealer:
            dealer.send(_request(0, "hello", versions=[1, 1], client="impostor"))
            time.sleep(0.05)
    target.revoke(attacker)


def far_offsets(target: Target) -> None:
    """Gets far beyond what there is, and of what is not there."""
    attacker = target.invite()
    picture, blob = pack_picture(os.urandom(64 * 64 * 3), 64, 64, 3)
    with Client(attacker, QUICK) as client:
        job = client.submit(EditRequest("", "", picture=picture), {picture.blob: blob})
        list(client.events(job))
    with _dealer(attacker) as dealer:
        dealer.send(_request(0, "hello", versions=[1, 1], client="far"))
        for number, offset in enumerate((2**62, 2**63, 2**64 - 1, 64 * 64 * 3), 1):
            dealer.send(_request(number, "get", blob=picture.blob, offset=offset, length=10))
        time.sleep(0.5)
    target.revoke(attacker)


def submit_and_cancel(target: Target) -> None:
    """Jobs with long texts, each cancelled at once."""
    attacker = target.invite()
    picture, blob = pack_picture(os.urandom(64 * 64 * 3), 64, 64, 3)
    with Client(attacker, QUICK) as client:
        for _ in range(CANCELLED_JOBS):
            request = EditRequest("steps=50 pause=0.1", "x" * 4000, picture=picture, negative="y" * 4000)
            job = client.submit(request, {picture.blob: blob})
            client.cancel(job)
            list(client.events(job))
    target.revoke(attacker)


def short_commands(target: Target) -> None:
    """One client's commands, one after the other, each with a link of its own."""
    attacker = target.invite()
    for _ in range(SHORT_COMMANDS):
        with Client(attacker, QUICK) as client:
            client.status()
    target.revoke(attacker)


def busy_links(target: Target) -> None:
    """Eight links that send and fetch packed pixels as fast as they can, as clients behind slow links do."""
    attacker = target.invite()
    threads = [threading.Thread(target=_pack_and_unpack, args=(attacker,)) for _ in range(BUSY_LINKS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    target.revoke(attacker)


def _pack_and_unpack(attacker: Connection) -> None:
    ramp = bytes(range(256)) * (BUSY_BYTES // 256)  # packs well: what travels is little, what is computed is not
    encoding, packed = encode_chunk(ramp, "delta3")
    blob = blob_id(ramp)
    put = {"blob": blob, "size": len(ramp), "offset": 0, "length": len(ramp), "encoding": encoding}
    get = {"blob": blob, "offset": 0, "length": len(ramp), "encoding": "delta3"}
    with _dealer(attacker) as dealer:
        dealer.rcvtimeo = int(QUICK.answer * 1000)
        dealer.send(_request(0, "hello", versions=[1, 1], client="busy"))
        dealer.recv_multipart()
        until = time.monotonic() + BUSY_SECONDS
        number = 0
        while time.monotonic() < until:
            number += 2
            dealer.send_multipart([_request(number, "put", **put), packed])
            dealer.send(_request(number + 1, "get", **get))
            dealer.recv_multipart()
            dealer.recv_multipart()


def abandon(target: Target) -> None:
    """Leaves in the middle of a job, and is revoked while it is away."""
    attacker = target.invite()
    picture, blob = pack_picture(os.urandom(512 * 512 * 3), 512, 512, 3)
    with Client(attacker, QUICK) as client:
        job = client.submit(EditRequest("steps=100 pause=0.05", "", picture=picture), {picture.blob: blob})
        next((event for event in client.events(job) if isinstance(event, Progress)), None)
    target.revoke(attacker)


def slip(target: Target) -> None:
    """The allow list is empty, has a stray word or is readable for others, as long as an editor saves."""
    file = target.state.allow_list
    saved = file.read_text(encoding="utf-8")
    kind = target.chance.choice(("empty", "word", "mode"))
    try:
        if kind == "mode":
            file.chmod(0o644)
        else:
            file.write_text("" if kind == "empty" else f"{saved}a stray word\n", encoding="utf-8")
        time.sleep(SAVING_SECONDS)
    finally:
        file.write_text(saved, encoding="utf-8")
        file.chmod(0o600)


ATTACKS: tuple[Callable[[Target], None], ...] = (
    fuzz,
    cut_links,
    kill_worker,
    silent_strangers,
    flood,
    greedy_reader,
    impostor,
    far_offsets,
    submit_and_cancel,
    short_commands,
    busy_links,
    abandon,
    slip,
)


@contextlib.contextmanager
def _dealer(connection: Connection, name: bytes = b"") -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.sndtimeo = 2000
        if name:
            dealer.routing_id = name
        dealer.curve_serverkey = connection.server_key.encode()
        dealer.curve_publickey = connection.client_public.encode()
        dealer.curve_secretkey = connection.client_secret.encode()
        dealer.connect(connection.endpoint)
        yield dealer


def _request(number: int, type_: str, **fields: object) -> bytes:
    packed: bytes = msgpack.packb({"type": type_, "id": number, **fields})
    return packed
