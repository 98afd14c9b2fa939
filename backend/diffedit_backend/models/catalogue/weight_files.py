"""Which files hold the weights of a part of a model in diffusers' folder layout, and in which variant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# "diffusion_pytorch_model.fp16-00001-of-00002.safetensors": diffusers' and transformers' names, the part's variant, and
# the number of pieces.
_WEIGHTS = re.compile(
    r"^(?:diffusion_pytorch_model|model)(?:\.(?P<variant>\w+))?(?:-(?P<piece>\d{5})-of-(?P<pieces>\d{5}))?\.safetensors$"
)
_PICKLED = re.compile(r"^(?:diffusion_)?pytorch_model.*\.(?:bin|pt|ckpt)$")


@dataclass(frozen=True)
class WeightFiles:
    """Names of the files of one part in one variant; `variant` "" is the plain one, "fp16" and others are named."""

    variant: str
    names: tuple[str, ...]
    complete: bool


def weight_files(names: Iterable[str], *, halved: bool = False) -> WeightFiles | None:
    """The one set of weights to take out of the file names of a part's folder, None where it has no .safetensors.

    The plain one, in full precision as a rule, goes first; "fp16" does where `halved`; any other comes last.
    An incomplete set (pieces are missing) is taken only where there is no complete one.
    """
    found: dict[str, list[tuple[str, int]]] = {}
    for name in sorted(names):
        if match := _WEIGHTS.match(name):
            found.setdefault(match["variant"] or "", []).append((name, int(match["pieces"] or 1)))
    first = ("fp16", "") if halved else ("", "fp16")
    order = [*first, *sorted(found.keys() - set(first))]
    sets = [
        WeightFiles(variant, tuple(name for name, _ in found[variant]), len(found[variant]) == found[variant][0][1])
        for variant in order
        if variant in found
    ]
    return next((chosen for chosen in sets if chosen.complete), sets[0] if sets else None)


def has_pickles(names: Iterable[str]) -> bool:
    """Whether weights of the part are there as pickles."""
    return any(_PICKLED.match(name) for name in names)
