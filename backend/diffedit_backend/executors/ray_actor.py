"""The Ray actor that owns one GPU: the worker's own loop, spoken to by messages in place of a pipe.

Only bytes cross Ray, which sends them as they are; a message is read by msgpack, so nothing of a job is ever unpickled.
"""

from __future__ import annotations

import importlib
import operator
import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray

from ..worker.loop import work
from ..worker.pipe import Payload, Pipe, PipeMessage, message_from_bytes, message_to_bytes


class QueuePipe(Pipe):
    """What the worker's loop takes for its pipe."""

    def __init__(self) -> None:
        self.inward: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.outward: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def send(self, type_: str, payloads: Sequence[Payload] = (), **fields: Any) -> None:
        self.outward.put(message_to_bytes(type_, payloads, **fields))

    def receive(self) -> PipeMessage:
        return message_from_bytes(self.inward.get())


class WorkerActor:
    """`runner`: "module:attribute" that makes the runner; `environment` is added before anything heavy is imported."""

    def __init__(self, runner: str, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self._pipe = QueuePipe()
        self._runner = runner
        threading.Thread(target=self._work, name="work", daemon=True).start()

    @ray.method(concurrency_group="control")
    def deliver(self, message: bytes) -> None:
        """Hand a message to the worker; it is read at once, also while a job computes."""
        self._pipe.inward.put(message)

    def messages(self) -> Iterator[bytes]:
        """Everything that the worker says; the last is exit {code}."""
        while (message := self._pipe.outward.get()) is not None:
            yield message

    def _work(self) -> None:
        self._pipe.send("born", pid=os.getpid(), node=ray.get_runtime_context().get_node_id())
        module, _, attribute = self._runner.partition(":")

        def make(fields: dict[str, Any]) -> Any:
            return operator.attrgetter(attribute)(importlib.import_module(module))(fields)

        code = work(self._pipe, make)
        self._pipe.send("exit", code=code)
        self._pipe.outward.put(None)
