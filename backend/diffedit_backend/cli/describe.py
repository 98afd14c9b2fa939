"""`diffedit describe`: what a picture shows, in words for --source."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import whole_number
from .terminal import print_json

HELP = "say what a picture shows, by a captioning model (BLIP)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", type=Path, metavar="IN", help="the picture; - for standard input")
    parser.add_argument(
        "--captioner",
        metavar="NAME",
        help="a BLIP folder or hub id (default: the one in your data folder, else BLIP's base model)",
    )
    parser.add_argument("--count", type=whole_number(1), default=1, metavar="N", help="different captions (default: 1)")
    parser.add_argument("--seed", type=whole_number(0, 2**32 - 1), default=0, help="of several captions (default: 0)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the best)")
    parser.add_argument("--json", action="store_true", help="write a JSON list")


def run(args: argparse.Namespace) -> int:
    from ..imaging.profiles import composite_on_white
    from ..models.captioning import load_captioner
    from ..models.catalogue.folders import kept_captioner
    from ..models.catalogue.word_models import DEFAULT_CAPTIONER
    from .pictures.outputs import read_input

    picture = read_input(args.picture)
    captioner = load_captioner(args.captioner or kept_captioner() or DEFAULT_CAPTIONER, args.device)
    captions = captioner.describe(composite_on_white(picture.pixels), args.count, args.seed)
    if args.json:
        print_json(captions)
    else:
        print("\n".join(captions))
    return 0
