"""`diffedit uninstall-plugin`: the plugin out of this person's Krita. Documents, prompts' history and keys stay."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "take the plugin out of your Krita"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resources", type=Path, help="Krita's resource folder, if it is not where it usually is")


def run(args: argparse.Namespace) -> int:
    from diffedit_backend.krita_host import person

    for krita in person.chosen(args.resources):
        if person.uninstall(krita):
            print(f"{krita.kind}: the plugin is taken out of {krita.resources}.")
        else:
            print(f"{krita.kind}: there was no plugin in {krita.resources}.")
    return 0
