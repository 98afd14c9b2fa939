"""`diffedit bench NAME`: one benchmark per package of `diffedit_bench`.

Its module `command` holds `HELP`, `add_arguments(parser)` and `run(args) -> int`; what is heavy it imports in these.
"""

from __future__ import annotations

import argparse
import importlib
from types import ModuleType

BENCHMARKS = ("endure", "fuzz", "krita", "load", "processor", "quality", "speed", "wire")
HELP = "measure speed, quality, the wire or the server: NAME chooses"


def benchmarks() -> dict[str, ModuleType]:
    """The modules of the benchmarks, by name."""
    return {name: importlib.import_module(f"{__package__}.{name}.command") for name in BENCHMARKS}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    found = benchmarks()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(["benchmarks:", *(f"  {name:<10} {module.HELP}" for name, module in found.items())])
    parser.add_argument("name", choices=tuple(found), metavar="NAME", help="which benchmark")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its own arguments: `diffedit bench NAME --help`")


def run(args: argparse.Namespace) -> int:
    module = benchmarks()[args.name]
    parser = argparse.ArgumentParser(prog=f"diffedit bench {args.name}", description=module.HELP)
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(args.arguments)))
