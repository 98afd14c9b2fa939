"""`diffedit mask`: find where two texts disagree about a picture file."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "find the mask of an edit and write it as a grey picture"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from .pictures.arguments import add_picture_arguments

    parser.add_argument("picture", type=Path, metavar="IN", help="the picture, any size and mode; - for standard input")
    parser.add_argument(
        "mask_out", type=Path, metavar="MASK", help="where to write the mask, white = changed (- for standard output)"
    )
    add_picture_arguments(parser)
    parser.add_argument("--json", action="store_true", help="write a line of JSON")


def run(args: argparse.Namespace) -> int:
    from .arguments import STANDARD_STREAM
    from .pictures.arguments import check_arguments
    from .pictures.job import run_mask

    check_arguments(args)
    if args.mask_out == STANDARD_STREAM and args.json:
        args.wrong_usage("standard output (-) holds the mask: no --json")
    return run_mask(args)
