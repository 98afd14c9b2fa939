"""`diffedit train-bundled`: train, judge, look at and export the model that ships with the package."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

HELP = "train the bundled model from its generator of scenes (stop and resume at will)"
STAGES = ("vae", "decoder", "unet", "judge", "evaluate", "export", "samples")


def default_folder() -> Path:
    """Where checkpoints go: $XDG_CACHE_HOME/diffedit/training or ~/.cache/diffedit/training."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffedit" / "training"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stage",
        choices=STAGES,
        required=True,
        help="in this order: vae, unet, then decoder (sharper pictures, same latents); judge needs none of them; "
        "evaluate and export read the last checkpoint",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes", type=float, help="length of the stage over all its sittings, in minutes of training"
    )
    length.add_argument("--steps", type=int, help="length of the stage in steps: deterministic from the seed")
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
    parser.add_argument("--learning-rate", type=float, help="peak learning rate of the unet stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--count", type=int, default=48, help="evaluate: held-out edits of each kind (default: %(default)s)"
    )
    parser.add_argument(
        "--kinds", default="swap", help="evaluate: kinds of edit, with commas between (default: %(default)s)"
    )
    parser.add_argument("--weights", type=Path, help="evaluate: a diffusers folder instead of the checkpoint")
    parser.add_argument("--out", type=Path, help="judge, export, samples: where to write (default: the package itself)")


def _widths(text: str) -> tuple[int, ...]:
    widths = tuple(int(part) for part in text.split(","))
    if len(widths) != 3 or any(width < 16 or width % 16 for width in widths):
        raise argparse.ArgumentTypeError(f"three multiples of 16 with commas between, not {text}")
    return widths


def run(args: argparse.Namespace) -> int:
    # Idle OpenMP threads that spin would steal the cores from the other worker.
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.stage in ("vae", "decoder", "unet"):
        _train(args)
    elif args.stage == "judge":
        from . import judge_training as judge
        from .judge import judge_folder

        judge.train(args.out or judge_folder(), args.seed)
    elif args.stage == "evaluate":
        _evaluate(args)
    elif args.stage == "export":
        from diffedit_backend.bundled import weights_folder

        from .card import model_card
        from .export import export
        from .record import record

        target = args.out or weights_folder()
        size = export(args.folder, target, model_card(args.folder), record(args.folder))
        print(f"{size / 1e6:.1f} MB in {target}")
    else:
        from diffedit_backend.bundled.samples import samples_folder

        from .samples import write_samples

        write_samples(args.out or samples_folder())
    return 0


def _train(args: argparse.Namespace) -> None:
    from . import autoencoder
    from . import denoiser as unet
    from .budget import Budget
    from .distributed import launch

    workers = args.workers or (2 if args.device == "cpu" else 1)
    budget = Budget(args.steps, args.minutes)
    if args.stage == "unet":
        batch = args.batch or (6 if args.device == "cpu" else 256)
        rate = args.learning_rate or unet.PEAK_LEARNING_RATE
        settings = unet.TrainingSettings(
            args.seed,
            batch,
            args.fresh,
            rate,
            args.start_from,
            args.prediction,
            args.widths or unet.WIDTHS,
            args.min_snr,
            args.compile,
            args.data_workers,
        )
        launch(unet.train, workers, args.device, args.folder, budget, settings, args.resume)
        return
    batch = args.batch or (8 if args.device == "cpu" else 128)
    train = autoencoder.train_vae if args.stage == "vae" else autoencoder.train_decoder
    launch(train, workers, args.device, args.folder, budget, args.seed, batch, args.resume)


def _evaluate(args: argparse.Namespace) -> None:
    import json

    import torch

    from .evaluate import Parts, evaluate
    from .export import averaged_parts
    from .judge import Judge

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    parts = Parts.load(args.weights, args.device) if args.weights else averaged_parts(args.folder)
    judge = Judge.load()
    report = {}
    for kind in args.kinds.split(","):
        report[kind] = evaluate(parts, judge, args.count, kind, args.folder / f"evaluate-{kind}.png")
        print(kind, report[kind], flush=True)
    if not args.weights:
        (args.folder / "evaluate.json").write_text(json.dumps({"count": args.count, "kinds": report}, indent=2))
