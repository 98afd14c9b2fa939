"""The most memory that tensors take at once while something runs, weights not counted."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch


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
