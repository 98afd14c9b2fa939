"""The console script `diffedit`: one subcommand per module of `diffedit_backend.commands`."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence

from diffedit_protocol.errors import DiffEditError

from . import __version__, commands

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def build_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand; a module `train_bundled` is the subcommand `train-bundled`."""
    parser = argparse.ArgumentParser(prog="diffedit", description="Semantic picture edits from words (DiffEdit).")
    parser.add_argument("--version", action="version", version=f"diffedit {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for info in sorted(pkgutil.iter_modules(commands.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{commands.__name__}.{info.name}")
        subparser = subparsers.add_parser(info.name.replace("_", "-"), help=module.HELP, description=module.HELP)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand. Exit codes: 0 done, 1 failed with a sentence on stderr, 2 wrong usage, 130 interrupted."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except DiffEditError as error:
        print(f"diffedit: {error.sentence}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("diffedit: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
