"""Which frames of an animated picture show the same: Krita draws a layer anew at its keyframes only."""

from __future__ import annotations

from collections.abc import Sequence

from krita import Document, Node

from ..model.ports import FrameSpan


def span_at(document: Document, nodes: Sequence[Node], time: int) -> FrameSpan | None:
    """The frames around `time` in which none of `nodes` has a keyframe; None where none of them is animated."""
    animated = [node for node in nodes if node.animated()]
    if not animated:
        return None

    def is_key(frame: int) -> bool:
        return any(node.hasKeyframeAtTime(frame) for node in animated)

    first = time
    while first > 0 and not is_key(first):
        first -= 1
    after = next((frame for frame in range(time + 1, document.fullClipRangeEndTime() + 1) if is_key(frame)), None)
    return FrameSpan(time, first, after)


def spans_in(document: Document, nodes: Sequence[Node], first: int, last: int) -> list[FrameSpan]:
    """The frames from `first` to `last` in parts that show the same; [] where none of `nodes` is animated."""
    found, time = [], first
    while time <= last:
        span = span_at(document, nodes, time)
        if span is None:
            return []
        after = span.after
        if after is None or after > last:
            after = None if last >= document.fullClipRangeEndTime() else last + 1
        found.append(FrameSpan(time, time, after))
        time = last + 1 if after is None else after
    return found


def go_to(document: Document, time: int) -> None:
    """Shows the frame `time`. (Krita makes that a step of its history: for copies, and where it cannot be helped.)"""
    if document.currentTime() != time:
        document.setCurrentTime(time)
        document.waitForDone()
