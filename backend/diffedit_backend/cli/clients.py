"""diffedit clients: who may enter."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .arguments import add_state_argument

if TYPE_CHECKING:
    from ..server.allow_list import Invited

HELP = "list the invited clients"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_state_argument(parser)


def run(args: argparse.Namespace) -> int:
    from diffedit_protocol.connection import key_to_base64url

    from ..server.allow_list import AllowList
    from ..server.state_folder import StateFolder

    folder = StateFolder(args.state) if args.state else StateFolder.default()
    clients = AllowList(folder.allow_list).clients
    width = max((len(client.name) for client in clients), default=0)
    for client in clients:
        print(f"{client.name:{width}}  {key_to_base64url(client.public_key)[:8]}…  {_times(client)}")
    if not clients:
        print("Nobody is invited. See: diffedit invite --help")
    return 0


def _times(client: Invited) -> str:
    if not client.until:
        return f"since {client.since}"
    return f"since {client.since}, {'EXPIRED' if client.expired else 'until'} {client.until}"
