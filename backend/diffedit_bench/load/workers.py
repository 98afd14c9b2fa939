"""Real worker processes with the bundled model, in real time: how long jobs take there, and what an executor adds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import numpy as np
from diffedit_backend.executors.base import Executor, Job
from diffedit_backend.executors.pool import LocalPool
from diffedit_backend.executors.routing import BEHIND, Router
from diffedit_backend.executors.worker_process import WorkerSetup
from diffedit_protocol.blobs import Pieces, pack_picture
from diffedit_protocol.messages import Cancelled, Done, EditRequest, Failed, Quality
from diffedit_training.scenes.art import CLASSES
from diffedit_training.scenes.scenes import SIZE, Scenes

from .artists import FIRST, KINDS, MASK, TARGET, Ask, JobKind

QUIET = {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error", "OMP_NUM_THREADS": "1"}
READY_SECONDS = 300.0
SILENT_SECONDS = 300.0  # without a report of any worker while jobs run: they will not end any more
EXECUTORS = ("direct", "local", "ray")
ServiceTimes = Mapping[tuple[JobKind, bool], Sequence[float]]  # (kind, warm) to the seconds of measured jobs
_SCENE = 710_000_000  # where this benchmark begins to count held-out scenes


class Pictures:
    """Requests on held-out scenes of the bundled model: another picture for every (artist, picture)."""

    def __init__(self, quality: Quality) -> None:
        self._quality = quality
        self._scenes = Scenes(size=SIZE, split="heldout")
        self._made: dict[str, int] = {}

    def job(self, ask: Ask) -> Job:
        number = self._made.setdefault(ask.affinity, len(self._made))
        pair = self._scenes.pair(_SCENE + number, "swap")
        assert pair.subject is not None  # a swap has one
        height, width = pair.source.shape[:2]
        picture, raw = pack_picture(np.ascontiguousarray(pair.source).tobytes(), width, height, 3)
        target = pair.target_caption
        if ask.kind == TARGET:
            others = [name for name in CLASSES if name not in pair.source_caption]
            target = target.replace(pair.subject.name, others[ask.number % len(others)])
        request = EditRequest(
            pair.source_caption,
            target,
            task="mask" if ask.kind == MASK else "edit",
            threshold=0.3 + 0.02 * (ask.number % 20) if ask.kind == MASK else None,
            picture=picture,
            quality=self._quality,
        )
        return Job(f"{ask.artist}-{ask.number}", ask.artist, request, {picture.blob: raw})


class RealWorkers:
    """A pool of worker processes as `drive` asks for them. wait() raises what keeps all of them from working."""

    def __init__(self, pool: Executor, router: Router, pictures: Pictures) -> None:
        self._pool = pool
        self._router = router
        self._pictures = pictures
        self._jobs: dict[Ask, Job] = {}

    def now(self) -> float:
        return time.monotonic()

    def assign(self, waiting: Sequence[Ask]) -> tuple[int, str] | None:
        for ask in waiting:
            if ask not in self._jobs:
                self._jobs[ask] = self._pictures.job(ask)
        return self._pool.assign([self._jobs[ask].affinity for ask in waiting])

    def begin(self, ask: Ask, worker: str) -> bool:
        job = self._jobs[ask]
        warm = self._router.holds(worker, job.affinity)
        self._pool.submit(job, worker)
        return warm

    def wait(self, until: float) -> list[tuple[Ask, bool]]:
        last_report = self.now()
        while True:
            ended = []
            for report in self._pool.poll(max(0.0, min(0.2, until - self.now()))):
                last_report = self.now()
                if isinstance(report.event, (Done, Failed, Cancelled)):
                    ask = next(ask for ask, job in self._jobs.items() if job.id == report.job)
                    del self._jobs[ask]
                    ended.append((ask, not isinstance(report.event, Done)))
            if ended or self.now() >= until:
                return ended
            trouble = self._pool.trouble()
            if trouble is not None:
                raise trouble
            if self.now() - last_report > SILENT_SECONDS:
                raise TimeoutError(f"No worker reported anything for {SILENT_SECONDS:.0f} s: {self._pool.workers()}")


def configuration() -> dict[str, Any]:
    """One thread each: so many workers as there are cores do not wait for each other."""
    return {"models": {"bundled": "bundled"}, "cache_bytes": 1 << 30, "threads": 1, "device": "cpu"}


@contextmanager
def local_workers(workers: int, quality: Quality, behind: int = BEHIND) -> Iterator[RealWorkers]:
    """Processes of this machine with the bundled model."""
    router = Router(behind)
    pool = LocalPool(WorkerSetup(environment=QUIET, configuration=configuration()), ["cpu"] * workers, router=router)
    with started(pool, workers):
        yield RealWorkers(pool, router, Pictures(quality))


@contextmanager
def started(pool: Executor, workers: int) -> Iterator[Executor]:
    """The pool with all its workers ready, closed at the end. Raises what keeps it from starting."""
    pool.start()
    try:
        until = time.monotonic() + READY_SECONDS
        while pool.free_slots() < workers:
            pool.poll(0.1)
            trouble = pool.trouble()
            if trouble is not None:
                raise trouble
            if time.monotonic() > until:
                raise TimeoutError(f"The workers were not ready within {READY_SECONDS:.0f} s.")
        yield pool
    finally:
        pool.close(5.0)


def measure_services(quality: Quality, samples: int) -> ServiceTimes:
    """Seconds of each kind of job on one real worker that has nothing else to do.

    A second target on a worker that never saw the picture is a first edit there.
    """
    services: dict[tuple[JobKind, bool], list[float]] = {(kind, warm): [] for kind in KINDS for warm in (False, True)}
    with local_workers(1, quality) as workers:

        def timed(kind: JobKind, number: int, picture: str) -> float:
            ask = Ask(picture, number, kind, 0, 0.0)
            assigned = workers.assign([ask])
            assert assigned is not None
            begun = time.perf_counter()
            workers.begin(ask, assigned[1])
            (_, failed), *_ = workers.wait(float("inf"))
            if failed:
                raise TimeoutError(f"A {kind} failed, so its time is no service time.")
            return time.perf_counter() - begun

        timed(FIRST, 1, "warming up")
        for sample in range(samples):
            services[FIRST, False].append(timed(FIRST, 1, f"edited-{sample}"))
            services[TARGET, True].append(timed(TARGET, 2, f"edited-{sample}"))
            services[MASK, True].append(timed(MASK, 3, f"edited-{sample}"))
            services[MASK, False].append(timed(MASK, 1, f"sought-{sample}"))
    services[TARGET, False] = list(services[FIRST, False])
    services[FIRST, True] = list(services[FIRST, False])  # a picture that another artist has opened: new words
    return services


def services_to_json(services: ServiceTimes) -> dict[str, list[float]]:
    """By "kind, warm" and "kind, cold"."""
    return {f"{kind}, {'warm' if warm else 'cold'}": list(found) for (kind, warm), found in services.items()}


def services_from_json(lists: Mapping[str, list[float]]) -> ServiceTimes:
    """What services_to_json() made. Raises KeyError when a kind is missing."""
    return {(kind, warm): lists[f"{kind}, {'warm' if warm else 'cold'}"] for kind in KINDS for warm in (False, True)}


def measure_overhead(quality: Quality, rounds: int, executor: str) -> list[float]:
    """Seconds of a mask move whose stages are cached, `rounds` times after one that fills the cache.

    executor: "direct" calls the worker's own function, "local" and "ray" go through that executor.
    """
    job = Pictures(quality).job(Ask("overhead", 1, MASK, 0, 0.0))
    if executor == "direct":
        from diffedit_backend.worker.edit_runner import EditRunner

        runner = EditRunner.from_configuration(configuration())
        blobs = {name: bytes(blob) for name, blob in job.blobs.items() if not isinstance(blob, Pieces)}
        return _timed(lambda: runner.run(job.request, blobs, lambda event: None), rounds)
    pool = _pool(executor)
    with started(pool, 1):

        def through() -> None:
            assigned = pool.assign([job.affinity])
            assert assigned is not None
            pool.submit(job, assigned[1])
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
