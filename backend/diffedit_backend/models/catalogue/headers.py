"""The table of contents of a .safetensors file: names, types and shapes of its tensors, without reading one."""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from diffedit_protocol.errors import ModelError

_LONGEST = 100_000_000  # bytes of a header; the format's own limit


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
    """Every tensor of `file`. Raises ModelError when it is none of the format (8 bytes of length, then JSON)."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _LONGEST:
                raise ValueError(f"a header of {length} bytes")
            entries = json.loads(stream.read(length))
        return {
            name: TensorFact(str(entry["dtype"]), tuple(int(side) for side in entry["shape"]))
            for name, entry in entries.items()
            if name != "__metadata__"
        }
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"'{file.name}' is damaged: it cannot be read as safetensors.", detail=f"{error!r}") from error
