"""diffedit serve: the backend, on this machine or on a GPU box."""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffedit_protocol.errors import BadInputError
from diffedit_protocol.replies import AdapterInfo, ModelInfo

from .arguments import add_memory_arguments, add_state_argument, model_options, number, whole_number

if TYPE_CHECKING:
    from ..executors.ray_pool import RayPool
    from ..executors.worker_slot import Timeouts

# The libraries' progress bars and advice would fill the log.
QUIET = {
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
}
HELP = "run the backend that Krita and other machines talk to"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen",
        action="append",
        metavar="ADDRESS",
        help="local (a socket only you can reach; the default) or tcp://HOST:PORT; may be given again",
    )
    add_state_argument(parser)
    parser.add_argument(
        "--metrics",
        default="",
        metavar="[HOST:]PORT",
        help="answer /healthz and /metrics (Prometheus) over HTTP there, on this machine only unless HOST is given",
    )
    parser.add_argument("--verbose", action="store_true", help="log more")
    _add_model_arguments(parser.add_argument_group("models"))
    _add_worker_arguments(parser.add_argument_group("workers"))
    _add_limit_arguments(parser.add_argument_group("limits"))


def _add_model_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="bundled, a diffusers folder, a .safetensors file or a hub id; again for more, the first is the default "
        "(default: bundled and everything in the models folder, see `diffedit models`)",
    )
    group.add_argument(
        "--models-memory",
        type=number(0, open_ends="low"),
        metavar="GIB",
        help="of the device for the models that are kept loaded, the one in use always (default: as much as is free)",
    )
    add_memory_arguments(group)
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the network: quicker steps, but the first of every size takes minutes, and no LoRA can be used",
    )
    group.add_argument(
        "--no-safety-checker",
        dest="safety",
        action="store_false",
        help="do not use the checker of a model that has one",
    )
    group.add_argument(
        "--captioner",
        metavar="NAME",
        help="a BLIP folder or hub id, to describe pictures with (default: the one in your data folder)",
    )
    group.add_argument(
        "--suggester",
        metavar="NAME",
        help="a T5 or FLAN-T5 folder or hub id, to suggest words with (default: the one in your data folder)",
    )
    group.add_argument(
        "--segmenter",
        metavar="NAME",
        help="a CLIPSeg or SAM 3 folder or hub id, to find what words name (default: the one in your data folder)",
    )


def _add_worker_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--device", action="append", help="cuda:0, mps, cpu, ...; again for one more worker (default: every GPU)"
    )
    group.add_argument(
        "--workers",
        type=whole_number(1),
        metavar="N",
        help="workers on each device (default: 1; on a CPU, each takes a core); with Ray: actors",
    )
    group.add_argument(
        "--threads",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="CPU threads of a worker (default: one for a small model such as the bundled one, else all but one)",
    )
    group.add_argument(
        "--executor",
        choices=("local", "ray"),
        default="local",
        help="where edits run (default: local; see docs/several-gpus.md)",
    )
    group.add_argument(
        "--ray-address", default="", metavar="HOST:PORT", help="head of the Ray cluster (default: one of its own, here)"
    )
    group.add_argument(
        "--ray-node-ip",
        default="",
        metavar="IP",
        help="this machine's address for Ray (default: 127.0.0.1 for a cluster of its own, else what Ray finds)",
    )
    group.add_argument(
        "--ray-patience",
        type=number(0),
        default=30.0,
        metavar="SECONDS",
        help="that edits wait for a cluster that is away, before they end with that error (default: 30)",
    )
    group.add_argument("--ray-cpu-only", action="store_true", help="actors without a GPU")


def _add_limit_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--cache", type=number(0), default=2.0, metavar="GIB", help="memory for cached stages (default: 2)"
    )
    group.add_argument(
        "--queue", type=whole_number(1), default=64, metavar="N", help="jobs that may wait (default: 64)"
    )
    group.add_argument(
        "--keep",
        type=number(0, open_ends="low"),
        default=24.0,
        metavar="HOURS",
        help="how long results wait to be fetched (default: 24)",
    )
    group.add_argument(
        "--disk",
        type=number(0, open_ends="low"),
        default=8.0,
        metavar="GIB",
        help="room for results on disk (default: 8)",
    )
    group.add_argument(
        "--grace", type=number(0), default=20.0, metavar="SECONDS", help="for running jobs when stopped (default: 20)"
    )
    group.add_argument(
        "--step-timeout",
        type=number(0, open_ends="low"),
        default=300.0,
        metavar="SECONDS",
        help="after which a worker is taken for hung (default: 300)",
    )


