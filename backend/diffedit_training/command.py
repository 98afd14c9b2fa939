"""`diffedit train-bundled`: train, judge, look at and export the model that ships with the package."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffedit_protocol.errors import BadInputError

if TYPE_CHECKING:
    from .denoiser import TrainingSettings
    from .judge_training import Plan

HELP = "train the bundled model from its generator of scenes (stop and resume at will)"
STAGES = ("all", "vae", "decoder", "unet", "judge", "evaluate", "export", "samples")


EDITIONS = (1, 2)


def default_folder() -> Path:
    """Where checkpoints go: $XDG_CACHE_HOME/diffedit/training or ~/.cache/diffedit/training."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffedit" / "training"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stage",
        choices=STAGES,
        required=True,
        help="in this order: vae, unet, then decoder (sharper pictures, same latents); judge needs none of them; "
        "evaluate and export read the best checkpoint; all: everything from nothing to the exported model",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes", type=float, help="length of the stage over all its sittings, in minutes of training"
    )
    length.add_argument("--steps", type=int, help="length of the stage in steps: deterministic from the seed")
    length.add_argument("--budget", type=float, metavar="MINUTES", help="all: minutes for everything together")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument(
        "--folder", type=Path, default=default_folder(), help="checkpoints and logs (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="single-threaded processes (default: 2 on cpu, 1 on cuda)")
    parser.add_argument("--batch", type=int, help="pictures (vae, decoder) or pairs (unet) per step and worker")
    parser.add_argument(
        "--fresh", type=float, default=1.0, help="new pairs per unet step and worker (default: %(default)s)"
    )
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="FOLDER",
        help="unet: begin with the weights of this exported model, for example the one that ships with the package",
    )
    parser.add_argument(
        "--prediction",
        choices=("v_prediction", "flow"),
        default="v_prediction",
        help="unet: what the network learns to predict; flow is rectified flow, which today's large models use "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--widths",
        type=_widths,
        metavar="A,B,C",
        help="unet: channels of its levels, multiples of 16 (default: 64,128,192); 80,160,256 is 37 MB",
    )
    parser.add_argument(
        "--min-snr", type=float, metavar="G", help="unet: weigh timesteps by min(SNR, G) / (SNR + 1), for example 5"
    )
    parser.add_argument("--compile", action="store_true", help="unet: compile it, for a GPU")
    parser.add_argument(
        "--data-workers", type=int, default=0, help="unet: processes that render scenes (default: none but this)"
    )
    parser.add_argument(
        "--scenes", type=int, choices=EDITIONS, help="edition of the scenes (default: 1; 2 for the stage all)"
    )
    parser.add_argument(
        "--size", type=_size, help="px: width and height of the scenes (default: 128; 256 for the stage all)"
    )
    parser.add_argument(
        "--pool", type=int, help="all: pairs of scenes kept on the device (default: 512 on cpu, 16384 on cuda)"
    )
    parser.add_argument(
        "--judge-scenes", type=int, help="judge, all: scenes to train the judge on (default: 8000; edition 2: 24000)"
    )
    parser.add_argument(
        "--score-pairs",
        type=int,
        default=24,
        help="all: held-out edits of each kind by which the checkpoint is chosen (default: %(default)s)",
    )
    parser.add_argument("--learning-rate", type=float, help="peak learning rate of the unet stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--count", type=int, default=48, help="evaluate: held-out edits of each kind (default: %(default)s)"
    )
    parser.add_argument(
        "--kinds", default="swap", help="evaluate: kinds of edit, with commas between (default: %(default)s)"
    )
    parser.add_argument("--weights", type=Path, help="evaluate: a diffusers folder instead of the checkpoint")
    parser.add_argument(
        "--out",
        type=Path,
        help="judge, export, samples: where to write (default: the package itself); all: default FOLDER/exported",
    )


def _size(text: str) -> int:
    size = int(text)
    if size < 64 or size % 32:
        raise argparse.ArgumentTypeError(f"a multiple of 32 from 64 on, not {text}")
    return size


def _widths(text: str) -> tuple[int, ...]:
    widths = tuple(int(part) for part in text.split(","))
    if len(widths) != 3 or any(width < 16 or width % 16 for width in widths):
        raise argparse.ArgumentTypeError(f"three multiples of 16 with commas between, not {text}")
    return widths


