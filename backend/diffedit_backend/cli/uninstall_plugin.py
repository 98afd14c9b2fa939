"""`diffedit uninstall-plugin`: the plugin out of the user's Krita. Documents, prompts' history and keys stay."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "take the plugin out of your Krita"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resources", type=Path, help="Krita's resource folder, if it is not where it usually is")


def run(args: argparse.Namespace) -> int:
    from diffedit_protocol.private_files import data_folder

    from diffedit_backend.krita import krita_installation

    for krita in krita_installation.chosen(args.resources):
        if krita_installation.uninstall(krita):
            print(f"{krita.kind}: the plugin is taken out of {krita.resources}.")
        else:
            print(f"{krita.kind}: there was no plugin in {krita.resources}.")
    if data_folder().is_dir() and any(data_folder().iterdir()):
        print(f"Settings, keys and results stay in {data_folder()}.")
    return 0
