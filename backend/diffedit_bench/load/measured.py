"""A floor of real worker processes with the bundled model, in real time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from diffedit_backend.executors.base import Executor, Job
from diffedit_backend.executors.local import LocalPool
from diffedit_backend.executors.routing import BEHIND, Router
from diffedit_backend.executors.worker_process import WorkerSetup
from diffedit_protocol.blobs import pack_picture
from diffedit_protocol.messages import Cancelled, Done, EditRequest, Failed
from diffedit_training.scenes.art import CLASSES
from diffedit_training.scenes.scenes import SIZE, Scenes

from .artists import MASK, TARGET, Ask

QUIET = {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error", "OMP_NUM_THREADS": "1"}
READY_SECONDS = 300.0
SILENT_SECONDS = 300.0  # without a word of any worker, while jobs run: they will not end any more
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
    """Real workers, in real time. wait() raises what keeps all of them from working."""

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
        heard = self.now()
        while True:
            ended = []
            for report in self._pool.poll(max(0.0, min(0.2, until - self.now()))):
                heard = self.now()
                if isinstance(report.event, (Done, Failed, Cancelled)):
                    ask = next(ask for ask, job in self._jobs.items() if job.id == report.job)
                    del self._jobs[ask]
                    ended.append((ask, not isinstance(report.event, Done)))
            if ended or self.now() >= until:
                return ended
            trouble = self._pool.trouble()
            if trouble is not None:
                raise trouble
            if self.now() - heard > SILENT_SECONDS:
                raise TimeoutError(f"No worker said anything for {SILENT_SECONDS:.0f} s: {self._pool.workers()}")


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
