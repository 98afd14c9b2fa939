"""A floor of real worker processes with a real model, its service times, and what an executor adds to a job."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import numpy as np
from diffedit_protocol.blobs import pack_picture
from diffedit_protocol.messages import Cancelled, Done, EditRequest, Failed

from ..bundled.art import CLASSES
from ..bundled.scenes import SIZE, Scenes
from ..executors.base import Executor, Job
from ..executors.local import LocalPool
from ..executors.routing import BEHIND, Router
from ..executors.worker_process import WorkerSetup
from .load_artists import FIRST, KINDS, MASK, TARGET, Ask
from .load_simulation import Services

QUIET = {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error", "OMP_NUM_THREADS": "1"}
READY_SECONDS = 300.0
_SCENE = 710_000_000  # where this benchmark begins to count held-out scenes


class Pictures:
    """Requests on held-out scenes of the bundled model: another picture for every (artist, picture)."""

    def __init__(self, quality: str) -> None:
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


class MeasuredFloor:
    """Real workers, in real time."""

    def __init__(self, pool: Executor, router: Router, pictures: Pictures) -> None:
        self._pool = pool
        self._router = router
        self._pictures = pictures
        self._jobs: dict[Ask, Job] = {}

    def now(self) -> float:
        return time.monotonic()

    def place(self, waiting: Sequence[Ask]) -> tuple[int, str] | None:
        for ask in waiting:
            if ask not in self._jobs:
                self._jobs[ask] = self._pictures.job(ask)
        return self._pool.place([self._jobs[ask].affinity for ask in waiting])

    def begin(self, ask: Ask, worker: str) -> bool:
        job = self._jobs[ask]
        warm = self._router.holds(worker, job.affinity)
        self._pool.submit(job, worker)
        return warm

    def wait(self, until: float) -> list[tuple[Ask, bool]]:
        while True:
            ended = []
            for report in self._pool.poll(max(0.0, min(0.2, until - self.now()))):
                if isinstance(report.event, (Done, Failed, Cancelled)):
                    ask = next(ask for ask, job in self._jobs.items() if job.id == report.job)
                    del self._jobs[ask]
                    ended.append((ask, not isinstance(report.event, Done)))
            if ended or self.now() >= until:
                return ended


def configuration() -> dict[str, Any]:
    """One thread each: so many workers as there are cores do not wait for each other."""
    return {"models": {"bundled": "bundled"}, "cache_bytes": 1 << 30, "threads": 1, "device": "cpu"}


@contextmanager
def local_floor(workers: int, quality: str, behind: int = BEHIND) -> Iterator[MeasuredFloor]:
    """Processes of this machine with the bundled model."""
    router = Router(behind)
    pool = LocalPool(WorkerSetup(environment=QUIET, configuration=configuration()), ["cpu"] * workers, router=router)
    with started(pool, workers):
        yield MeasuredFloor(pool, router, Pictures(quality))


@contextmanager
def started(pool: Executor, workers: int) -> Iterator[Executor]:
    """The pool with all its workers ready, closed at the end. Raises what keeps it from starting."""
    pool.start()
    try:
        until = time.monotonic() + READY_SECONDS
        while pool.room() < workers:
            pool.poll(0.1)
            trouble = pool.trouble()
            if trouble is not None:
                raise trouble
            if time.monotonic() > until:
                raise TimeoutError(f"The workers were not ready within {READY_SECONDS:.0f} s.")
        yield pool
    finally:
        pool.close(5.0)


def measure_services(quality: str, samples: int) -> dict[tuple[str, bool], list[float]]:
    """Seconds of each kind of job on one worker, with the picture's stages in its cache and without.

    A second target on a worker that never saw the picture is a first edit there.
    """
    services: dict[tuple[str, bool], list[float]] = {(kind, warm): [] for kind in KINDS for warm in (False, True)}
    with local_floor(1, quality) as floor:

        def timed(kind: str, number: int, picture: str) -> float:
            ask = Ask(picture, number, kind, 0, 0.0)
            place = floor.place([ask])
            assert place is not None
            begun = time.perf_counter()
            floor.begin(ask, place[1])
            floor.wait(float("inf"))
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


def measure_overhead(quality: str, rounds: int, pools: Mapping[str, Executor]) -> dict[str, dict[str, float]]:
    """Median seconds of a mask move whose stages are cached, directly in this process and through each executor."""
    from ..worker.edit_bench import EditBench

    job = Pictures(quality).job(Ask("overhead", 1, MASK, 0, 0.0))
    bench = EditBench.from_configuration(configuration())
    found = {"direct": {"seconds": _median(lambda: bench.run(job.request, job.blobs, lambda event: None), rounds)}}
    for name, pool in pools.items():
        with started(pool, 1):

            def through(pool: Executor = pool) -> None:
                place = pool.place([job.affinity])
                assert place is not None
                pool.submit(job, place[1])
                while not any(isinstance(report.event, (Done, Failed)) for report in pool.poll(1.0)):
                    pass

            seconds = _median(through, rounds)
        found[name] = {"seconds": seconds, "overhead": seconds - found["direct"]["seconds"]}
    return found


def overhead_pools(with_ray: bool) -> dict[str, Executor]:
    """One worker of each executor, with the bundled model on the CPU."""
    pools: dict[str, Executor] = {
        "local": LocalPool(WorkerSetup(environment=QUIET, configuration=configuration()), ["cpu"])
    }
    if with_ray:
        from ..executors.ray_pool import RayPool, RaySetup
        from ..executors.worker_slot import Patience

        options = {"include_dashboard": False, "object_store_memory": 128 << 20}
        setup = RaySetup(node_ip="127.0.0.1", gpus=0, configuration=configuration(), environment=QUIET, options=options)
        pools["ray"] = RayPool(setup, 1, Patience())
    return pools


def _median(call: Callable[[], object], rounds: int) -> float:
    call()  # fills the cache
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return median(times)


def as_lists(services: Services) -> dict[str, list[float]]:
    """For JSON: "kind, warm" and "kind, cold"."""
    return {f"{kind}, {'warm' if warm else 'cold'}": list(found) for (kind, warm), found in services.items()}
