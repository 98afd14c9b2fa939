"""`diffedit bench speed`: edits of ours and of the library's deprecated pipeline, side by side in one run."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "time edits beside the library's pipeline: first edit, second target, variations, moved threshold, memory"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder for report.json and report.md")
    parser.add_argument(
        "--size",
        choices=("bundled", "tiny", "sd15", "sdxl"),
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
    parser.add_argument("--compile", action="store_true", help="compile our UNet (a slow first run)")


def run(args: argparse.Namespace) -> int:
    from .report import write_report
    from .run import time_pairs
    from .sides import load_subject

    subject = load_subject(args.size, args.device, args.dtype, args.compile)
    rows = time_pairs(subject, args.steps, args.pairs, args.clock)
    print(write_report(args.out, subject, rows, args.clock))
    return 0