def run(args: argparse.Namespace) -> int:
    from diffedit_protocol.replies import Limits

    from ..executors.base import Executor
    from ..executors.pool import LocalPool
    from ..executors.worker_process import WorkerSetup
    from ..executors.worker_slot import Timeouts
    from ..krita.krita_installation import sandboxed_data_folders
    from ..models.catalogue.folders import kept_captioner, kept_segmenter, kept_suggester
    from ..server.process import Server
    from ..server.serving import serve
    from ..server.settings import GIB, ServerSettings
    from ..server.state_folder import StateFolder

    models = _named(args.model) if args.model else _all_models()
    captioner, suggester = args.captioner or kept_captioner(), args.suggester or kept_suggester()
    segmenter = args.segmenter or kept_segmenter()
    settings = ServerSettings(
        state=args.state or StateFolder.default().root,
        listen=tuple(args.listen or ["local"]),
        # A backend in a folder of its own is not the one that this user's Kritas look for.
        sandboxes=() if args.state is not None or "DIFFEDIT_HOME" in os.environ else sandboxed_data_folders(),
        models=offered(args.model, _bytes_per_parameter(args)),
        adapters=_adapters,
        describes=captioner is not None,
        suggests=suggester is not None,
        segments=segmenter is not None,
        mattes=importlib.util.find_spec("pymatting") is not None,
        limits=Limits(result_seconds=args.keep * 3600),
        queue=args.queue,
        disk_bytes=int(args.disk * GIB),
        grace=args.grace,
        metrics=args.metrics,
    )
    configuration = {"models": models, "cache_bytes": int(args.cache * GIB), "threads": args.threads}
    configuration |= {"captioner": captioner, "suggester": suggester, "segmenter": segmenter}
    configuration["model_options"] = model_options(args).to_fields()
    configuration["models_bytes"] = None if args.models_memory is None else int(args.models_memory * GIB)
    timeouts = Timeouts(step=args.step_timeout, cluster=args.ray_patience)
    pool: Executor
    if args.executor == "ray":
        pool = _ray_pool(args, configuration, timeouts)
    else:
        pool = LocalPool(WorkerSetup(environment=QUIET, configuration=configuration), _worker_devices(args), timeouts)

    def announce(server: Server) -> None:
        device = server.info().device
        print(
            f"ready {' '.join(server.endpoints)} model={next(iter(models))} device={device!r} pid={os.getpid()}",
            flush=True,
        )

    serve(settings, pool, announce, verbose=args.verbose)
    return 0


def offered(models: list[str], bytes_per_parameter: int) -> tuple[ModelInfo, ...]:
    """What clients are told of the models that the owner named; of the bundled one and all kept ones for none named."""
    chosen = _named(models) if models else _all_models()
    return tuple(_info(name, place, bytes_per_parameter) for name, place in chosen.items())


def _all_models() -> dict[str, str]:
    from ..models.catalogue.folders import BUNDLED, kept_models

    return {BUNDLED: BUNDLED} | {name: str(place) for name, place in kept_models().items()}


def _named(models: list[str]) -> dict[str, str]:
    """Short names that clients ask by, each with what to load. Raises BadInputError when two names are equal."""
    named: dict[str, str] = {}
    for model in models:
        path = Path(model).expanduser()
        is_here = model != "bundled" and path.exists()
        # A hub id keeps its slash: organisations have models of equal names.
        name = (path.stem if path.is_file() else path.name) if is_here else model
        if name in named:
            raise BadInputError(f"Two models are called {name!r}: {named[name]!r} and {model!r}. Rename one of them.")
        named[name] = str(path.resolve()) if is_here else model
    return named


def _info(name: str, model: str, bytes_per_parameter: int) -> ModelInfo:
    """What clients are told of a model, read from its settings; of one on the hub only its name is known yet."""
    from ..models.catalogue.folders import model_path
    from ..models.catalogue.listing import entry_of

    place = model_path(model)
    if not place.exists():
        return ModelInfo(name)
    entry = entry_of(name, place)
    return ModelInfo(name, entry.family, entry.size, entry.bytes_in_memory(bytes_per_parameter), entry.fault)


def _bytes_per_parameter(args: argparse.Namespace) -> int:
    """Of the workers' precision: half on a GPU, single on a CPU, unless the owner says otherwise."""
    single, half = 4, 2
    if args.precision is not None:
        return single if args.precision == "fp32" else half
    devices = args.device or _devices()
    on_gpu = any(device.startswith(("cuda", "mps")) for device in devices) or sys.platform == "darwin"
    return half if on_gpu else single


def _adapters() -> tuple[AdapterInfo, ...]:
    """What lies in the adapters folder at this moment."""
    from ..models.catalogue.adapter_files import adapters

    return tuple(AdapterInfo(entry.name, entry.kind, entry.family, entry.word) for entry in adapters())


def _ray_pool(args: argparse.Namespace, configuration: dict[str, Any], timeouts: Timeouts) -> RayPool:
    """Raises BadInputError for what no Ray cluster can be asked."""
    from ..executors.ray_pool import RayPool, RaySetup
    from ..server.settings import GIB

    if importlib.util.find_spec("ray") is None:
        raise BadInputError("Ray is not installed here. Install it: pip install 'krita-diffedit[ray]'.")
    if "://" in args.ray_address:
        raise BadInputError(
            f"--ray-address is {args.ray_address!r}; give HOST:PORT of the head, and run `ray start --address` "
            "with it on this machine first."
        )
    setup = RaySetup(
        address=args.ray_address,
        node_ip=args.ray_node_ip or ("" if args.ray_address else "127.0.0.1"),
        gpus=0 if args.ray_cpu_only else 1,
        configuration={**configuration, "device": "cpu" if args.ray_cpu_only else "auto"},
        environment=QUIET,
        # 512 MiB of shared memory hold the pictures on their way; what is more goes to the disk.
        options={} if args.ray_address else {"include_dashboard": False, "object_store_memory": GIB // 2},
    )
    return RayPool(setup, args.workers or len(_devices()), timeouts)


def _worker_devices(args: argparse.Namespace) -> list[str]:
    """One device per worker."""
    workers = 1 if args.workers is None else args.workers
    return [device for device in args.device or _devices() for _ in range(workers)]


def _devices() -> list[str]:
    """One worker per NVIDIA GPU, else one on the best device. The driver is asked: this process has no torch."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ["auto"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = listed.count("GPU ") if visible is None else len([entry for entry in visible.split(",") if entry.strip()])
    return [f"cuda:{index}" for index in range(count)] or ["auto"]
