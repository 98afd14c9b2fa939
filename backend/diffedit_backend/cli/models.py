"""`diffedit models`: what can be loaded on this machine."""

from __future__ import annotations

import argparse

from .terminal import print_json

HELP = "list the models and adapters that can be loaded, and the memory that they need"
# Per parameter: half precision on a GPU, single on a CPU (bf16, where it computes that, takes half of it).
_GPU_BYTES, _CPU_BYTES = 2, 4
_PURPOSES = {"describe": "describes pictures", "suggest": "suggests words", "segment": "finds what words name"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="write JSON")


def run(args: argparse.Namespace) -> int:
    from ..models.catalogue.adapter_files import adapters
    from ..models.catalogue.folders import adapters_folder, models_folder
    from ..models.catalogue.listing import models
    from ..models.catalogue.word_models import word_models

    entries, additions, for_words = models(), adapters(), word_models()
    if args.json:
        print_json(
            {
                "models": [
                    {
                        "name": entry.name,
                        "family": entry.family,
                        "place": str(entry.place),
                        "parameters": entry.parameters,
                        "size": entry.size,
                        "few_steps": entry.few_steps,
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
                "words": [
                    {
                        "purpose": w.purpose,
                        "name": w.name,
                        "place": str(w.place or ""),
                        "bytes": w.nbytes,
                        "fault": w.fault,
                    }
                    for w in for_words
                ],
            },
            indent=2,
        )
        return 0
    width = max(len(entry.name) for entry in entries)
    kinds = max(len("kind"), *(len(entry.family) for entry in entries if not entry.fault))
    print(f"{'model':{width}}  {'kind':{kinds}}  size      weights on a GPU  on a CPU")
    for entry in entries:
        if entry.fault:
            print(f"{entry.name:{width}}  cannot be loaded: {entry.fault}")
            continue
        size = f"{entry.size} px" if entry.size else "-"
        gpu, cpu = (_megabytes(entry.bytes_in_memory(n)) for n in (_GPU_BYTES, _CPU_BYTES))
        few = f"  made for {entry.few_steps} steps" if entry.few_steps else ""
        print(f"{entry.name:{width}}  {entry.family:{kinds}}  {size:8}  {gpu:>16}  {cpu:>8}{few}")
    print(
        f"\nPut more into {models_folder()}: diffusers folders, .safetensors files of Stable Diffusion or of a flow "
        "model's transformer."
    )
    for addition in additions:
        about = (addition.kind, addition.family, f"say {addition.word!r}" if addition.word else "")
        print("  ".join(part for part in (addition.name, *about) if part))
    print(f"LoRAs and textual inversions go into {adapters_folder()}.\n")
    for model in for_words:
        purpose = _PURPOSES[model.purpose]
        if not model.name:
            print(f"Nothing {purpose}. {model.way_out}")
        elif model.fault:
            print(f"{purpose}: {model.name} cannot be loaded: {model.fault} {model.way_out}")
        else:
            print(f"{purpose}: {model.name}  {_megabytes(model.nbytes)}")
    return 0


def _megabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
