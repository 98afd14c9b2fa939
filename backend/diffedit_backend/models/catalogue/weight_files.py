"""Files of weights: which hold those of a part of a model in diffusers' folder layout, in which variant; and the table
of contents of a .safetensors file, names, types and shapes of its tensors, without reading one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from diffedit_protocol.errors import ModelError
from safetensors import SafetensorError, safe_open

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


_LFS_POINTER = b"version https://git-lfs"
_WEB_PAGE = (b"<!doctype html", b"<html")


@dataclass(frozen=True)
class TensorFact:
    """`dtype` as the format writes it ("F16", "BF16", "F32", ...); `shape` in the file's order."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        bits = re.search(r"\d+", self.dtype)  # "F16", "F8_E4M3"; a truth value, "BOOL", takes a byte
        return self.elements * int(bits.group()) // 8 if bits else self.elements


def tensors_in(file: Path) -> dict[str, TensorFact]:
    """Every tensor of `file`. Raises ModelError, which says why the file cannot be read."""
    try:
        with safe_open(file, framework="numpy") as weights:
            slices = ((name, weights.get_slice(name)) for name in list(weights.keys()))
            return {name: TensorFact(str(part.get_dtype()), tuple(part.get_shape())) for name, part in slices}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"'{file.name}' {_fault(file, error)}", detail=str(error)) from error


def _fault(file: Path, error: Exception) -> str:
    """Why a file cannot be read as safetensors; the rest of a sentence."""
    try:
        with file.open("rb") as stream:
            start = stream.read(64)
    except OSError as refusal:
        return f"cannot be read: {refusal.strerror or refusal}."
    if not start:
        return "is empty. Download it again."
    if start.startswith(_LFS_POINTER):
        return "is a pointer of Git LFS, not the file itself. Fetch it with `git lfs pull`, or download it again."
    if start.lower().lstrip().startswith(_WEB_PAGE):
        return "is a web page, not a model: the download needs a login or another address."
    if "not fully covered" in str(error) or "IncompleteBuffer" in str(error):
        return "is incomplete: it ends before its last weights. Download it again."
    return "is damaged: it cannot be read as safetensors. Download it again."
