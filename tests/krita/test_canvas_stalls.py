"""Krita never freezes: the longest that its main thread is away while a picture is captured and a result is added.

`addChildNode` is the one call that cannot be split: it composes the whole new layer into the picture before it returns.
All else goes in strips, one a turn of the event loop; that is asserted. The milliseconds depend on the machine and are
printed: `pytest -s tests/krita/test_canvas_stalls.py`.
"""

from __future__ import annotations

import pytest
from diffedit_backend.krita_host.remote import RemoteKrita


def edit_large(stage, side, model, depth, profile):
    """Captures and answers a whole layer of side × side px; -> longest step and longest stall of each half, in ms."""
    import os
    import time

    from diffedit.canvas import apply
    from diffedit.canvas.area import Area
    from diffedit.canvas.capture import capture_steps
    from diffedit.canvas.colour import DIRECT_STRIP
    from diffedit_driver.stage import Heartbeat

    document = yield from stage.new(side, side, model, depth, profile)
    layer = document.activeNode()
    if depth == "U8":
        layer.setPixelData(os.urandom(side * 4) * side, 0, 0, side, side)
    yield from stage.settle()
    yield 0.5
    unsplittable = []

    def timed_add(document, node, layer):
        wall, own = time.perf_counter(), time.thread_time()
        original(document, node, layer)
        unsplittable.append((time.perf_counter() - wall, time.thread_time() - own))

    def run(steps):
        beat, longest, value, turns = Heartbeat(), 0.0, None, 0
        while value is None:
            turns += 1
            begun = time.thread_time()
            try:
                next(steps)
            except StopIteration as stop:
                value = stop.value
            own = time.thread_time() - begun
            if unsplittable and value is not None:
                own -= unsplittable[0][1]
            longest = max(longest, own)
            yield 0
        return value, longest * 1000, beat.stop(), turns

    captured, capture_step, capture_stall, capture_turns = yield from run(capture_steps(document, layer))
    area = Area(0, 0, side, side)
    pixels, mask = os.urandom(side * 4) * side, b"\xff" * side * side
    original, apply.add = apply.add, timed_add
    try:
        addition = apply.Addition("result", area, pixels, mask, area)
        _, apply_step, apply_stall, apply_turns = yield from run(apply.apply_steps(captured.place, addition))
    finally:
        apply.add = original
    return {
        "capture step": capture_step,
        "capture stall": capture_stall,
        "apply step": apply_step,
        "apply stall": apply_stall,
        "addChildNode": unsplittable[0][0] * 1000,
        "strips": -(-side * side // DIRECT_STRIP),
        "capture turns": capture_turns,
        "apply turns": apply_turns,
    }


@pytest.mark.parametrize(
    ("side", "model", "depth", "profile"),
    [
        (1024, "RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc"),
        (2048, "RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc"),
        (4096, "RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc"),
        (1024, "RGBA", "U16", "sRGB-elle-V2-g10.icc"),
    ],
)
def test_capture_and_apply_give_krita_a_turn_after_every_strip(
    krita: RemoteKrita, side: int, model: str, depth: str, profile: str
) -> None:
    told = krita.run(edit_large, side=side, model=model, depth=depth, profile=profile, limit=120)
    print(f"{side} x {side} {model} {depth}, ms:", {name: round(value) for name, value in told.items()})
    assert told["capture turns"] > told["strips"]
    assert told["apply turns"] > told["strips"]
