"""`diffedit edit`: change what the words say, in a picture file or in many."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "edit a picture file, or many: what is there, and what should be there"
EXIT_CODES = """\
many pictures: IN is a folder or a quoted glob, OUT a folder; --csv names the words of each picture, in the columns
  file, source, target and any of negative, threshold, grow, feather, strength, guidance, quality, method, seed,
  variations, mask, selection. Results that are there already, made from the same, are skipped.

exit codes: 0 everything done; 1 failed, with a sentence (of many: at least one failed); 2 wrong usage; 130 interrupted;
  141 nobody reads the output any more
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from .pictures.arguments import add_edit_arguments, add_picture_arguments

    parser.epilog = EXIT_CODES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "picture",
        type=Path,
        metavar="IN",
        help="the picture, any size and mode; a folder; a glob; - for standard input",
    )
    parser.add_argument(
        "result",
        type=Path,
        metavar="OUT",
        help="where to write the result; .png keeps everything; a folder for many; - for standard output",
    )
    add_picture_arguments(parser, words_required=False)
    add_edit_arguments(parser)
    parser.add_argument("--csv", type=Path, metavar="TABLE", help="the words of each of many pictures")
    parser.add_argument("--json", action="store_true", help="write one line of JSON for each picture")


def run(args: argparse.Namespace) -> int:
    from .arguments import STANDARD_STREAM
    from .pictures.arguments import check_arguments
    from .pictures.table import is_glob

    check_arguments(args)
    if args.csv is not None or args.picture.is_dir() or is_glob(args.picture):
        return _run_bulk(args)
    if args.inversion is not None and args.connect is not None:
        args.wrong_usage("--inversion is for edits in this process: leave --connect out")
    if args.source is None or args.target is None:
        args.wrong_usage("--source and --target are needed: what is there, and what should be there")
    if args.result == STANDARD_STREAM and (args.json or args.variations > 1 or len(args.strength) > 1):
        args.wrong_usage("standard output (-) holds one picture: no --json, one strength and one variation")
    from .pictures.job import run_edit

    return run_edit(args)


def _run_bulk(args: argparse.Namespace) -> int:
    from .arguments import STANDARD_STREAM
    from .pictures.bulk import run_bulk

    if STANDARD_STREAM in (args.picture, args.result):
        args.wrong_usage("standard input and output (-) are for one picture only")
    for name in ("mask_out", "soft_map_out", "inversion"):
        if getattr(args, name) is not None:
            args.wrong_usage(f"--{name.replace('_', '-')} is for one picture only")
    if len(args.strength) > 1:
        args.wrong_usage("several strengths are for one picture only; the table's column `strength` has one a row")
    if args.suggest is not None:
        args.wrong_usage("--suggest is for one picture only; `diffedit suggest --line` writes texts for the table")
    args.strength = args.strength[0]
    return run_bulk(args)
