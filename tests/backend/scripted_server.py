"""The real server with scripted workers: `python scripted_server.py SETTINGS`, a JSON map.

Keys of the map: those of ServerSettings (limits and timeouts as maps), "workers" (a number), "script" (what a worker is
configured with), "state_name" (of its folder), "ray" (a map of RaySetup's fields: actors on a Ray cluster in place of
processes), "memory_mib", "file_mib" and "files" (caps on the process's address space, on the size of a file, and on the
number of its file descriptors).
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

from diffedit_backend.executors.base import Executor
from diffedit_backend.executors.pool import LocalPool
from diffedit_backend.executors.ray_pool import RayPool, RaySetup
from diffedit_backend.executors.worker_process import WorkerSetup
from diffedit_backend.executors.worker_slot import Timeouts
from diffedit_backend.server.process import Server
from diffedit_backend.server.serving import serve
from diffedit_backend.server.settings import ServerSettings
from diffedit_protocol.errors import DiffEditError
from diffedit_protocol.replies import Limits, ModelInfo

WORKER = (sys.executable, str(Path(__file__).with_name("scripted_worker.py")))


def main() -> int:
    wishes = json.loads(sys.argv[1])
    if "memory_mib" in wishes:
        resource.setrlimit(resource.RLIMIT_AS, (wishes.pop("memory_mib") << 20,) * 2)
    if "file_mib" in wishes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (wishes.pop("file_mib") << 20,) * 2)
    if "files" in wishes:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wishes.pop("files"),) * 2)
    timeouts = Timeouts(**wishes.pop("timeouts", {}))
    workers, script, ray = wishes.pop("workers", 1), wishes.pop("script", {}), wishes.pop("ray", None)
    settings = ServerSettings(
        state=Path(os.environ["DIFFEDIT_HOME"]) / wishes.pop("state_name", "server"),
        listen=tuple(wishes.pop("listen", ["local"])),
        models=(ModelInfo("script"),),
        limits=Limits(**wishes.pop("limits", {})),
        timeouts=timeouts,
        **wishes,
    )
    pool: Executor
    if ray is not None:
        setup = RaySetup(gpus=0, configuration=script, runner="scripted_worker:ScriptedRunner", **ray)
        pool = RayPool(setup, workers, timeouts)
    else:
        pool = LocalPool(WorkerSetup(command=WORKER, configuration=script), ["script"] * workers, timeouts)

    def announce(server: Server) -> None:
        metrics = [] if server.monitoring is None else [f"http://127.0.0.1:{server.monitoring.port}"]
        print("ready", *server.endpoints, *metrics, flush=True)

    try:
        serve(settings, pool, announce)
    except DiffEditError as error:
        print(error.sentence, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
