"""The parser of `diffedit`: which commands there are, and what becomes of an error."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any

import argcomplete
from diffedit_protocol.connection import NO_BACKEND
from diffedit_protocol.errors import BadInputError, DiffEditError

from .. import __version__
from .terminal import abandon_output, prepare_streams, print_json, remark

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 0, 1, 2, 130, 141

COMMANDS = (
    "add-model",
    "build-plugin",
    "clients",
    "completion",
    "describe",
    "doctor",
    "edit",
    "fetch",
    "install-plugin",
    "invite",
    "jobs",
    "mask",
    "models",
    "revoke",
    "samples",
    "serve",
    "status",
    "suggest",
    "uninstall-plugin",
)
# Packages beside the product, in a checkout or installed on their own: the benchmarks, the training, a Krita to drive.
DEVELOPMENT_COMMANDS = {
    "bench": "diffedit_bench.command",
    "demo": "diffedit_krita_driver.command",
    "train-bundled": "diffedit_training.command",
}
# What the client alone does not bring: the modules and the extra of pyproject.toml that has them.
EXTRAS = {
    **dict.fromkeys(
        ("torch", "diffusers", "transformers", "accelerate", "huggingface_hub", "peft", "tqdm", "psutil", "scipy"),
        "backend",
    ),
    **dict.fromkeys(("matplotlib", "skimage"), "backend,bench"),
    "ray": "backend,ray",
}
# NO_BACKEND is for Krita, which has a button that starts one.
_NO_BACKEND_HERE = (
    "No backend is running on this machine. Start one with 'diffedit serve', or name another by --connect FILE."
)


def build_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand that is installed."""
    parser = argparse.ArgumentParser(prog="diffedit", description="Semantic picture edits from words (DiffEdit).")
    parser.add_argument("--version", action="version", version=f"diffedit {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in sorted(command_modules().items()):
        command = importlib.import_module(module)
        subparser = subparsers.add_parser(name, help=command.HELP, description=command.HELP)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def command_modules() -> dict[str, str]:
    """Every command that is installed, by name, with the module that holds its HELP, add_arguments and run."""
    product = {name: f"{__package__}.{name.replace('-', '_')}" for name in COMMANDS}
    beside = {name: module for name, module in DEVELOPMENT_COMMANDS.items() if _is_installed(module)}
    return product | beside


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand. Exit codes: 0 done, 1 failed with a sentence on stderr, 2 wrong usage, 130 interrupted, 141
    nobody reads the output any more (as the shell has it of a program that a broken pipe ended)."""
    prepare_streams()
    parser = build_parser()
    argcomplete.autocomplete(parser)  # ends the program where a shell asks for completions
    args = parser.parse_args(argv)
    for library in ("TRANSFORMERS", "DIFFUSERS"):  # their advice would stand before our sentences
        os.environ.setdefault(f"{library}_VERBOSITY", "critical")
    try:
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except DiffEditError as error:
        return _failed(args, _NO_BACKEND_HERE if error.sentence == NO_BACKEND else error.sentence, error.code)
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS:
            raise
        remedy = f"pip install 'krita-diffedit[{EXTRAS[module]}]'"
        if hasattr(args, "connect"):
            remedy += ", or let a running backend do it: --connect"
        return _failed(args, f"This needs {module}, which is not installed here: {remedy}", "NOT_INSTALLED")
    except BrokenPipeError:
        abandon_output()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.strerror is None:
            raise
        named = f"'{error.filename}': " if error.filename is not None else ""
        return _failed(args, f"{named}{error.strerror}.", BadInputError.code)
    except KeyboardInterrupt:
        remark("interrupted")
        return EXIT_INTERRUPTED


def _failed(args: argparse.Namespace, sentence: str, code: str) -> int:
    """Print why a command failed: for people and, where it was asked for, as JSON."""
    if getattr(args, "json", False):
        failure: dict[str, Any] = {"state": "failed", "sentence": sentence, "code": code}
        if args.command in ("edit", "mask"):  # with the keys of an edit that is done
            failure |= {"picture": str(args.picture), "results": [], "notes": [], "parameters": {}}
        print_json(failure)
    remark(sentence)
    return EXIT_ERROR
