"""`diffedit describe`: what a picture shows, in words for --source."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "say what a picture shows, by a captioning model (BLIP)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", type=Path, metavar="IN", help="the picture")
    parser.add_argument(
        "--captioner",
        metavar="NAME",
        help="a BLIP folder or hub id (default: the one in your data folder, else BLIP's base model)",
    )
    parser.add_argument("--count", type=int, default=1, metavar="N", help="this many different captions (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of several captions (default: 0)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the best)")
    parser.add_argument("--json", action="store_true", help="write a JSON list")


def run(args: argparse.Namespace) -> int:
    import json

    from diffedit_protocol.errors import BadInputError

    from ..imaging.alpha import composite_on_white
    from ..imaging.files import read_picture
    from ..models.captioning import load_captioner
    from ..models.catalogue.folders import kept_captioner
    from ..models.catalogue.word_models import DEFAULT_CAPTIONER

    if args.count < 1:
        raise BadInputError(f"--count must be at least 1, not {args.count}.")
    picture = read_picture(args.picture)
    captioner = load_captioner(args.captioner or kept_captioner() or DEFAULT_CAPTIONER, args.device)
    captions = captioner.describe(composite_on_white(picture.pixels), args.count, args.seed)
    print(json.dumps(captions, ensure_ascii=False) if args.json else "\n".join(captions))
    return 0
