"""Animated pictures: which frames show the same, as Krita draws a layer anew at its keyframes only; and a layer whose
keyframes show a result over the frames that were edited, and nothing else.

Krita's Python interface can set no keyframe. A layer that is read from a file has those of the file; so an empty one is
written with the keyframes that are wanted, and opened without a view. Frame by frame it is painted there.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Sequence

from krita import Document, Krita, Node

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


_MAINDOC = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE DOC PUBLIC '-//KDE//DTD krita 2.0//EN' 'http://www.calligra.org/DTD/krita-2.0.dtd'>
<DOC xmlns="http://www.calligra.org/DTD/krita" editor="Krita" kritaVersion="5.1.5" syntaxVersion="2.0">
 <IMAGE name="frames" mime="application/x-kra" width="{width}" height="{height}" x-res="72" y-res="72"
        colorspacename="RGBA" profile="sRGB-elle-V2-srgbtrc.icc">
  <layers>
   <layer nodetype="paintlayer" name="frames" filename="layer1" visible="1" locked="0" x="0" y="0" opacity="255"
          compositeop="normal" colorspacename="RGBA" channelflags="" channellockflags="" collapsed="0" colorlabel="0"
          onionskin="0" intimeline="1" keyframes="layer1.keyframes.xml"/>
  </layers>
  <animation><framerate type="value" value="24"/><range type="timerange" from="0" to="{last}"/></animation>
 </IMAGE>
</DOC>
"""
_KEYFRAMES = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE keyframes PUBLIC '-//KDE//DTD krita-keyframes 1.0//EN'
 'http://www.calligra.org/DTD/krita-keyframes-1.0.dtd'>
<keyframes xmlns="http://www.calligra.org/DTD/krita-keyframes">
 <channel name="content">
{keyframes}
 </channel>
</keyframes>
"""
_KEYFRAME = '<keyframe time="{time}" color-label="0" frame="{frame}"><offset type="point" x="0" y="0"/></keyframe>'
_NO_TILES = "VERSION 2\nTILEWIDTH 64\nTILEHEIGHT 64\nPIXELSIZE 4\nDATA 0\n"


def keyframes_of(spans: Sequence[FrameSpan]) -> list[int]:
    """Where a layer needs keyframes to show something in each of `spans`, and nothing before, between and after."""
    times = {0, *(span.first for span in spans), *(span.after for span in spans if span.after is not None)}
    return sorted(times)


def sheet_with_keyframes(document: Document, times: Sequence[int]) -> Document:
    """A document as large as `document`, in its colour space, whose one layer is empty and has keyframes at `times`.

    The caller closes it (`colour.discard`).
    """
    frames = [f"layer1.f{i}" if i else "layer1" for i in range(len(times))]
    keyframes = "\n".join(_KEYFRAME.format(time=time, frame=frame) for time, frame in zip(times, frames, strict=True))
    size = {"width": document.width(), "height": document.height()}
    descriptor, path = tempfile.mkstemp(suffix=".kra")
    os.close(descriptor)
    application = Krita.instance()
    quiet = application.batchmode()
    try:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("mimetype", "application/x-krita")
            archive.writestr("maindoc.xml", _MAINDOC.format(last=times[-1] + 1, **size))
            archive.writestr("frames/layers/layer1.keyframes.xml", _KEYFRAMES.format(keyframes=keyframes))
            for frame in frames:
                archive.writestr(f"frames/layers/{frame}", _NO_TILES)
                archive.writestr(f"frames/layers/{frame}.defaultpixel", bytes(4))
        application.setBatchmode(True)  # no question about the profile, which the file does not hold
        sheet = application.openDocument(path)
    finally:
        application.setBatchmode(quiet)
        os.unlink(path)
    sheet.setBatchmode(True)
    sheet.setColorSpace(document.colorModel(), document.colorDepth(), document.colorProfile())
    sheet.waitForDone()
    return sheet
