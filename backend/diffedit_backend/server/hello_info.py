"""What hello answers: the server's models, limits, capabilities, and as many adapters as a message has room for."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgpack
from diffedit_protocol.replies import DESCRIBE, DETAIL, MATTING, SUGGEST, AdapterInfo, ServerInfo
from diffedit_protocol.schema import to_map

from .. import __version__
from ..executors.base import WorkerInfo
from .settings import ServerSettings

log = logging.getLogger(__name__)
ADAPTER_BYTES = 48 * 1024  # of a header of 64 KiB: models, limits and the rest need some
CAPABILITIES = ("previews", "replay", "kept-results", DETAIL)


def hello_info(boot_id: str, settings: ServerSettings, workers: Sequence[WorkerInfo]) -> ServerInfo:
    """The server as it is at this moment."""
    mattes = [worker.mattes for worker in workers if worker.mattes is not None]
    optional = {
        DESCRIBE: settings.describes,
        SUGGEST: settings.suggests,
        MATTING: all(mattes) if mattes else settings.mattes,
    }
    try:
        adapters = advertised(settings.adapters())
    except Exception:  # a file that cannot be looked at: hello is answered without them
        log.exception("adapters folder")
        adapters = ()
    return ServerInfo(
        __version__,
        boot_id,
        settings.models,
        next((worker.device for worker in workers if worker.device), ""),
        settings.limits,
        CAPABILITIES + tuple(name for name, has in optional.items() if has),
        tuple(adapter.name for adapter in adapters),
        adapters,
    )


def advertised(adapters: Sequence[AdapterInfo]) -> tuple[AdapterInfo, ...]:
    """The first of `adapters` that fit. Each takes its name twice, for older clients too. Any can still be asked for
    by its name."""
    used = 0
    for count, adapter in enumerate(adapters):
        used += len(msgpack.packb(to_map(adapter))) + len(msgpack.packb(adapter.name))
        if used > ADAPTER_BYTES:
            log.warning("too many adapters to list", extra={"fields": {"there": len(adapters), "listed": count}})
            return tuple(adapters[:count])
    return tuple(adapters)
