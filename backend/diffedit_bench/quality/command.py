"""`diffedit bench quality`: edits with known truth, or PIE-Bench, scored beside the library's pipeline and controls."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

HELP = "measure masks and edits on scenes with known truth, or on PIE-Bench, beside the library's pipeline and controls"

DEFAULT_CASES = 200
_NEEDED = ("torch", "diffusers", "transformers", "scipy", "skimage", "matplotlib", "tqdm")
# Around the default encoding ratio, 0.8, for the curves.
DEFAULT_RATIOS = "0.4,0.6,0.95"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from .cases import DEFAULT_KINDS, KINDS
    from .roster import ALL, DEFAULT

    def names(text: str) -> tuple[str, ...]:
        return tuple(part for part in text.split(",") if part)

    def ratios(text: str) -> tuple[float, ...]:
        found = tuple(float(part) for part in names(text))
        if any(not 0 < ratio <= 1 for ratio in found):
            raise argparse.ArgumentTypeError(f"encoding ratios must be above 0 and at most 1: {text}")
        return found

    def kinds(text: str) -> tuple[str, ...]:
        if unknown := set(names(text)) - set(KINDS):
            raise argparse.ArgumentTypeError(f"unknown kind {unknown.pop()!r}; the kinds are {', '.join(KINDS)}")
        return names(text)

    parser.add_argument("--out", type=Path, required=True, help="folder for rows, report, plots and contact sheets")
    parser.add_argument("--cases", type=int, help=f"how many (default: {DEFAULT_CASES}; PIE-Bench: all of it)")
    parser.add_argument("--seed", type=int, default=0, help="which held-out cases, and every editor's noise")
    parser.add_argument(
        "--editors",
        type=names,
        help=f"with commas between; default: {','.join(DEFAULT)} (PIE-Bench: ours,library). All: {', '.join(ALL)}",
    )
    parser.add_argument(
        "--kinds",
        type=kinds,
        default=DEFAULT_KINDS,
        help=f"kinds of edit, of {','.join(KINDS)} (default: all but add, whose place no word gives)",
    )
    parser.add_argument(
        "--curves", type=names, help="editors to run at more encoding ratios (default: ours, where it is one of them)"
    )
    parser.add_argument(
        "--ratios", type=ratios, default=ratios(DEFAULT_RATIOS), help=f"these ratios (default: {DEFAULT_RATIOS})"
    )
    parser.add_argument("--sheet", type=int, default=24, help="cases on the contact sheets (default: 24)")
    parser.add_argument(
        "--model", default="bundled", help="bundled, a diffusers folder, a .safetensors file or a hub id"
    )
    parser.add_argument(
        "--scenes", type=int, choices=(1, 2), default=1, help="edition of the scenes that the model knows (default: 1)"
    )
    parser.add_argument(
        "--judge", type=Path, metavar="FOLDER", help="the judge of those scenes (default: the one in the package)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the best there is)")
    parser.add_argument(
        "--pie-bench", type=Path, metavar="FOLDER", help="run PIE-Bench from its folder (mapping_file.json in it)"
    )
    parser.add_argument(
        "--fetch-weights", action="store_true", help="PIE-Bench: let LPIPS, CLIP and DINO be downloaded"
    )


def run(args: argparse.Namespace) -> int:
    from diffedit_protocol.errors import BadInputError

    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise BadInputError(
            f"The benchmark needs {', '.join(missing)}. Install them with: pip install 'krita-diffedit[backend,bench]'"
        )
    if args.cases is not None and args.cases < 1:
        raise BadInputError(f"--cases must be at least 1, not {args.cases}.")
    if args.pie_bench is not None:
        from .piebench import run_pie_bench

        report = run_pie_bench(args)
    else:
        from .truth_run import run_with_truth

        args.cases = args.cases or DEFAULT_CASES
        report = run_with_truth(args)
    print(report.read_text())
    return 0
