"""`diffedit bench processor`: which precision and how many threads are quickest on this machine's processor."""

from __future__ import annotations

import argparse
import json

HELP = "time one step of networks of three sizes in each precision, in one thread and in all; compare their edits"
SIZES = ("bundled", "quarter", "sd15")
PRECISIONS = ("fp32", "bf16", "fp16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--size",
        action="append",
        choices=SIZES,
        help="the bundled model; random weights in the shape of Stable Diffusion 1, or that with a quarter of its "
        "channels (default: all three; sd15 takes 7 GB and minutes)",
    )
    parser.add_argument(
        "--precision", action="append", choices=PRECISIONS, help="may be given again (default: all three)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed, in turn (default: 5)")
    parser.add_argument(
        "--scenes", type=int, default=8, help="held-out scenes whose edits are compared with those in fp32 (default: 8)"
    )
    parser.add_argument("--json", action="store_true", help="write JSON")


def run(args: argparse.Namespace) -> int:
    from .run import compare_edits, processor_name, table, time_steps

    precisions = tuple(args.precision or PRECISIONS)
    steps = [row for size in args.size or SIZES for row in time_steps(size, precisions, args.rounds)]
    edits = [compare_edits(precision, args.scenes) for precision in precisions if precision != "fp32" and args.scenes]
    if args.json:
        rows = {"steps": [row.to_json() for row in steps], "edits": [row.to_json() for row in edits]}
        print(json.dumps({"processor": processor_name(), **rows}, indent=2))
    else:
        print(table(processor_name(), steps, edits))
    return 0
