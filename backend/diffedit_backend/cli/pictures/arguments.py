"""The arguments of `diffedit edit` and `diffedit mask`, and which of them exclude each other."""

from __future__ import annotations

import argparse
from pathlib import Path

from diffedit_protocol.errors import SchemaError
from diffedit_protocol.messages import MAX_VARIATIONS, METHODS, QUALITIES, SEGMENTS, Adapter

from ..arguments import (
    DEFAULT_SUGGESTIONS,
    STANDARD_STREAM,
    add_connect_argument,
    add_memory_arguments,
    number,
    whole_number,
)

_LONGEST = 4096  # px that a mask can grow or be feathered by
_LAST_SEED = 2**32 - 1
# What only a model in this process can be asked for; a running backend has loaded its models as its owner chose.
_OF_THIS_PROCESS = ("device", "precision", "offload", "vae", "vae_tiles", "segmenter")
# What a search for a mask depends on, and their values where they are not given.
_OF_A_SEARCH = {
    "threshold": None,
    "attention": None,
    "segment": "",
    "grow": 0,
    "feather": 0,
    "soft_map_out": None,
}


def adapter(text: str) -> Adapter:
    """NAME or NAME=WEIGHT. Raises ArgumentTypeError."""
    name, _, weight = text.partition("=")
    try:
        return Adapter(name, float(weight or 1.0))
    except (ValueError, SchemaError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def strengths(text: str) -> tuple[float, ...]:
    """Numbers above 0 and at most 1 with commas between, each once. Raises ArgumentTypeError."""
    strength = number(0, 1, open_ends="low")
    return tuple(dict.fromkeys(strength(part) for part in text.split(",")))


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
    parser.add_argument(
        "--threshold",
        type=number(0, 1, open_ends="both"),
        metavar="T",
        help="0 to 1, lower finds more (default: automatic)",
    )
    parser.add_argument(
        "--grow",
        type=whole_number(-_LONGEST, _LONGEST),
        default=0,
        metavar="PX",
        help="grow the mask, negative shrinks it",
    )
    parser.add_argument(
        "--feather", type=whole_number(0, _LONGEST), default=0, metavar="PX", help="soften the mask's edge"
    )
    parser.add_argument(
        "--matting", action="store_true", help="make the edge of the mask an alpha matte, for hair and fur"
    )
    parser.add_argument(
        "--attention",
        type=number(0, 1),
        metavar="SHARE",
        help="0 to 1: weigh this share of the map by where the changed words look (default: the method's, 0)",
    )
    parser.add_argument(
        "--segment",
        choices=[rule for rule in SEGMENTS if rule],
        default="",
        help="look for the words that change with a segmenter: multiply its map into the one of the difference, or "
        "replace that by it",
    )
    parser.add_argument(
        "--segmenter",
        metavar="NAME",
        help="the segmenter of --segment: a CLIPSeg or SAM 3 folder or hub id (default: the one in your data folder)",
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
    place.add_argument(
        "--model",
        metavar="NAME",
        help="bundled (the default), a folder, a .safetensors file or a hub id; with --connect: one of the backend",
    )
    place.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the best)")
    add_memory_arguments(place)
    place.add_argument(
        "--no-safety-checker",
        dest="safety",
        action="store_false",
        help="do not use the checker of a model that has one",
    )
    add_connect_argument(place, "use a running backend")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that are there already, whatever they are (results of this program, as it left them, are "
        "replaced anyway)",
    )
    parser.set_defaults(wrong_usage=parser.error)


def check_arguments(args: argparse.Namespace) -> None:
    """Ends the program with code 2 where an argument would go unheeded beside another."""
    if args.connect is not None:
        for name in _OF_THIS_PROCESS:
            if getattr(args, name) is not None:
                args.wrong_usage(
                    f"{_option(name)} is for edits in this process; with --connect the backend's owner chose"
                )
        if not args.safety:
            args.wrong_usage(
                "--no-safety-checker is for edits in this process; with --connect the backend's owner chose"
            )
    if getattr(args, "mask", None) is not None:
        for name, default in _OF_A_SEARCH.items():
            if getattr(args, name) != default:
                args.wrong_usage(f"{_option(name)} is for a mask that is searched, but --mask gives one")
    streams = [args.picture, args.selection, getattr(args, "mask", None), getattr(args, "csv", None)]
    if streams.count(STANDARD_STREAM) + (args.connect == str(STANDARD_STREAM)) > 1:
        args.wrong_usage("only one input can be standard input (-)")
    if args.segmenter is not None and not args.segment:
        args.wrong_usage("--segmenter is the model of --segment, which is not given")
    if getattr(args, "suggester", None) is not None and args.suggest is None:
        args.wrong_usage("--suggester is the language model of --suggest, which is not given")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


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
    parser.add_argument(
        "--guidance", type=number(0, 50), metavar="G", help="weight of the words (default: the model's)"
    )
    parser.add_argument(
        "--detail",
        action="store_true",
        help="draw an edit that is larger than the model's pictures at the picture's own resolution, in windows; slow",
    )
    parser.add_argument(
        "--blend",
        action=argparse.BooleanOptionalAction,
        help="join the edit's colours to the picture around the mask, and clear what is left of an old thing beside a "
        "new one (default: with the method 'fast')",
    )
    parser.add_argument(
        "--inversion",
        metavar="TEXT",
        help="invert the picture under this text, such as its caption by `diffedit describe`; not with --connect",
    )
    parser.add_argument(
        "--suggest",
        type=whole_number(1),
        nargs="?",
        const=DEFAULT_SUGGESTIONS,
        metavar="N",
        help="average each text with N wordings that a language model suggests for it, see `diffedit suggest` "
        f"(N: {DEFAULT_SUGGESTIONS})",
    )
    parser.add_argument("--suggester", metavar="NAME", help="the language model of --suggest: a folder or hub id")
    parser.add_argument("--seed", type=whole_number(0, _LAST_SEED), default=0, help="(default: 0)")
    parser.add_argument(
        "--variations",
        type=whole_number(1, MAX_VARIATIONS),
        default=1,
        metavar="N",
        help=f"1 to {MAX_VARIATIONS} results: OUT-1, OUT-2, ...",
    )
