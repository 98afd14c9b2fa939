"""The table of contents of a .safetensors file: names, types and shapes of its tensors, without reading one."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from diffedit_protocol.errors import ModelError
from safetensors import SafetensorError, safe_open

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