def run(args: argparse.Namespace) -> int:
    # Idle OpenMP threads that spin would steal the cores from the other worker.
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if args.budget is not None and args.stage != "all":
        raise BadInputError(f"--budget is for the stage all; give the stage {args.stage} --minutes.")
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.stage == "all":
        _all(args)
    elif args.stage in ("vae", "decoder", "unet"):
        _train(args)
    elif args.stage == "judge":
        from . import judge_training
        from .judge import judge_folder

        plan = _judge_plan(args)
        judge_training.train(args.out or judge_folder(plan.edition), args.seed, plan)
    elif args.stage == "evaluate":
        _evaluate(args)
    elif args.stage == "export":
        from diffedit_backend.bundled import weights_folder

        from .export import export, model_card
        from .record import record

        target = args.out or weights_folder()
        size = export(args.folder, target, model_card(args.folder), record(args.folder))
        print(f"{size / 1e6:.1f} MB in {target}")
    else:
        from diffedit_backend.bundled import samples_folder

        from .samples import write_samples

        write_samples(args.out or samples_folder())
    return 0


def _judge_plan(args: argparse.Namespace) -> Plan:
    from .judge_training import Plan
    from .scenes.edition import edition

    number = args.scenes or 1
    usual, test, epochs = {1: (8000, 1500, 10), 2: (24000, 2000, 8)}[number]
    training = args.judge_scenes or usual
    size = args.size or {1: 128, 2: 256}[number]
    return Plan(edition(number), size, training, min(test, training), epochs, args.device, args.data_workers)


def _all(args: argparse.Namespace) -> None:
    from .run_all import Run, run_all

    if args.minutes is not None or (args.budget is None and args.steps is None):
        raise BadInputError("Give the stage all its --budget in minutes, or --steps for each of its stages.")
    on_gpu = args.device != "cpu"
    cores = os.cpu_count() or 1
    args.scenes, args.size = args.scenes or 2, args.size or 256
    args.widths = args.widths or (80, 160, 256)
    args.min_snr = 5.0 if args.min_snr is None else args.min_snr
    args.compile = args.compile or on_gpu
    judge_processes = max(1, cores // 4)
    settings = replace(_unet_settings(args, batch=192), journal_every=15.0 if on_gpu else 60.0)
    run = Run(
        device=args.device,
        minutes=args.budget,
        steps=args.steps,
        denoiser=settings,
        picture_batch=args.batch or 128,
        pool=args.pool or (16384 if on_gpu else 512),
        renderers=args.data_workers or max(1, cores - judge_processes - 1),
        judge_scenes=_judge_plan(args).training_scenes,
        judge_processes=judge_processes,
        score_pairs=args.score_pairs,
        evaluation_pairs=args.count,
    )
    run_all(args.folder, args.out or args.folder / "exported", run, args.resume)


def _unet_settings(args: argparse.Namespace, batch: int) -> TrainingSettings:
    from . import denoiser as unet

    return unet.TrainingSettings(
        args.seed,
        args.batch or (6 if args.device == "cpu" else batch),
        args.fresh,
        args.learning_rate or unet.PEAK_LEARNING_RATE,
        args.start_from,
        args.prediction,
        args.widths or unet.WIDTHS,
        args.min_snr,
        args.compile,
        args.data_workers,
        args.scenes or 1,
        args.size or 128,
    )


def _train(args: argparse.Namespace) -> None:
    from . import autoencoder
    from . import denoiser as unet
    from .budget import Budget
    from .distributed import launch

    workers = args.workers or (2 if args.device == "cpu" else 1)
    budget = Budget(args.steps, args.minutes)
    if args.stage == "unet":
        settings = _unet_settings(args, batch=256)
        launch(unet.train, workers, args.device, args.folder, budget, settings, args.resume)
        return
    if args.scenes not in (None, 1) or args.size not in (None, 128):
        raise BadInputError(f"The stage {args.stage} alone knows the scenes 1 at 128 px; others are for the stage all.")
    batch = args.batch or (8 if args.device == "cpu" else 128)
    train = autoencoder.train_vae if args.stage == "vae" else autoencoder.train_decoder
    run = autoencoder.StageRun(args.folder, budget, args.seed, batch, args.resume)
    launch(train, workers, args.device, run)


def _evaluate(args: argparse.Namespace) -> None:
    import json

    import torch

    from .evaluate import Parts, evaluate
    from .export import averaged_parts
    from .judge import Judge
    from .scenes.edition import edition

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    parts = Parts.load(args.weights, args.device) if args.weights else averaged_parts(args.folder)
    scenes = edition(args.scenes or 1)
    trained = args.folder / "judge"
    judge = Judge.load(trained if scenes.number != 1 and trained.is_dir() else None, scenes)
    report = {}
    for kind in args.kinds.split(","):
        report[kind] = evaluate(parts, judge, args.count, kind, args.folder / f"evaluate-{kind}.png")
        print(kind, report[kind], flush=True)
    if not args.weights:
        (args.folder / "evaluate.json").write_text(json.dumps({"count": args.count, "kinds": report}, indent=2))
