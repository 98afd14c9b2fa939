"""What `diffedit bench krita` and the tests run on Krita's main thread: see `RemoteKrita.run` for how it gets there."""

from __future__ import annotations


def edit_large(stage, side, model, depth, profile):
    """Captures and answers a whole layer of side × side px; longest step and longest stall of each half, in ms; how
    long it takes to read the layer, and to read it again where nothing was changed.

    "apply stall beyond addChildNode" leaves out of every stall what lies within that call.
    """
    import os
    import time

    from diffedit.canvas import apply
    from diffedit.canvas.capture import capture_steps
    from diffedit.canvas.colour import DIRECT_STRIP
    from diffedit.model.ports import Addition
    from diffedit_driver.stage import Heartbeat
    from diffedit_protocol.messages import Bounds

    stage.expect_dialogs = True  # Krita says that one has to wait, where adding a layer takes it long
    document = yield from stage.new(side, side, model, depth, profile)
    layer = document.activeNode()
    if depth == "U8":
        layer.setPixelData(os.urandom(side * 4) * side, 0, 0, side, side)
    yield from stage.refresh()
    yield 0.5
    unsplittable = []

    def timed_add(document, node, layer):
        wall, own = time.perf_counter(), time.thread_time()
        original(document, node, layer)
        unsplittable.append((wall, time.perf_counter(), time.thread_time() - own))

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
                own -= unsplittable[0][2]
            longest = max(longest, own)
            yield 0
        beat.stop()
        return value, longest * 1000, beat, turns

    begun = time.perf_counter()
    captured, capture_step, capture_beat, capture_turns = yield from run(capture_steps(document, layer))
    reading = 1000 * (time.perf_counter() - begun)
    begun = time.perf_counter()
    yield from run(capture_steps(document, layer, before=captured))
    again = 1000 * (time.perf_counter() - begun)
    area = Bounds(0, 0, side, side)
    pixels, mask = os.urandom(side * 4) * side, b"\xff" * side * side
    original, apply.add = apply.add, timed_add
    try:
        addition = Addition("result", area, pixels, mask, area)
        _, apply_step, apply_beat, apply_turns = yield from run(apply.apply_steps(captured.layer_ref, addition))
    finally:
        apply.add = original
    # Where Krita waits for its own threads it draws and reads the pen meanwhile: the call is not always one stall.
    begun, ended, _ = unsplittable[0]
    return {
        "reading": reading,
        "reading again": again,
        "capture step": capture_step,
        "capture stall": capture_beat.longest(),
        "apply step": apply_step,
        "apply stall": apply_beat.longest(),
        "apply stall beyond addChildNode": apply_beat.longest(begun, ended),
        "addChildNode": (ended - begun) * 1000,
        "strips": -(-side * side // DIRECT_STRIP),
        "capture turns": capture_turns,
        "apply turns": apply_turns,
    }


def drag_threshold(stage, side, feather, form):
    """Moves the live threshold over a side × side px layer; updates a second by the clock and by the thread's time.
    Then the slider rests, and the mask is shown with all its px: how long that takes, and the longest stall.

    `feather`: px, None for default settings: grow and feather that fit the size. `form`: "overlay", "selection" or
    "selectionmask". "left behind" counts the masks and selections that remain.
    """
    import time

    from diffedit.canvas.layers import layer_ref
    from diffedit.canvas.live_mask import LiveMask
    from diffedit.canvas.mask_shape import plane_of
    from diffedit.model.inputs import EditInputs
    from diffedit.model.ports import Fingerprint, FoundMask, MaskValues
    from diffedit_driver.qt import QImage, Qt
    from diffedit_driver.stage import Heartbeat
    from diffedit_protocol.messages import Bounds

    usual = EditInputs()
    grow, feather = (usual.grow_px(side), usual.feather_px(side)) if feather is None else (0, feather)
    document = yield from stage.new(side, side)
    layer = document.activeNode()
    # One thing in the middle, some 15 % of the picture, with a soft edge.
    hills = bytes(max(0, 255 - ((x - 32) ** 2 + (y - 30) ** 2) // 3) for y in range(64) for x in range(64))
    small = QImage(hills, 64, 64, 64, QImage.Format.Format_Grayscale8)
    any_aspect, smooth = Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation
    soft = plane_of(small.scaled(side, side, any_aspect, smooth))
    area = Bounds(0, 0, side, side)
    live = LiveMask(FoundMask(layer_ref(document, layer), area, soft, 0.5, Fingerprint(area, 1, ())), form=form)
    live.show(MaskValues(0.5, grow, feather), dragged=True)
    yield 0.5
    beat, updates, shows = Heartbeat(), 40, []
    start, own = time.perf_counter(), time.thread_time()
    for i in range(updates):
        begun = time.perf_counter()
        live.show(MaskValues(0.3 + i / 100, grow, feather), dragged=True)
        shows.append(1000 * (time.perf_counter() - begun))
        yield 0  # Krita draws, and reads the pen
    wall, own = time.perf_counter() - start, time.thread_time() - own
    stall = beat.stop()
    beat, start = Heartbeat(), time.perf_counter()
    yield from stage.run(live.rest_steps(MaskValues(0.5, grow, feather)))
    rest, rest_stall = 1000 * (time.perf_counter() - start), beat.stop()
    live.hide()
    yield 0.2
    return {
        "updates": len(shows),
        "left behind": len(layer.childNodes()) + (document.selection() is not None),
        "updates a second": updates / wall,
        "updates a second of the thread's own time": updates / own,
        "show, median ms": sorted(shows)[len(shows) // 2],
        "longest stall ms": stall,
        "at rest after ms": rest,
        "longest stall at rest ms": rest_stall,
    }
