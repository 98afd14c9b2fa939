"""The adapters that hello tells of: as many as a message has room for."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgpack
from diffedit_protocol.replies import AdapterInfo
from diffedit_protocol.schema import to_map

log = logging.getLogger(__name__)
ROOM = 48 * 1024  # bytes of a header of 64 KiB: models, limits and the rest need some


def told(adapters: Sequence[AdapterInfo]) -> tuple[AdapterInfo, ...]:
    """The first of `adapters` that fit, each named twice: for older clients too. Any can still be asked for by name."""
    used = 0
    for count, adapter in enumerate(adapters):
        used += len(msgpack.packb(to_map(adapter))) + len(msgpack.packb(adapter.name))
        if used > ROOM:
            log.warning("too many adapters to tell of", extra={"fields": {"there": len(adapters), "told": count}})
            return tuple(adapters[:count])
    return tuple(adapters)
