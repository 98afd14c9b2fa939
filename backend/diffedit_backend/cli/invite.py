"""diffedit invite: let one more client in, by a line to paste."""

from __future__ import annotations

import argparse
import sys

from .arguments import add_state_argument

HELP = "let a client on another machine in; prints the line that it pastes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what to call the client, e.g. anna")
    parser.add_argument("--host", required=True, metavar="HOST:PORT", help="how the client reaches this machine")
    parser.add_argument(
        "--days", type=float, metavar="N", help="let the client in for so many days (default: until it is revoked)"
    )
    parser.add_argument(
        "--again", action="store_true", help="give a client that is there a new key, e.g. for another address"
    )
    add_state_argument(parser)


def run(args: argparse.Namespace) -> int:
    from diffedit_protocol.errors import BadInputError

    from ..server.allow_list import AllowList
    from ..server.state_folder import StateFolder

    if args.state and not (args.state / "server.key").exists():
        raise BadInputError(f"No backend has run with the folder '{args.state}' yet. Is it the one of its --state?")
    if args.days is not None and not 0 < args.days <= 36_500:
        raise BadInputError(f"--days is {args.days:g}; give a number of days above 0.")
    folder = StateFolder(args.state) if args.state else StateFolder.default()
    endpoint = f"tcp://{args.host.removeprefix('tcp://')}"
    connection = AllowList(folder.allow_list).invite(
        args.name, endpoint, folder.server_keys().public, days=args.days, again=args.again
    )
    print(connection.to_line())
    print(
        f"Paste this line into the plugin's settings on {args.name}'s machine. It holds a key: send it privately, keep "
        f"no copy. To take it back: diffedit revoke {args.name}",
        file=sys.stderr,
    )
    return 0
