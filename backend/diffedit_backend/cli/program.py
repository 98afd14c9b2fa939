"""The console script `diffedit`: one subcommand per module of `diffedit_backend.cli`."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence

from diffedit_protocol.connection import NO_BACKEND
from diffedit_protocol.errors import DiffEditError

from .. import __version__
from .. import cli as commands

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130

# What the client alone does not bring: the modules and the extra of pyproject.toml that has them.
EXTRAS = {
    **dict.fromkeys(
        ("torch", "diffusers", "transformers", "accelerate", "safetensors", "peft", "tqdm", "psutil", "scipy"),
        "backend",
    ),
    **dict.fromkeys(("matplotlib", "skimage"), "backend,bench"),
    "ray": "backend,ray",
}
# NO_BACKEND is for Krita, which has a button that starts one.
_NO_BACKEND_HERE = (
    "No backend is running on this machine. Start one with 'diffedit serve', or name another by --connect LINE."
)


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
        print(f"diffedit: {_NO_BACKEND_HERE if error.sentence == NO_BACKEND else error.sentence}", file=sys.stderr)
        return EXIT_ERROR
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS:
            raise
        remedy = f"pip install 'krita-diffedit[{EXTRAS[module]}]'"
        if hasattr(args, "connect"):
            remedy += ", or let a running backend do it: --connect"
        print(f"diffedit: This needs {module}, which is not installed here: {remedy}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("diffedit: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
