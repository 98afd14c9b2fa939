"""Arguments that several commands have in common: numbers with bounds, the backend to connect to, a model's memory."""

from __future__ import annotations

import argparse
import math
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from diffedit_protocol.connection import SCHEME, Connection
from diffedit_protocol.errors import BadInputError

from ..models.options import ModelOptions
from .terminal import remark

CONNECT_VARIABLE = "DIFFEDIT_CONNECT"
DEFAULT_SUGGESTIONS = 16  # as many as the library's removed guide for DiffEdit averaged
STANDARD_STREAM = Path("-")


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """A type for argparse: an int from `low` to `high`; anything else ends the program with code 2."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < low or (high is not None and value > high):
            limits = f"{low} to {high}" if high is not None else f"{low} or more"
            raise argparse.ArgumentTypeError(f"must be a whole number, {limits}, not {text!r}")
        return value

    return parse


def number(low: float, high: float | None = None, *, open_ends: str = "") -> Callable[[str], float]:
    """A type for argparse: a finite number from `low` to `high`. open_ends: "low", "high" or "both" are not allowed
    themselves."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        above = value > low if open_ends in ("low", "both") else value >= low
        below = high is None or (value < high if open_ends in ("high", "both") else value <= high)
        if not (math.isfinite(value) and above and below):
            first = f"above {low:g}" if open_ends in ("low", "both") else f"{low:g} or more"
            last = "" if high is None else f" and {'below' if open_ends in ('high', 'both') else 'at most'} {high:g}"
            raise argparse.ArgumentTypeError(f"must be a number, {first}{last}, not {text!r}")
        return value

    return parse


def add_state_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", type=Path, help="the server's folder (default: in your data folder)")


def add_connect_argument(parser: argparse._ActionsContainer, purpose: str) -> None:
    """`--connect [FILE]`: None where it is not given, "" where it comes without a file."""
    parser.add_argument(
        "--connect",
        nargs="?",
        const="",
        type=connection_source,
        metavar="FILE",
        help=f"{purpose}: this machine's, that of the connection line in the environment's {CONNECT_VARIABLE}, or in a "
        "file, or on standard input (-)",
    )


def connection_source(text: str) -> str:
    """A file or "-". Raises ArgumentTypeError for a connection line: the list of processes would show its key."""
    if text.strip().startswith(f"{SCHEME}:"):
        raise argparse.ArgumentTypeError(
            "a connection line holds a secret key, and everybody on this machine can read the arguments of programs. "
            f"Put the line into a file that only you may read, or into {CONNECT_VARIABLE}, or give - and paste it"
        )
    return text


def connection_of(source: str) -> Connection:
    """The backend that `--connect` names: a file that holds a connection line (or what the plugin keeps), "-" for
    standard input, "" for the line in DIFFEDIT_CONNECT or, without one, the backend that runs on this machine.

    Raises BadInputError for a line that is none, LinkError when no backend runs here.
    """
    if source == "-":
        return Connection.from_line(sys.stdin.readline())
    if source:
        return _connection_in(Path(source))
    line = os.environ.get(CONNECT_VARIABLE, "")
    return Connection.from_line(line) if line.strip() else Connection.local_backend()


def _connection_in(file: Path) -> Connection:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(
            f"--connect names the file '{file}', which cannot be read: {getattr(error, 'strerror', None) or error}. "
            "It should hold a connection line."
        ) from error
    if text.lstrip().startswith("{"):
        return Connection.from_file(file)
    if sys.platform != "win32" and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        remark(f"Others may read '{file}', which holds a secret key: chmod 600 '{file}'")
    return Connection.from_line(text)


def add_memory_arguments(parser: argparse._ActionsContainer) -> None:
    """`precision`, `offload` and `vae_tiles`; None of each chooses by the device."""
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16"),
        help="(default: fp16 on a GPU; on a CPU bf16 for a large model where the CPU computes it, else fp32)",
    )
    parser.add_argument(
        "--offload",
        choices=("none", "model", "sequential"),
        help="keep weights in the machine's memory and bring one network, or one layer, to the GPU at a time "
        "(default: as the GPU's free memory asks for)",
    )
    parser.add_argument(
        "--vae",
        metavar="NAME",
        help="another autoencoder: a name in the vae folder of your data folder, a folder, or a .safetensors file "
        "(default: the model's own, or what its diffedit.json says)",
    )
    parser.add_argument(
        "--vae-tiles",
        type=int,
        choices=(1, 2, 4, 8),
        metavar="N",
        help="1, 2, 4 or 8 tiles along a picture's longer side for the autoencoder, which needs less memory then "
        "(default: as the free memory asks for)",
    )


def model_options(args: argparse.Namespace) -> ModelOptions:
    """What these arguments, --device, --compile and --no-safety-checker say, as far as the command has them.

    Without the device of `serve`, whose every worker has one of its own.
    """
    return ModelOptions(
        device=args.device if isinstance(args.device, str) else None,
        precision=args.precision,
        offload=args.offload,
        vae_tiles=args.vae_tiles,
        compiled=getattr(args, "compile", False),
        safety=args.safety,
        vae=args.vae,
    )
