"""What crosses the wire between Krita and the DiffEdit backend. Needs msgpack and pyzmq only.

    from diffedit_protocol import Client, Connection, EditRequest, pack_picture

    with Client(Connection.local_backend()) as client:
        job = client.submit(request, blobs)

The names below are loaded when they are first used: a program that only reads an error's sentence needs no pyzmq.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .blobs import pack_picture, pack_plane
    from .client import Client, Timeouts
    from .connection import Connection
    from .errors import DiffEditError
    from .messages import Adapter, EditRequest, EditResult, Manifest
    from .replies import ServerInfo

__version__ = "0.1.0"
PROTOCOL_VERSION = 1

_HOME = {
    "Adapter": "messages",
    "Client": "client",
    "Connection": "connection",
    "DiffEditError": "errors",
    "EditRequest": "messages",
    "EditResult": "messages",
    "Manifest": "messages",
    "ServerInfo": "replies",
    "Timeouts": "client",
    "pack_picture": "blobs",
    "pack_plane": "blobs",
}
__all__ = [
    "PROTOCOL_VERSION",
    "Adapter",
    "Client",
    "Connection",
    "DiffEditError",
    "EditRequest",
    "EditResult",
    "Manifest",
    "ServerInfo",
    "Timeouts",
    "__version__",
    "pack_picture",
    "pack_plane",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
