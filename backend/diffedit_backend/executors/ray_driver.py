"""`python -m diffedit_backend.executors.ray_driver`: speaks with a Ray cluster for the server, started by it.

Ray ends the process of a driver whose head is gone; so the driver is a process of its own, and the server lives on.

to the driver    configure {address, node_ip, options, bench, environment, gpus, cpus}     first
                 start {actor},  deliver {actor} + message,  kill {actor},  stop
from the driver  joined {address}                          or  refused {reason}, and the process ends
                 output {actor} + message,  gone {actor, code, reason}
                 processes {of: [[pid, when it was created]]}   of a cluster that this driver started
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable
from typing import Any

import psutil

from ..worker.loop import EXIT_DONE, EXIT_UNUSABLE
from ..worker.pipe import Pipe, claim_standard_streams, message_from_bytes

log = logging.getLogger(__name__)
ACTOR_LOST = -1  # no exit code is known of an actor whose process or node went away
LEAVE_SECONDS = 5.0  # for the processes of a cluster of our own to end after its shutdown


class Driver:
    """Starts actors and hands messages between them and the server. One thread per actor waits for what it says."""

    def __init__(self, pipe: Pipe, fields: dict[str, Any]) -> None:
        self._pipe = pipe
        self._fields = fields
        self._actors: dict[str, Any] = {}

    def join(self) -> None:
        """Raises ConnectionError, RuntimeError or ValueError when there is no cluster to join."""
        import ray

        fields = self._fields
        ray.init(
            address=fields["address"] or "local",
            _node_ip_address=fields["node_ip"] or None,
            log_to_driver=False,
            logging_level="warning",
            **fields["options"],
        )
        self._pipe.send("joined", address=ray.get_runtime_context().gcs_address)

    def start(self, actor: str) -> None:
        import ray

        from .ray_actor import WorkerActor

        fields = self._fields
        remote = ray.remote(
            num_gpus=fields["gpus"],
            num_cpus=fields["cpus"],
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={"control": 1},
        )(WorkerActor)
        handle = remote.remote(fields["runner"], fields["environment"])
        self._actors[actor] = handle
        stream = handle.messages.options(num_returns="streaming").remote()
        threading.Thread(target=self._listen, args=(actor, handle, stream), name=actor, daemon=True).start()

    def deliver(self, actor: str, message: bytes) -> None:
        if actor in self._actors:
            self._actors[actor].deliver.remote(message)

    def kill(self, actor: str) -> None:
        import ray

        if actor in self._actors:
            ray.kill(self._actors[actor])

    def shut_down(self) -> None:
        """Leave the cluster, or end it where it is our own, with every process of it."""
        import ray

        own = self._own_processes()
        ray.shutdown()
        for process in psutil.wait_procs(own, LEAVE_SECONDS)[1]:
            end_process(process)

    def _own_processes(self) -> list[psutil.Process]:
        """The processes of a cluster that this driver started; none of another's."""
        return [] if self._fields["address"] else psutil.Process().children(recursive=True)

    def _report_processes(self) -> None:
        own = self._own_processes()
        if own:
            self._pipe.send("processes", of=[[process.pid, process.create_time()] for process in own])

    def _listen(self, actor: str, handle: Any, stream: Any) -> None:
        import ray

        code, reason = ACTOR_LOST, ""
        try:
            for reference in stream:
                output: bytes = ray.get(reference)
                message = message_from_bytes(output)
                if message.type == "exit":
                    code = message.fields["code"]
                else:
                    self._pipe.send("output", [output], actor=actor)
                    if message.type == "born":
                        self._report_processes()
        except ray.exceptions.RayError as error:
            reason = str(error)
        self._actors.pop(actor, None)
        ray.kill(handle)
        self._pipe.send("gone", actor=actor, code=code, reason=reason[:2000])


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pipe = claim_standard_streams()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    driver = Driver(pipe, pipe.receive().fields)
    try:
        driver.join()
    except (ConnectionError, RuntimeError, ValueError, ImportError) as error:
        pipe.send("refused", reason=str(error)[:2000])
        return EXIT_UNUSABLE
    while True:
        try:
            message = pipe.receive()
        except EOFError:
            break
        if message.type == "stop":
            break
        if message.type == "start":
            driver.start(message.fields["actor"])
        elif message.type == "kill":
            driver.kill(message.fields["actor"])
        else:
            driver.deliver(message.fields["actor"], message.payloads[0])
    driver.shut_down()
    return EXIT_DONE


def end_left(processes: Iterable[tuple[int, float]]) -> list[int]:
    """End those of `processes` (number, when it was created) that still run; their numbers."""
    ended = []
    for pid, created in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.create_time() == created and end_process(process):
                ended.append(pid)
    return ended


def end_process(process: psutil.Process) -> bool:
    """Whether it still ran."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)
