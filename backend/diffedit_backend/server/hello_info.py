"""What hello answers: the server's models, limits, capabilities, and as many adapters as a message has room for."""

from __future__ import annotations

import concurrent.futures
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import msgpack
from diffedit_protocol.replies import (
    AUTOMATIC_GROW,
    BLEND,
    DESCRIBE,
    DETAIL,
    MATTING,
    SEGMENT,
    SUGGEST,
    AdapterInfo,
    ModelInfo,
    ServerInfo,
)
from diffedit_protocol.schema import to_map

from .. import __version__
from ..executors.base import WorkerInfo
from .settings import ServerSettings

log = logging.getLogger("diffedit.hello")
# Bytes of a header of 64 KiB: what all fields together, the models, and the adapters may take of it.
TOTAL_BYTES, MODEL_BYTES, ADAPTER_BYTES = 60 * 1024, 24 * 1024, 48 * 1024
CAPABILITIES = ("previews", "replay", "kept-results", DETAIL, BLEND, AUTOMATIC_GROW)
FIRST_LOOK_SECONDS, LOOK_SECONDS = 30.0, 0.015


def hello_info(
    boot_id: str, settings: ServerSettings, workers: Sequence[WorkerInfo], adapters: Sequence[AdapterInfo]
) -> ServerInfo:
    """The server as it is at this moment."""
    mattes = [worker.mattes for worker in workers if worker.mattes is not None]
    optional = {
        DESCRIBE: settings.describes,
        SUGGEST: settings.suggests,
        SEGMENT: settings.segments,
        MATTING: all(mattes) if mattes else settings.mattes,
    }
    info = ServerInfo(
        __version__,
        boot_id,
        advertised(settings.models, MODEL_BYTES),
        next((worker.device for worker in workers if worker.device), ""),
        settings.limits,
        CAPABILITIES + tuple(name for name, has in optional.items() if has),
    )
    listed = advertised(adapters, min(ADAPTER_BYTES, TOTAL_BYTES - _packed_bytes(to_map(info))))
    return replace(info, adapters=tuple(adapter.name for adapter in listed), adapter_details=listed)


def advertised(entries: Sequence[Any], limit: int = ADAPTER_BYTES) -> tuple[Any, ...]:
    """The first of the models or adapters that fit into `limit` bytes. An adapter takes its name twice, for older
    clients too. Others can still be asked for by their name."""
    used = 0
    for count, entry in enumerate(entries):
        used += _packed_bytes(to_map(entry))
        if not isinstance(entry, ModelInfo):
            used += _packed_bytes(entry.name)
        if used > limit:
            log.warning("too many to list", extra={"fields": {"there": len(entries), "listed": count}})
            return tuple(entries[:count])
    return tuple(entries)


def _packed_bytes(value: Any) -> int:
    return len(msgpack.packb(value))


class AdapterFolder:
    """What lies in the adapters folder, looked up by a thread: the headers of hundreds of files take seconds."""

    def __init__(self, look: Callable[[], Sequence[AdapterInfo]]) -> None:
        self._look = look
        self._known: tuple[AdapterInfo, ...] = ()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="adapters")
        self._looking: Future[Sequence[AdapterInfo]] | None = None
        self.now(FIRST_LOOK_SECONDS)

    def now(self, seconds: float = LOOK_SECONDS) -> tuple[AdapterInfo, ...]:
        """The adapters that are there; those that were known when finding out takes longer than `seconds`."""
        if self._looking is None:
            self._looking = self._pool.submit(self._look)
        try:
            self._known = tuple(self._looking.result(seconds))
        except (TimeoutError, concurrent.futures.TimeoutError):
            return self._known  # the next hello takes what this look finds
        except Exception:  # a file that cannot be looked at: hello is answered without news
            log.exception("adapters folder")
        self._looking = None
        return self._known

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
