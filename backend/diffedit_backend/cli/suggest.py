"""`diffedit suggest`: further wordings of a text, to be averaged with it; for `diffedit edit --suggest` too."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from diffedit_protocol.messages import MAX_PROMPT_CHARACTERS

from .arguments import DEFAULT_SUGGESTIONS, whole_number
from .terminal import print_json

HELP = "suggest further wordings of a text, by a language model (FLAN-T5)"


def add_arguments(parser: argparse.ArgumentParser) -> None:

    parser.add_argument("text", metavar="TEXT", help="what is there, or should be: 'a horse'")
    parser.add_argument("--suggester", metavar="NAME", help="a T5 or FLAN-T5 folder, or a hub id (default: see docs)")
    parser.add_argument(
        "--count",
        type=whole_number(1),
        default=DEFAULT_SUGGESTIONS,
        metavar="N",
        help=f"ask for this many; equal ones are written once (default: {DEFAULT_SUGGESTIONS})",
    )
    parser.add_argument("--seed", type=whole_number(0, 2**32 - 1), default=0, help="(default: 0)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the best)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--line", action="store_true", help="write one line, ready for --source or --target")
    form.add_argument("--json", action="store_true", help="write a JSON list")


def run(args: argparse.Namespace) -> int:
    from ..method.wordings import wordings

    (text,) = suggested_texts((args.text,), args.count, args.suggester, args.seed, args.device)
    if args.line:
        print(text)
    elif args.json:
        print_json(wordings(text))
    else:
        print("\n".join(wordings(text)))
    return 0


def suggested_texts(texts: Sequence[str], count: int, name: str | None, seed: int, device: str | None) -> list[str]:
    """Each text with up to `count` further wordings of its first, as many as a request has room for.

    name: a folder or hub id; None takes the model in the data folder, else the default's. Raises ModelError,
    BadInputError.
    """
    from ..method.wordings import joined, wordings
    from ..models.catalogue.folders import kept_suggester
    from ..models.catalogue.word_models import DEFAULT_SUGGESTER
    from ..models.suggesting import check_suggestions, load_suggester

    for text in texts:
        check_suggestions(text, count)
    suggester = load_suggester(name or kept_suggester() or DEFAULT_SUGGESTER, device)
    return [
        joined([*wordings(text), *suggester.suggest(wordings(text)[0], count, seed)], MAX_PROMPT_CHARACTERS)
        for text in texts
    ]
