"""The most memory that tensors take at once while something runs, weights not counted."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from diffedit_backend.editing import edit_picture
from diffedit_backend.method.mask import final_mask
from PIL import Image
from tqdm import tqdm

from .sides import EngineSide, PipelineSide, Result, Subject, synchronise


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Bytes allocated at the peak of `work()` beyond those allocated before, by torch, on the device or on the CPU."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    # The averaged tables of the profiler lose the order of events; the peak needs it.
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


SCENARIOS = ("first_edit", "second_target", "second_target_inversion_kept", "four_variations")


_OF_SIDE = {
    "library": SCENARIOS,
    "reference": ("first_edit",),
    "paper": ("first_edit",),
    "fast": ("first_edit", "second_target", "four_variations"),
}


# The side in px of a picture whose threshold an artist moves; how often it is moved, and how often by a whole request.
MOVED_SIDE, MOVES, REQUESTS = 1024, 20, 3


@dataclass(frozen=True)
class Row:
    """One run of one scenario on one side, or one figure of it.

    seconds: by the chosen clock. results: pictures that came. stages: seconds by stage, on the wall. equal: whether
    mask and picture are the library's (None where they need not be). peak_bytes: of the mask stage. share_of_peak: of
    the device's arithmetic, where that is known.
    """

    scenario: str
    side: str
    pair: int
    seconds: float | None = None
    evaluations: int | None = None
    results: int | None = None
    stages: dict[str, float] | None = None
    equal: bool | None = None
    peak_bytes: int | None = None
    share_of_peak: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def time_pairs(subject: Subject, steps: int, pairs: int, clock: str) -> list[Row]:
    """All rows: a run of each to warm up, then `pairs` rounds, every other one in reverse order."""
    sides: list[PipelineSide | EngineSide] = [EngineSide("fast", subject), EngineSide("paper", subject)]
    if subject.has_library_side:
        sides += [PipelineSide("reference", subject, steps), PipelineSide("library", subject, steps)]
    tflop = subject.tflop_per_evaluation()
    rows: list[Row] = []
    with tqdm(total=(pairs + 1) * len(sides), unit="side", desc="bench speed") as bar:
        for pair in range(-1, pairs):
            found: list[Row] = []
            results: dict[tuple[str, str], Result] = {}
            for side in sides if pair % 2 else sides[::-1]:
                bar.set_postfix_str(side.name, refresh=False)
                for scenario in _OF_SIDE[side.name]:
                    row, results[scenario, side.name] = _timed(subject, side, scenario, pair, tflop, CLOCKS[clock])
                    found.append(row)
                found.append(Row("mask", side.name, pair, peak_bytes=peak_bytes(side.find_mask, subject.model.device)))
                bar.update()
            if pair >= 0:
                rows += [_compared(row, results) for row in found]
    return rows + list(_moved(subject, CLOCKS[clock]))


def _timed(
    subject: Subject, side: Any, scenario: str, pair: int, tflop: float, clock: Callable[[], float]
) -> tuple[Row, Result]:
    work: Callable[[], Result] = getattr(side, scenario)
    with _evaluations(subject) as counted:
        synchronise(subject)
        start = clock()
        result = work()
        synchronise(subject)
        seconds = clock() - start
    peak = subject.peak_tflops
    share = None if peak is None else sum(counted) * tflop / (seconds * peak)
    row = Row(
        scenario, side.name, pair, seconds, sum(counted), len(result.pictures), result.seconds, share_of_peak=share
    )
    return row, result


@contextmanager
def _evaluations(subject: Subject) -> Iterator[list[int]]:
    """The batch sizes that go through the UNet meanwhile."""
    sizes: list[int] = []

    def count(_unet: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = args[0] if args else kwargs.get("sample", kwargs.get("hidden_states"))
        assert given is not None
        sizes.append(len(given))

    hook = subject.model.denoiser.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield sizes
    finally:
        hook.remove()


def _compared(row: Row, results: dict[tuple[str, str], Result]) -> Row:
    """The row, with whether the reference mode gave what the library gave: the same mask, pixels within rounding."""
    if row.side != "reference" or row.results is None:
        return row
    ours, theirs = results[row.scenario, "reference"], results[row.scenario, "library"]
    pixels = [
        np.abs(a.astype(int) - b.astype(int)).max() <= 1 for a, b in zip(ours.pictures, theirs.pictures, strict=True)
    ]
    same_mask = np.array_equal(np.asarray(ours.mask), np.asarray(theirs.mask))
    return replace(row, equal=bool(same_mask and all(pixels)))


def _moved(subject: Subject, clock: Callable[[], float]) -> Iterator[Row]:
    """Thresholds moved on a picture of 1024 px whose soft map is known: on the map, and as a whole request."""
    side = EngineSide("fast", subject)
    picture = np.asarray(Image.fromarray(subject.picture).resize((MOVED_SIDE, MOVED_SIDE), Image.Resampling.BICUBIC))
    request = side.mask_request()
    soft_map = edit_picture(side.engine, request, picture).soft_map
    assert soft_map is not None  # it is None only for a mask that was handed in
    thresholds = np.linspace(0.3, 0.6, MOVES).tolist()
    for index, threshold in enumerate(thresholds):
        for scenario, grow, feather in (("moved_threshold", 0, 0), ("moved_grow_and_feather", 4, 12)):
            start = clock()
            final_mask(soft_map, threshold, grow, feather, None)
            yield Row(scenario, "fast", index, clock() - start, 0)
    for index, threshold in enumerate(thresholds[:REQUESTS]):
        with _evaluations(subject) as counted:
            start = clock()
            edit_picture(side.engine, replace(request, threshold=threshold), picture)
            yield Row("moved_threshold_request", "fast", index, clock() - start, sum(counted))
