"""`diffedit edit`: change what the words say, in a picture file or in many."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "edit a picture file, or many: what is there, and what should be there"
EXIT_CODES = """\
many pictures: IN is a folder or a quoted glob, OUT a folder; --csv names the words of each picture, in the columns
  file, source, target and any of negative, threshold, grow, feather, strength, guidance, quality, method, seed,
  variations, mask, selection. Results that are there already, made from the same, are skipped.

exit codes: 0 everything done; 1 failed, with a sentence (of many: at least one failed); 2 wrong usage; 130 interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from .pictures.arguments import add_edit_arguments, add_picture_arguments

    parser.epilog = EXIT_CODES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("picture", type=Path, metavar="IN", help="the picture, any size and mode; a folder; a glob")
    parser.add_argument(
        "result", type=Path, metavar="OUT", help="where to write the result; .png keeps everything; a folder for many"
    )
    add_picture_arguments(parser, words_required=False)
    add_edit_arguments(parser)
    parser.add_argument("--csv", type=Path, metavar="TABLE", help="the words of each of many pictures")
    parser.add_argument("--json", action="store_true", help="write one line of JSON for each picture")
    parser.set_defaults(wrong_usage=parser.error)


def run(args: argparse.Namespace) -> int:
    if args.csv is not None or args.picture.is_dir() or _is_glob(args.picture):
        from .pictures.bulk import run_bulk

        for name in ("mask_out", "soft_map_out", "inversion"):
            if getattr(args, name) is not None:
                args.wrong_usage(f"--{name.replace('_', '-')} is for one picture only")
        if len(args.strength) > 1:
            args.wrong_usage("several strengths are for one picture only; the table's column `strength` has one a row")
        args.strength = args.strength[0]
        if args.suggest is not None:
            args.wrong_usage("--suggest is for one picture only; `diffedit suggest --line` writes texts for the table")
        return run_bulk(args)
    if args.inversion is not None and args.connect is not None:
        args.wrong_usage("--inversion is for edits in this process: leave --connect out")
    if args.source is None or args.target is None:
        args.wrong_usage("--source and --target are needed: what is there, and what should be there")
    from .pictures.job import run_edit

    return run_edit(args)


def _is_glob(path: Path) -> bool:
    return not path.exists() and any(character in str(path) for character in "*?[")
