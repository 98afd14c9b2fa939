"""What an executor adds to a job: a mask move whose stages are cached, called directly and through each executor."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from diffedit_backend.executors.base import Executor
from diffedit_backend.executors.local import LocalPool
from diffedit_backend.executors.worker_process import WorkerSetup
from diffedit_protocol.messages import Done, Failed

from .artists import MASK, Ask
from .measured import QUIET, Pictures, configuration, started

EXECUTORS = ("direct", "local", "ray")


def measure_overhead(quality: str, rounds: int, executor: str) -> list[float]:
    """Seconds of each of the `rounds`, after one that fills the cache."""
    job = Pictures(quality).job(Ask("overhead", 1, MASK, 0, 0.0))
    if executor == "direct":
        from diffedit_backend.worker.edit_runner import EditRunner

        bench = EditRunner.from_configuration(configuration())
        return _timed(lambda: bench.run(job.request, job.blobs, lambda event: None), rounds)
    pool = _pool(executor)
    with started(pool, 1):

        def through() -> None:
            place = pool.place([job.affinity])
            assert place is not None
            pool.submit(job, place[1])
            while True:
                for report in pool.poll(1.0):
                    if isinstance(report.event, Failed):
                        raise report.event.error
                    if isinstance(report.event, Done):
                        return
                trouble = pool.trouble()
                if trouble is not None:
                    raise trouble

        return _timed(through, rounds)


def overheads(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """By executor: the median, and what it is more than the direct call's."""
    found = {name: {"seconds": median(times)} for name, times in seconds.items()}
    for name in found:
        if name != "direct" and "direct" in found:
            found[name]["overhead"] = found[name]["seconds"] - found["direct"]["seconds"]
    return found


def _pool(executor: str) -> Executor:
    """One worker with the bundled model on the CPU."""
    if executor == "local":
        return LocalPool(WorkerSetup(environment=QUIET, configuration=configuration()), ["cpu"])
    from diffedit_backend.executors.ray_pool import RayPool, RaySetup
    from diffedit_backend.executors.worker_slot import Timeouts

    options = {"include_dashboard": False, "object_store_memory": 128 << 20}
    setup = RaySetup(node_ip="127.0.0.1", gpus=0, configuration=configuration(), environment=QUIET, options=options)
    return RayPool(setup, 1, Timeouts())


def _timed(call: Callable[[], object], rounds: int) -> list[float]:
    call()
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return times
