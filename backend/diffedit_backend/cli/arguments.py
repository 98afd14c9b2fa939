"""How a model lies in memory: the arguments that `diffedit edit`, `mask` and `serve` have in common."""

from __future__ import annotations

import argparse

from ..models.options import ModelOptions


def add_memory_arguments(parser: argparse._ActionsContainer) -> None:
    """`precision`, `offload` and `vae_tiles`; None of each chooses by the device."""
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16"),
        help="(default: fp16 on a GPU; on a CPU bf16 for a large model where the CPU computes it, else fp32)",
    )
    parser.add_argument(
        "--offload",
        choices=("none", "model", "sequential"),
        help="keep weights in the machine's memory and bring one network, or one layer, to the GPU at a time "
        "(default: as the GPU's free memory asks for)",
    )
    parser.add_argument(
        "--vae-tiles",
        type=int,
        choices=(1, 2, 4, 8),
        metavar="N",
        help="1, 2, 4 or 8 tiles along a picture's longer side for the autoencoder, which needs less memory then "
        "(default: as the free memory asks for)",
    )


def model_options(args: argparse.Namespace) -> ModelOptions:
    """What these arguments, --device, --compile and --no-safety-checker say, as far as the command has them.

    Without the device of `serve`, whose every worker has one of its own.
    """
    return ModelOptions(
        device=args.device if isinstance(args.device, str) else None,
        precision=args.precision,
        offload=args.offload,
        vae_tiles=args.vae_tiles,
        compiled=getattr(args, "compile", False),
        safety=args.safety,
    )
