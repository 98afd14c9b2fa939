"""`diffedit suggest`: further wordings of a text, to be averaged with it."""

from __future__ import annotations

import argparse

HELP = "suggest further wordings of a text, by a language model (FLAN-T5)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from .pictures.arguments import DEFAULT_SUGGESTIONS

    parser.add_argument("text", metavar="TEXT", help="what is there, or should be: 'a horse'")
    parser.add_argument("--suggester", metavar="NAME", help="a T5 or FLAN-T5 folder, or a hub id (default: see docs)")
    parser.add_argument(
        "--count",
        type=int,
        default=DEFAULT_SUGGESTIONS,
        metavar="N",
        help=f"ask for this many; equal ones are written once (default: {DEFAULT_SUGGESTIONS})",
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the best)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--line", action="store_true", help="write one line, ready for --source or --target")
    form.add_argument("--json", action="store_true", help="write a JSON list")


def run(args: argparse.Namespace) -> int:
    import json

    from ..method.wordings import wordings
    from .pictures.suggestions import suggested_texts

    (text,) = suggested_texts((args.text,), args.count, args.suggester, args.seed, args.device)
    if args.line:
        print(text)
    else:
        print(json.dumps(wordings(text), ensure_ascii=False) if args.json else "\n".join(wordings(text)))
    return 0
