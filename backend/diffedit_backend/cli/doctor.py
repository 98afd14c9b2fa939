"""`diffedit doctor`: what is installed, what runs, and whether an edit goes there and back."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import zmq
from diffedit_protocol.client import Client
from diffedit_protocol.connection import Connection, key_to_base64url, local_file
from diffedit_protocol.errors import DiffEditError
from diffedit_protocol.private_files import check_private

from .. import __version__
from ..krita.install import PLUGIN
from ..krita.krita_installation import kritas
from ..server.allow_list import AllowList
from ..server.state_folder import StateFolder
from .arguments import add_connect_argument, connection_of
from .self_test import round_trip, sample_edit

HELP = "check the installation; runs one small edit and reports the times"
Line = tuple[str, str]  # name, what was found; never a secret
SAMPLE_SIDE = 256  # px
_GPU_BYTES = 2  # for each parameter in half precision
_LIBRARIES = ("pyzmq", "msgpack", "numpy", "pillow", "torch", "diffusers", "transformers", "safetensors")
_DEVICE_SCRIPT = """
import torch
from diffedit_backend.models.device import choose_device
device = choose_device(None)
print(device, end=" ")
if device.type == "cuda":
    free, total = torch.cuda.mem_get_info(device)
    print(torch.cuda.get_device_name(device), f"{free >> 20} of {total >> 20} MiB free")
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_connect_argument(parser, "test a running backend")
    parser.add_argument(
        "--model", default="bundled", help="what a backend started for the test loads (default: bundled)"
    )
    parser.add_argument("--no-test", action="store_true", help="look only, run nothing")


def run(args: argparse.Namespace) -> int:
    from ..server.private_backend import PrivateBackend

    _print_section("Installation", _installation())
    _print_section("Models", _models())
    _print_section("Krita", _kritas())
    _print_section("Keys and ports", _keys())
    if args.no_test:
        return 0
    if args.connect is not None or local_file().exists():
        connection = connection_of(args.connect or "")
        _print_section(f"An edit on the backend at {connection.host}", _times(connection))
        return 0
    print("\nNo backend is running; one is started for the test.")
    with (
        tempfile.TemporaryDirectory(prefix="diffedit-doctor-") as folder,
        PrivateBackend(Path(folder), ["--model", args.model]) as backend,
    ):
        _print_section("An edit on a backend of its own", _times(backend.connection))
    return 0


def _print_section(title: str, lines: Iterable[Line]) -> None:
    print(f"\n{title}")
    for name, found in lines:
        print(f"  {name:<22} {found}")


def _installation() -> Iterable[Line]:
    yield "diffedit", __version__
    yield "python", f"{platform.python_version()} ({sys.executable})"
    yield "system", f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores"
    yield "memory", _memory()
    for name in _LIBRARIES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, 'MISSING (pip install "krita-diffedit[backend]")'
    yield "libzmq", f"{zmq.zmq_version()}, encryption {_yes(zmq.has('curve'))}, local sockets {_yes(zmq.has('ipc'))}"
    yield "device", _device()
    yield "bundled model", _bundled()


def _models() -> Iterable[Line]:
    """What can be loaded of what lies here, beside the bundled model, and which families there are."""
    from ..models.catalogue.families import LOADABLE
    from ..models.catalogue.flow_kinds import FLOW_KINDS
    from ..models.catalogue.folders import BUNDLED
    from ..models.catalogue.listing import models

    yield "families", ", ".join((LOADABLE, *(kind.name for kind in FLOW_KINDS)))
    reads = importlib.util.find_spec("gguf") is not None
    yield "GGUF files", "can be read" if reads else "cannot be read (pip install 'krita-diffedit[gguf]')"
    try:
        entries = [entry for entry in models() if entry.name != BUNDLED]
    except DiffEditError as error:
        yield "PROBLEM", error.sentence
        return
    for entry in entries:
        few = f", {entry.few_steps} steps" if entry.few_steps else ""
        weights = f"{entry.bytes_in_memory(_GPU_BYTES) / 1e9:.1f} GB on a GPU"
        yield entry.name, f"PROBLEM: {entry.fault}" if entry.fault else f"{entry.family}, {weights}{few}"


def _kritas() -> Iterable[Line]:
    """The Kritas of this user, sandboxed ones named, and whether the plugin is in them."""
    try:
        present = [krita for krita in kritas() if krita.present]
    except KeyError as error:
        yield "PROBLEM", f"the environment has no {error}, so Krita's folders are not known"
        return
    if not present:
        yield "Krita", "never started by this user"
    for krita in present:
        there = (krita.resources / "pykrita" / PLUGIN).is_dir()
        yield krita.kind, f"{krita.resources}, plugin {'installed' if there else 'not installed'}"


def _keys() -> Iterable[Line]:
    try:
        folder = StateFolder.default()
        yield "folder", str(folder.root)
        yield "server's key", f"{key_to_base64url(folder.server_keys().public)[:8]}…"
        clients = AllowList(folder.allow_list).clients
        yield "invited clients", ", ".join(client.name for client in clients) or "nobody"
        yield "free on disk", f"{shutil.disk_usage(folder.root).free >> 20} MiB"
    except DiffEditError as error:
        yield "PROBLEM", error.sentence
    file = local_file()
    if not file.exists():
        yield "running backend", "none"
        return
    try:
        check_private(file, 0o600)
        connection = Connection.from_file(file)
        yield "running backend", f"{connection.endpoint}, {'encrypted' if connection.encrypted else 'local socket'}"
    except DiffEditError as error:
        yield "PROBLEM", error.sentence


def _times(connection: Connection) -> Iterable[Line]:
    """Runs an edit twice: the second time nothing is sent or computed that was before. Raises what it fails with."""
    request, blobs = sample_edit(SAMPLE_SIDE)
    with Client(connection, software="diffedit doctor") as client:
        yield "device", client.hello.device or "?"
        yield "models", ", ".join(model.name for model in client.hello.models)
        yield "ping", f"{min(client.ping() for _ in range(5)) * 1000:.2f} ms"
        for title in ("first edit", "same edit again"):
            trip = round_trip(client, request, blobs)
            yield (
                title,
                f"{trip.total:.2f} s: send {trip.submit:.3f} s, run {trip.run:.2f} s, fetch {trip.fetch:.3f} s",
            )
        yield "stages", ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in trip.stages.items())


def _yes(value: bool) -> str:
    return "yes" if value else "NO"


def _memory() -> str:
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    except (OSError, ValueError):
        return "not reported by this system"
    total, free = (int(lines[name].split()[0]) >> 10 for name in ("MemTotal", "MemAvailable"))
    return f"{free} of {total} MiB free"


def _device() -> str:
    """Asked in a process of its own: the driver may crash, and this one stays small."""
    answer = subprocess.run([sys.executable, "-c", _DEVICE_SCRIPT], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or f"PROBLEM: {answer.stderr.strip().rpartition(chr(10))[2]}"


def _bundled() -> str:
    from ..bundled import weights_folder

    files = list(weights_folder().rglob("*.safetensors"))
    return f"{sum(file.stat().st_size for file in files) >> 20} MiB in {weights_folder()}" if files else "MISSING"
