"""`diffedit add-model`: take a model in from where it is, or from the hub; what it is and whether it fits."""

from __future__ import annotations

import argparse
import json

HELP = "add a model, a LoRA, a folder of ComfyUI, A1111, InvokeAI or krita-ai-diffusion, or a model of the hub"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="WHAT", help="a .safetensors file, a folder, or a hub id such as owner/model")
    parser.add_argument("--look", action="store_true", help="only tell what it is, how large, and whether it fits")
    parser.add_argument("--device", help="that it is to fit: cpu, cuda, cuda:1, mps (default: the best)")
    parser.add_argument("--json", action="store_true", help="write JSON")


def run(args: argparse.Namespace) -> int:
    from ..method.memory import free_memory_on
    from ..models.adding import FreeMemory, add, look_at
    from ..models.device import choose_device

    device, machine = choose_device(args.device), choose_device("cpu")
    free = FreeMemory(free_memory_on(device), free_memory_on(machine), device.type == "cpu")
    found = look_at(args.what, free) if args.look else add(args.what, free)
    if args.json:
        print(json.dumps(found.as_map(), indent=2, ensure_ascii=False))
    else:
        print(f"{found.name}: {found.about}" if args.look else f"added {found.name}: {found.about}")
    return 0
