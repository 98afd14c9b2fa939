"""`diffedit build-plugin`: the plugin's zip for Krita's own importer."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "build the plugin's zip for Krita's importer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder for the zip (default: dist)")


def run(args: argparse.Namespace) -> int:
    from diffedit_backend.krita import plugin_zip

    path = plugin_zip.build(args.out)
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB): in Krita, Tools > Scripts > Import Python Plugin from File…")
    return 0
