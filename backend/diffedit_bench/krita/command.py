"""`diffedit bench krita`: how long Krita's main thread is away, and how quickly the live threshold moves.

A real Krita in a profile of its own, on a virtual screen. No backend runs: what is measured is the plugin's canvas.
`addChildNode` is the one call that cannot be split: it composes the whole new layer into the picture before it returns.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HELP = "measure stalls of Krita's main thread and the live threshold, in a real Krita under Xvfb"
SIDES = (1024, 2048, 4096)
SRGB = ("RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc")
SIXTEEN_BIT = ("RGBA", "U16", "sRGB-elle-V2-g10.icc")
WIDE = ("RGBA", "U16", "Rec2020-elle-V4-g10.icc")
RUN_SECONDS = 180.0
# What the figures should reach: ms beyond the call that cannot be split, and updates a second.
STALL_BEYOND, LIVE_UPDATES = 50.0, 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where report.json is written")
    parser.add_argument("--sides", default=",".join(map(str, SIDES)), help="sides of the square layers in px")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; the median counts (default: 3)")


def run(args: argparse.Namespace) -> int:
    sides = [int(side) for side in args.sides.split(",")]
    report = measure(sides, args.rounds)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "report.json"
    file.write_text(json.dumps(report, indent=2) + "\n")
    print("\n".join(lines(report)))
    print(file)
    return 0


def measure(sides: list[int], rounds: int) -> dict[str, Any]:
    """Every figure of the report, in one Krita."""
    from diffedit_backend.krita.install import PLUGIN
    from diffedit_krita_driver.display import Xvfb
    from diffedit_krita_driver.process import krita_version
    from diffedit_krita_driver.remote import RemoteKrita, fresh_profile

    from .inside import drag_threshold, edit_large

    layers = [(side, *kind) for side in sides for kind in (SRGB, SIXTEEN_BIT, WIDE)]
    with (
        tempfile.TemporaryDirectory(prefix="diffedit-krita-") as folder,
        Xvfb() as display,
        RemoteKrita(fresh_profile(Path(folder) / "profile", display), display, [(None, PLUGIN)]) as krita,
    ):

        def repeated(function: Any, **arguments: Any) -> dict[str, float]:
            found = []
            for _ in range(rounds):
                krita.run(_close_all)
                found.append(krita.run(function, limit=RUN_SECONDS, **arguments))
            return _medians(found)

        stalls = [
            {"side": side, "depth": depth, "profile": profile}
            | repeated(edit_large, side=side, model=model, depth=depth, profile=profile)
            for side, model, depth, profile in layers
        ]
        live = [
            {"side": side, "shown as": form} | repeated(drag_threshold, side=side, feather=None, form=form)
            for side in sides
            for form in ("overlay", "selection", "selectionmask")
        ]
    return {
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "load": os.getloadavg()[0]},
        "krita": krita_version(),
        "rounds": rounds,
        "stalls_ms": stalls,
        "live_threshold": live,
        "targets": {"stall_beyond_addChildNode_ms": STALL_BEYOND, "live_updates_per_s": LIVE_UPDATES},
    }


def _close_all(stage: Any) -> Iterator[Any]:
    yield from stage.close_all()


def _medians(found: list[dict[str, float]]) -> dict[str, float]:
    """The median of every figure by itself."""
    return {name: round(sorted(one[name] for one in found)[len(found) // 2], 1) for name in found[0]}


def lines(report: dict[str, Any]) -> list[str]:
    """The report for a terminal."""
    shown = [f"Krita {report['krita']}, load {report['machine']['load']:.1f}; ms, median of {report['rounds']}"]
    for entry in report["stalls_ms"]:
        shown.append(
            f"{entry['side']:>5} px {entry['depth']} {entry['profile'].partition('.')[0]}: "
            f"read in {entry['reading']:.0f}, again in {entry['reading again']:.0f}, "
            f"capture stall {entry['capture stall']:.0f}, "
            f"apply stall {entry['apply stall']:.0f}, {entry['apply stall beyond addChildNode']:.0f} of it outside "
            f"addChildNode, which took {entry['addChildNode']:.0f}"
        )
    for entry in report["live_threshold"]:
        shown.append(
            f"live threshold {entry['side']} px as {entry['shown as']}: {entry['updates a second']:.0f}/s, longest "
            f"stall {entry['longest stall ms']:.0f}; at rest after {entry['at rest after ms']:.0f}, longest stall "
            f"{entry['longest stall at rest ms']:.0f}"
        )
    return shown
