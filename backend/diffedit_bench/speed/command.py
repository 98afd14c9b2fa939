"""`diffedit bench speed`: edits of ours and of the library's deprecated pipeline, side by side in one run."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "time edits beside the library's pipeline: first edit, second target, variations, moved threshold, memory"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder for report.json and report.md")
    parser.add_argument(
        "--size",
        choices=("bundled", "tiny", "sd15", "sdxl", "tiny-flow", "sd35-medium", "flux2-klein-4b", "z-image"),
        default="bundled",
        help="the bundled model, or random weights in the shape of another (default: bundled)",
    )
    parser.add_argument(
        "--steps", type=int, default=50, help="steps of the library and of our reference mode (default: 50, theirs)"
    )
    parser.add_argument("--pairs", type=int, default=5, help="how often everything is timed in turn (default: 5)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the best there is)")
    parser.add_argument("--dtype", choices=("fp32", "fp16", "bf16"), help="precision (default: fp16 on a GPU)")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="what to compare: time on the wall, or this process's processor time, steadier on a busy machine without"
        " a GPU (default: wall)",
    )
    parser.add_argument(
        "--memory-gib",
        type=float,
        help="on a GPU: let torch take at most this much, to see what an edit does where memory is short",
    )
    parser.add_argument("--compile", action="store_true", help="compile our network (a slow first run)")


def run(args: argparse.Namespace) -> int:
    from .report import write_report
    from .run import time_pairs
    from .sides import load_subject

    if args.memory_gib is not None:
        _cap_memory(args.device, args.memory_gib)
    subject = load_subject(args.size, args.device, args.dtype, args.compile)
    rows = time_pairs(subject, args.steps, args.pairs, args.clock)
    print(write_report(args.out, subject, rows, args.clock))
    return 0


def _cap_memory(device: str | None, gib: float) -> None:
    """Have torch refuse allocations beyond so many GiB of the GPU. Raises BadInputError where there is none."""
    import torch
    from diffedit_backend.models.device import choose_device
    from diffedit_protocol.errors import BadInputError

    chosen = choose_device(device)
    if chosen.type != "cuda":
        raise BadInputError(f"--memory-gib is for a GPU, and the device here is {chosen.type!r}. Leave it out.")
    total = torch.cuda.get_device_properties(chosen).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, gib * 2**30 / total), chosen)
