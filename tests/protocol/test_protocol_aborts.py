"""What libzmq ends a process for: each scenario runs in a process of its own, which must live to its end.

libzmq aborts (stream_engine_base.cpp:310, "Assertion failed: !_io_error") when a connection is lost whose messages wait
at the receiver's limit, and a heartbeat is then due: the process's own, or one that the peer had sent before.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = os.pathsep.join(str(Path(__file__).parents[2] / folder) for folder in ("protocol", "backend"))
PEER = """
import sys, time, zmq
router = zmq.Context().socket(zmq.ROUTER)
router.bind(sys.argv[1])
print("up", flush=True)
name = router.recv_multipart()[0]
router.setsockopt(zmq.HEARTBEAT_IVL, 100)
while True:
    router.send_multipart([name, b"an event"])
    time.sleep(0.001)
"""
CLIENT = """
import sys, time
from diffedit_protocol import transport
from diffedit_protocol.connection import Connection
link = transport.Transport(Connection(sys.argv[1], "", "", ""))
while not link.send([b"hello"]):
    time.sleep(0.01)
time.sleep(1.0)  # busy elsewhere: nothing is read
print("full", flush=True)
time.sleep(transport.HEARTBEAT_MS / 1000 + 1)  # its peer is killed meanwhile
while link.receive() is not None:
    pass
link.close()
print("alive", flush=True)
"""
SERVER = """
import socket, struct, sys, time, zmq
from diffedit_protocol.connection import KeyPair
from diffedit_backend.server.listener import Listener
context = zmq.Context()
listener = Listener(context, KeyPair.generate(), "owner")
from pathlib import Path
listener.open_local(Path(sys.argv[1]))
with socket.socket(socket.AF_UNIX) as peer:
    peer.connect(sys.argv[1])
    peer.sendall(b"\\xff" + bytes(8) + b"\\x7f\\x03\\x01" + b"NULL".ljust(20, b"\\0") + bytes(32))
    ready = b"\\x05READY\\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
    peer.sendall(b"\\x04" + bytes([len(ready)]) + ready)
    time.sleep(0.3)
    ping = b"\\x04PING\\0\\0"
    peer.sendall(b"\\0\\1a" * int(sys.argv[2]) + b"\\x04" + bytes([len(ping)]) + ping)
    time.sleep(0.2)  # nothing is read yet
time.sleep(0.2)
received = 0
while received < int(sys.argv[2]):
    received += sum(1 for _ in listener.receive(0))
    if listener.sockets[0].socket.poll(500) == 0:
        break
listener.close()
context.term()
print("alive", flush=True)
"""


NAMES = """
import zmq
from pathlib import Path
import sys
from diffedit_protocol.connection import KeyPair
from diffedit_backend.server.listener import Listener
context = zmq.Context()
listener = Listener(context, KeyPair.generate(), "owner")
listener.open_local(Path(sys.argv[1]))
with context.socket(zmq.DEALER) as dealer:
    dealer.linger = 0
    dealer.connect(f"ipc://{sys.argv[1]}")
    dealer.send_multipart([b"hello"])
    listener.sockets[0].socket.poll(60_000)
    (incoming,) = listener.receive(0)
    print(incoming.link.routing.hex(), flush=True)
listener.close()
context.term()
"""


def run(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": PACKAGES},
    )


@pytest.fixture
def socket_path(tmp_path: Path) -> str:
    tmp_path.chmod(0o700)
    return str(tmp_path / "s")


def test_a_client_that_does_not_read_outlives_the_end_of_its_server(socket_path: str) -> None:
    endpoint = f"ipc://{socket_path}"
    with run(PEER, endpoint) as peer, run(CLIENT, endpoint) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "full\n"
        peer.kill()
        output, errors = client.communicate(timeout=60)
    assert (client.returncode, output, errors) == (0, "alive\n", "")


@pytest.mark.parametrize("waiting", [17, 500])
def test_a_server_outlives_a_client_that_sends_much_and_a_heartbeat_and_goes(socket_path: str, waiting: int) -> None:
    with run(SERVER, socket_path, str(waiting)) as server:
        output, errors = server.communicate(timeout=60)
    assert (server.returncode, output, errors) == (0, "alive\n", "")


def test_the_names_of_peers_begin_elsewhere_at_every_start(socket_path: str) -> None:
    """A client that knows which name libzmq gives next takes it, and the next honest client ends the server
    (socket_base.cpp:2113, "Assertion failed: ok")."""
    names = set()
    for _ in range(3):
        Path(socket_path).parent.mkdir(mode=0o700, exist_ok=True)  # a listener that closes takes its own folder along
        with run(NAMES, socket_path) as server:
            output, errors = server.communicate(timeout=60)
        assert (server.returncode, errors) == (0, "")
        names.add(output)
    assert len(names) == 3
