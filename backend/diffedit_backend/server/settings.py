"""Everything that a server is started with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diffedit_protocol.replies import AdapterInfo, Limits, ModelInfo

from ..executors.worker_slot import Timeouts

GIB = 1 << 30


@dataclass(frozen=True)
class ServerSettings:
    """`listen`: "local", or tcp://HOST:PORT. `queue`: jobs that may wait. `upload_bytes`, `result_bytes`: memory for
    all clients' uploads and for results; `disk_bytes`: results on disk. `grace`: seconds that a stopping server gives
    its running jobs. `models`: what a request may name, the first is the default; `adapters` looks what lies in the
    adapters folder whenever a client says hello; `describes`: workers have a captioning model; `suggests`: they
    have one that writes wordings; `segments`: one that finds what words name. `metrics`: PORT or HOST:PORT for
    /healthz and /metrics, "" for none. `mattes`: workers are taken to have pymatting, until one of them says what it
    has. `sandboxes`: data folders of this user's sandboxed Kritas, which see no socket file and get a loopback address.
    """

    state: Path
    listen: tuple[str, ...] = ("local",)
    sandboxes: tuple[Path, ...] = ()
    models: tuple[ModelInfo, ...] = (ModelInfo("bundled"),)
    adapters: Callable[[], Sequence[AdapterInfo]] = tuple
    describes: bool = False
    suggests: bool = False
    segments: bool = False
    mattes: bool = False
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    queue: int = 64
    upload_bytes: int = 2 * GIB
    result_bytes: int = GIB // 2
    disk_bytes: int = 8 * GIB
    grace: float = 20.0
    metrics: str = ""
