"""How long each kind of job takes on one worker, with its picture's stages in the cache and without."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from .artists import FIRST, KINDS, MASK, TARGET, Ask, Served
from .measured import local_floor
from .simulation import Services


def measure_services(quality: str, samples: int) -> Services:
    """Seconds of each kind of job on one real worker that has nothing else to do.

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
            (_, failed), *_ = floor.wait(float("inf"))
            if failed:
                raise TimeoutError(f"A {kind} failed, so its time says nothing.")
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


def services_seen(served: Iterable[Served], otherwise: Services) -> Services:
    """The service times of a measured run; `otherwise` for the kinds that it had none of."""
    seen: dict[tuple[str, bool], list[float]] = {key: [] for key in otherwise}
    for job in served:
        if not job.failed:
            seen[job.ask.kind, job.warm].append(job.seconds)
    return {key: found or otherwise[key] for key, found in seen.items()}


def as_lists(services: Services) -> dict[str, list[float]]:
    """For JSON: "kind, warm" and "kind, cold"."""
    return {f"{kind}, {'warm' if warm else 'cold'}": list(found) for (kind, warm), found in services.items()}


def services_from(lists: Mapping[str, list[float]]) -> Services:
    """What as_lists() made. Raises KeyError when a kind is missing."""
    return {(kind, warm): lists[f"{kind}, {'warm' if warm else 'cold'}"] for kind in KINDS for warm in (False, True)}
