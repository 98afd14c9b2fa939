"""diffedit doctor: what is installed, what runs, and whether an edit goes there and back."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

HELP = "check the installation; runs one small edit and tells the times"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connect", metavar="LINE", help="test the backend of this connection line")
    parser.add_argument(
        "--model", default="bundled", help="what a backend started for the test loads (default: bundled)"
    )
    parser.add_argument("--no-test", action="store_true", help="look only, run nothing")


def run(args: argparse.Namespace) -> int:
    from .diagnosis import installation, keys, print_section, times

    print_section("Installation", installation())
    print_section("Keys and ports", keys())
    if args.no_test:
        return 0
    from diffedit_protocol.connection import Connection, local_file

    from ..server.private_backend import PrivateBackend

    if args.connect or local_file().exists():
        connection = Connection.from_line(args.connect) if args.connect else Connection.local_backend()
        print_section(f"An edit on the backend at {connection.host}", times(connection))
        return 0
    print("\nNo backend is running; one is started for the test.")
    with (
        tempfile.TemporaryDirectory(prefix="diffedit-doctor-") as folder,
        PrivateBackend(Path(folder), ["--model", args.model]) as backend,
    ):
        print_section("An edit on a backend of its own", times(backend.connection))
    return 0
