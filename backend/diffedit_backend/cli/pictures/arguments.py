"""The arguments of `diffedit edit` and `diffedit mask`."""

from __future__ import annotations

import argparse
from pathlib import Path

from diffedit_protocol.errors import SchemaError
from diffedit_protocol.messages import MAX_VARIATIONS, METHODS, QUALITIES, Adapter

from ..arguments import add_memory_arguments

DEFAULT_SUGGESTIONS = 16  # as many as the library's removed guide for DiffEdit averaged


def adapter(text: str) -> Adapter:
    """NAME or NAME=WEIGHT. Raises ArgumentTypeError."""
    name, _, weight = text.partition("=")
    try:
        return Adapter(name, float(weight or 1.0))
    except (ValueError, SchemaError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def strengths(text: str) -> tuple[float, ...]:
    """Numbers with commas between, each once. Raises ArgumentTypeError."""
    try:
        return tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"numbers with commas between, not {text!r}") from error


def add_picture_arguments(parser: argparse.ArgumentParser, *, words_required: bool = True) -> None:
    """What finding a mask depends on, and where it runs."""
    parser.add_argument(
        "--source", required=words_required, metavar="TEXT", help="what is there, e.g. 'a horse on grass'"
    )
    parser.add_argument(
        "--target", required=words_required, metavar="TEXT", help="what should be there, e.g. 'a zebra on grass'"
    )
    parser.add_argument(
        "--selection", type=Path, metavar="PNG", help="limit the search to this grey picture's light part"
    )
    parser.add_argument("--threshold", type=float, metavar="T", help="0 to 1, lower finds more (default: automatic)")
    parser.add_argument("--grow", type=int, default=0, metavar="PX", help="grow the mask, negative shrinks it")
    parser.add_argument("--feather", type=int, default=0, metavar="PX", help="soften the mask's edge")
    parser.add_argument(
        "--matting", action="store_true", help="make the edge of the mask an alpha matte, for hair and fur"
    )
    parser.add_argument(
        "--attention",
        type=float,
        metavar="SHARE",
        help="0 to 1: weigh this share of the map by where the changed words look (default: the method's, 0)",
    )
    parser.add_argument("--soft-map-out", type=Path, metavar="PNG", help="write the map that the threshold cuts")
    parser.add_argument("--method", choices=METHODS, default="fast", help="(default: fast)")
    parser.add_argument("--quality", choices=QUALITIES, default="normal", help="(default: normal)")
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        type=adapter,
        metavar="NAME[=WEIGHT]",
        help="a LoRA or a textual inversion of the adapters folder; may be given again",
    )
    place = parser.add_argument_group("where it runs")
    place.add_argument("--model", default="bundled", help="bundled, a folder, a .safetensors file or a hub id")
    place.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the best)")
    add_memory_arguments(place)
    place.add_argument(
        "--no-safety-checker",
        dest="safety",
        action="store_false",
        help="do not use the checker of a model that has one",
    )
    place.add_argument(
        "--connect",
        nargs="?",
        const="",
        metavar="LINE",
        help="use a running backend: this machine's, or that of a connection line",
    )


def add_edit_arguments(parser: argparse.ArgumentParser) -> None:
    """What only an edit has."""
    parser.add_argument("--mask", type=Path, metavar="PNG", help="use this mask as it is instead of searching one")
    parser.add_argument("--mask-out", type=Path, metavar="PNG", help="write the mask that was used")
    parser.add_argument("--negative", default="", metavar="TEXT", help="what the result should not show")
    parser.add_argument(
        "--strength",
        type=strengths,
        default=(0.8,),
        metavar="R[,R...]",
        help="encoding ratio, 0 to 1 (default: 0.8); several give OUT-sR for each and share mask and inversion",
    )
    parser.add_argument("--guidance", type=float, metavar="G", help="weight of the words (default: the model's)")
    parser.add_argument(
        "--detail",
        action="store_true",
        help="draw an edit that is larger than the model's pictures at the picture's own resolution, in windows; slow",
    )
    parser.add_argument(
        "--inversion",
        metavar="TEXT",
        help="invert the picture under this text, such as its caption by `diffedit describe`; not with --connect",
    )
    parser.add_argument(
        "--suggest",
        type=int,
        nargs="?",
        const=DEFAULT_SUGGESTIONS,
        metavar="N",
        help="average each text with N wordings that a language model suggests for it, see `diffedit suggest` "
        f"(N: {DEFAULT_SUGGESTIONS})",
    )
    parser.add_argument("--suggester", metavar="NAME", help="the language model of --suggest: a folder or hub id")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument(
        "--variations", type=int, default=1, metavar="N", help=f"1 to {MAX_VARIATIONS} results: OUT-1, OUT-2, ..."
    )
