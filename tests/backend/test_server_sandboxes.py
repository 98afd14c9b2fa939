"""A sandboxed Krita (Flatpak, Snap) sees neither the user's data folder nor the socket in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from backends import PATIENT
from diffedit_protocol.client import Client
from diffedit_protocol.connection import Connection


def test_a_sandboxed_krita_finds_the_backend_over_loopback_with_keys_until_it_ends(tmp_path: Path) -> None:
    sandbox = tmp_path / ".var/app/org.kde.krita/data"
    (sandbox / "krita").mkdir(parents=True)
    own = ("DIFFEDIT_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    environment |= {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "diffedit_backend.cli", "serve", "--device", "cpu", "--threads", "1"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready ")
            file = sandbox / "diffedit" / "local.json"
            connection = Connection.from_file(file)
            assert connection.endpoint.startswith("tcp://127.0.0.1:")
            assert connection.encrypted
            assert connection.own
            with Client(connection, PATIENT) as client:
                assert client.ping() > 0
            ordinary = Connection.from_file(tmp_path / ".local/share/diffedit/local.json")
            with Client(ordinary, PATIENT) as client:
                assert client.ping() > 0
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    assert not file.exists()
