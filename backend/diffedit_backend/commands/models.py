"""`diffedit models`: what can be loaded on this machine."""

from __future__ import annotations

import argparse
import json

HELP = "list the models and adapters that can be loaded, and the memory that they need"
_GPU_BYTES, _CPU_BYTES = 2, 4  # per parameter: half precision on a GPU, single on a CPU


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="write JSON")


def run(args: argparse.Namespace) -> int:
    from ..library.adapters import adapters
    from ..library.folders import adapters_folder, models_folder
    from ..library.listing import models

    entries, additions = models(), adapters()
    if args.json:
        print(
            json.dumps(
                {
                    "models": [
                        {
                            "name": entry.name,
                            "family": entry.family,
                            "place": str(entry.place),
                            "parameters": entry.parameters,
                            "size": entry.size,
                            "gpu_bytes": entry.bytes_in_memory(_GPU_BYTES),
                            "cpu_bytes": entry.bytes_in_memory(_CPU_BYTES),
                            "fault": entry.fault,
                        }
                        for entry in entries
                    ],
                    "adapters": [
                        {"name": a.name, "kind": a.kind, "family": a.family, "word": a.word, "file": str(a.file)}
                        for a in additions
                    ],
                },
                indent=2,
            )
        )
        return 0
    width = max(len(entry.name) for entry in entries)
    print(f"{'model':{width}}  kind   size      weights on a GPU  on a CPU")
    for entry in entries:
        if entry.fault:
            print(f"{entry.name:{width}}  cannot be loaded: {entry.fault}")
            continue
        size = f"{entry.size} px" if entry.size else "-"
        gpu, cpu = (_megabytes(entry.bytes_in_memory(n)) for n in (_GPU_BYTES, _CPU_BYTES))
        print(f"{entry.name:{width}}  {entry.family:5}  {size:8}  {gpu:>16}  {cpu:>8}")
    print(f"\nPut more into {models_folder()}: diffusers folders, or .safetensors files of Stable Diffusion.")
    for addition in additions:
        about = (addition.kind, addition.family, f"say {addition.word!r}" if addition.word else "")
        print("  ".join(part for part in (addition.name, *about) if part))
    print(f"LoRAs and textual inversions go into {adapters_folder()}.")
    return 0


def _megabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
