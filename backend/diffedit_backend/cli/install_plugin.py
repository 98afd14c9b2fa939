"""`diffedit install-plugin`: the Krita plugin into the user's Krita, enabled."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "put the plugin into your Krita and enable it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resources", type=Path, help="Krita's resource folder, if it is not where it usually is")


def run(args: argparse.Namespace) -> int:
    from diffedit_backend.krita import krita_installation

    for krita in krita_installation.chosen(args.resources):
        krita_installation.install(krita)
        print(f"{krita.kind}: the plugin is in {krita.resources / 'pykrita'} and enabled in {krita.kritarc}.")
    print("Start Krita anew; then Settings > Dockers > DiffEdit, and Tools > DiffEdit.")
    return 0
