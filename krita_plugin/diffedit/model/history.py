"""The edits of a document: what was asked for and what it looked like, in a form that the .kra keeps."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from .inputs import EditInputs, describe
from .variations import Variation

FORMAT = 1
MAX_RECORDS = 200


@dataclass(frozen=True)
class HistoryEntry:
    """One edit. `when`: ISO 8601, local time. `thumbnail`: see `thumbnails.to_text`. `kept`: the result itself, when it
    could not be added (the document was closed, the layer deleted); it is not saved."""

    inputs: EditInputs
    seed: int
    when: str
    layer: str = ""
    model: str = ""
    thumbnail: str = ""
    kept: Variation | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        return describe(self.inputs.source, self.inputs.target, self.seed)

    def as_map(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in ("seed", "when", "layer", "model", "thumbnail")}
        return {**values, "inputs": self.inputs.as_map()}

    @classmethod
    def from_map(cls, values: dict[str, Any]) -> HistoryEntry:
        """Raises KeyError or TypeError for what is no record."""
        return cls(
            EditInputs.from_map(values["inputs"]),
            int(values["seed"]),
            str(values["when"]),
            str(values.get("layer", "")),
            str(values.get("model", "")),
            str(values.get("thumbnail", "")),
        )

    def again(self) -> EditInputs:
        """The inputs that give this result again: its seed, locked."""
        return dataclasses.replace(self.inputs, seed=self.seed, seed_locked=True)


def encode(records: tuple[HistoryEntry, ...], limit: int) -> bytes:
    """The newest records that fit into `limit` bytes of JSON; thumbnails of older ones go first, then the records."""
    kept = list(records[-MAX_RECORDS:])
    bare = 0  # how many, from the oldest on, have lost their thumbnail
    while True:
        listed = [r.as_map() | ({"thumbnail": ""} if i < bare else {}) for i, r in enumerate(kept)]
        data = json.dumps({"format": FORMAT, "edits": listed}, ensure_ascii=False).encode()
        if len(data) <= limit or not kept:
            return data
        if bare < len(kept):
            bare += max(1, (len(kept) - bare) // 4)
        else:
            kept.pop(0)
            bare -= 1


def decode(data: bytes) -> tuple[HistoryEntry, ...]:
    """The records of `encode`; () for no data. Raises ValueError for anything else, with what is wrong."""
    if not data:
        return ()
    values = json.loads(data)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f"This version reads histories of format {FORMAT}, not this one.")
    try:
        return tuple(HistoryEntry.from_map(entry) for entry in values["edits"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"The history holds an entry that is no edit: {error!r}") from error
