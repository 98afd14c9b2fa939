"""How an edit on the command line ended, for people and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..terminal import print_json

State = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class EditReport:
    """`state`: "skipped" was done before; "failed" comes with the sentence, and the code of the error."""

    picture: Path
    state: State
    results: tuple[Path, ...] = ()
    sentence: str = ""
    notes: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    code: str = ""

    def print_json(self) -> None:
        value = {
            "picture": str(self.picture),
            "state": self.state,
            "results": [str(path) for path in self.results],
            "sentence": self.sentence,
            "notes": list(self.notes),
            "parameters": self.parameters,
        }
        print_json(value | ({"code": self.code} if self.code else {}))

    def print_lines(self) -> None:
        what = self.sentence if self.state == "failed" else " ".join(map(str, self.results))
        print(
            "\n".join((f"{self.state:7} {self.picture.name}: {what}", *(f"        {n}" for n in self.notes))),
            flush=True,
        )
