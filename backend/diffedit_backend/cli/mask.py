"""`diffedit mask`: find where two texts disagree about a picture file."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "find the mask of an edit and write it as a grey picture"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from .pictures.arguments import add_picture_arguments

    parser.add_argument("picture", type=Path, metavar="IN", help="the picture; any size and mode")
    parser.add_argument("mask_out", type=Path, metavar="MASK", help="where to write the mask, white = changed")
    add_picture_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from .pictures.job import run_mask

    return run_mask(args)
