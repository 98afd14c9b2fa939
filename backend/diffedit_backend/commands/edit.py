"""`diffedit edit`: change what the words say, in a picture file."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "edit a picture file: what is there, and what should be there"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..command_line.picture_arguments import add_edit_arguments, add_picture_arguments

    parser.add_argument("picture", type=Path, metavar="IN", help="the picture; any size and mode")
    parser.add_argument("result", type=Path, metavar="OUT", help="where to write the result; .png keeps everything")
    add_picture_arguments(parser)
    add_edit_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from ..command_line.picture_job import run_edit

    return run_edit(args)
