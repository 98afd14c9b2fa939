"""diffedit invite: let one more client in, by a line to paste."""

from __future__ import annotations

import argparse
import sys

from .arguments import add_state_argument

HELP = "let a client on another machine in; prints the line that it pastes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what to call the client, e.g. anna")
    parser.add_argument("--host", required=True, metavar="HOST:PORT", help="how the client reaches this machine")
    add_state_argument(parser)


def run(args: argparse.Namespace) -> int:
    from ..server.allow_list import AllowList
    from ..server.state_folder import StateFolder

    folder = StateFolder(args.state) if args.state else StateFolder.default()
    endpoint = f"tcp://{args.host.removeprefix('tcp://')}"
    connection = AllowList(folder.allow_list).invite(args.name, endpoint, folder.server_keys().public)
    print(connection.to_line())
    print(
        f"Paste this line into the plugin's settings on {args.name}'s machine. It holds a key: send it privately, keep "
        f"no copy. To take it back: diffedit revoke {args.name}",
        file=sys.stderr,
    )
    return 0
