"""diffedit revoke: take a client's key back."""

from __future__ import annotations

import argparse

from .arguments import add_state_argument

HELP = "take a client's key back; its links are cut within a second"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the client, as `diffedit clients` lists it")
    add_state_argument(parser)


def run(args: argparse.Namespace) -> int:
    from ..server.allow_list import AllowList
    from ..server.state_folder import StateFolder

    folder = StateFolder(args.state) if args.state else StateFolder.default()
    client = AllowList(folder.allow_list).revoke(args.name)
    print(f"{client.name} may not enter any more.")
    return 0
