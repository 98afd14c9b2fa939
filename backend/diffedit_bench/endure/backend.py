"""`python -m diffedit_bench.endure.backend`: the real server, with workers that give each picture back instead of an
edit of it, so that an hour costs little and every result can be checked to the last byte.

The source text says what the worker does: "steps=20 pause=0.05" takes its time, "die" ends its process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

from diffedit_backend.executors.pool import LocalPool
from diffedit_backend.executors.worker_process import WorkerSetup
from diffedit_backend.executors.worker_slot import Timeouts
from diffedit_backend.server.process import Server
from diffedit_backend.server.serving import serve
from diffedit_backend.server.settings import ServerSettings
from diffedit_backend.server.state_folder import StateFolder
from diffedit_backend.worker.loop import Finished, ReportStep, work
from diffedit_backend.worker.pipe import claim_standard_streams
from diffedit_protocol.blobs import pack_plane, unpack_picture
from diffedit_protocol.errors import BadInputError
from diffedit_protocol.messages import Bounds, EditRequest, EditResult, Manifest, Preview, Progress
from diffedit_protocol.replies import Limits, ModelInfo

PREVIEW_SIDE = 64
CACHE_BYTES = 32 << 20  # of pictures: filled within minutes, so that what grows afterwards is a leak


class Echo:
    """A runner whose edit is the picture and whose mask is the picture's first channel."""

    def __init__(self, _fields: Mapping[str, Any]) -> None:
        pass

    def load(self) -> dict[str, Any]:
        return {"device": "none", "device_name": "gives pictures back"}

    def usage(self) -> dict[str, Any]:
        return {"device_memory": 0}

    def run(self, request: EditRequest, blobs: Mapping[str, bytes], report: ReportStep) -> Finished:
        picture = request.picture
        if picture is None:
            raise BadInputError("The request names no picture.")
        words = dict(word.partition("=")[::2] for word in request.source.split())
        if "die" in words:
            os.kill(os.getpid(), signal.SIGKILL)
        steps = int(words.get("steps", "3"))
        for step in range(1, steps + 1):
            time.sleep(float(words.get("pause", "0")))
            report(Progress("editing", step, steps))
            if request.preview:
                report(Preview(PREVIEW_SIDE, PREVIEW_SIDE, bytes([step % 256]) * (PREVIEW_SIDE**2 * 3)))
        raw = unpack_picture(picture, blobs[picture.blob])
        mask, packed = pack_plane(raw[:: picture.channels], picture.width, picture.height)
        bounds = Bounds(0, 0, picture.width, picture.height)
        edits = (EditResult(request.seed, picture),)
        return Finished(Manifest(mask, bounds, 0.5, edits=edits, model="echo"), {mask.blob: packed, picture.blob: raw})


def main(arguments: list[str]) -> int:
    if arguments == ["worker"]:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return work(claim_standard_streams(), Echo)
    settings = ServerSettings(
        state=StateFolder.default().root,
        listen=("local", "tcp://127.0.0.1:0"),
        models=(ModelInfo("echo"),),
        limits=Limits(stored_bytes=CACHE_BYTES // 2, blob_bytes=CACHE_BYTES // 4),
        queue=256,
        upload_bytes=CACHE_BYTES,
        result_bytes=CACHE_BYTES,
    )
    command = (sys.executable, "-m", "diffedit_bench.endure.backend", "worker")
    pool = LocalPool(WorkerSetup(command=command), ["none", "none"], Timeouts(back_off=0.2, back_off_most=2.0))

    def announce(server: Server) -> None:
        print("ready", *server.endpoints, flush=True)

    serve(settings, pool, announce)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
