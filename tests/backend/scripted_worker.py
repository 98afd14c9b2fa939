"""A worker without a model, for faults that no model should have to be talked into. Started in place of the real one.

The source text is its script, word by word:

    steps=20       steps of the stage "editing" (default 3)      pause=0.01     seconds before each step
    hold=PATH      wait before the last step until there is a file PATH
    die=5          end the process at step 5                     die=finding    ... in that stage (each has one step)
    hang=5         stop reacting at step 5                       lost=5         report a lost device at step 5
    oom            report that the memory was too small          fault          raise an exception of no known kind
    bytes=N        make the result's picture N bytes large (a multiple of 4096), in RGBA
    child=PATH     start a process that holds this one's standard error for minutes, and write its number to PATH
    asked          note which of the optional fields the request asks for

Its result's mask is the picture's first channel; its one edit is the picture itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffedit_backend.worker.loop import DeviceLost, Finished, ReportStep, work
from diffedit_backend.worker.pipe import claim_standard_streams
from diffedit_protocol.blobs import blob_id, pack_plane, unpack_picture
from diffedit_protocol.errors import ModelError, OutOfMemoryError
from diffedit_protocol.messages import STAGES, Bounds, EditRequest, EditResult, Manifest, PictureRef, Preview, Progress
from diffedit_protocol.replies import AUTOMATIC_GROW, OPTIONAL_FIELDS

ROW = 1024  # px of a result of a given size


class ScriptedRunner:
    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def load(self) -> dict[str, Any]:
        if self._fields.get("unusable") or Path(self._fields.get("away", os.devnull)).is_file():
            raise ModelError("The scripted model cannot be loaded.")
        time.sleep(self._fields.get("load_seconds", 0.0))
        reported = {"mattes": self._fields["mattes"]} if "mattes" in self._fields else {}
        return {"device": "script", "device_name": "a script", **reported}

    def usage(self) -> dict[str, Any]:
        return {"device_memory": 0}

    def run(self, request: EditRequest, blobs: Mapping[str, bytes], report: ReportStep) -> Finished:
        script = {word.partition("=")[0]: word.partition("=")[2] or "1" for word in request.source.split()}
        if "child" in script:
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], stdin=subprocess.DEVNULL)
            Path(script["child"]).write_text(str(child.pid))
        pause = float(script.get("pause", 0))
        for stage in STAGES:
            total = int(script.get("steps", 3)) if stage == "editing" else 1
            for step in range(1, total + 1):
                time.sleep(pause)
                if "hold" in script and stage == "editing" and step == total:
                    _wait_for(Path(script["hold"]))
                at = (stage, str(step)) if stage == "editing" else (stage,)
                if script.get("die") in at:
                    os.kill(os.getpid(), signal.SIGKILL)
                if script.get("hang") in at:
                    time.sleep(3600)
                if script.get("lost") in at:
                    raise DeviceLost("CUDA error: an illegal memory access was encountered")
                report(Progress(stage, step, total))
                if stage == "editing" and request.preview:
                    report(Preview(64, 64, bytes([step % 256]) * (64 * 64 * 3)))
        if "oom" in script:
            raise OutOfMemoryError("The script ran out of memory.")
        if "fault" in script:
            raise ZeroDivisionError("a fault")
        notes = tuple(
            ("ASKED", name)
            for name in (*OPTIONAL_FIELDS, AUTOMATIC_GROW)
            if "asked" in script and getattr(request, name)
        )
        return _echo(request, blobs, int(script.get("bytes", 0)), notes)


def _wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def _echo(request: EditRequest, blobs: Mapping[str, bytes], size: int, notes: tuple[tuple[str, str], ...]) -> Finished:
    picture = request.picture
    assert picture is not None
    raw = unpack_picture(picture, blobs[picture.blob])
    mask, packed = pack_plane(raw[:: picture.channels], picture.width, picture.height)
    if size:
        raw, width, height = os.urandom(size), ROW, size // ROW // 4
    else:
        width, height = picture.width, picture.height
    edit = PictureRef(blob_id(raw), width, height, 4 if size else picture.channels)
    bounds = Bounds(0, 0, width, height)
    edits = (EditResult(request.seed, edit),)
    manifest = Manifest(mask, bounds, 0.5, edits=edits, model="script", evaluations=1, notes=notes)
    return Finished(manifest, {mask.blob: packed, edit.blob: raw})


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(work(claim_standard_streams(), ScriptedRunner))
