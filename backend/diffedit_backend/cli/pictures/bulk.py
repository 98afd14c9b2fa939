"""Runs the edits of a table one after the other, skips those that are done, and tells how each ended."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffedit_protocol.errors import DiffEditError

from ... import __version__
from ...imaging.files import lay_in, read_picture, read_plane, write_picture
from ...method.steps import Step
from ...outcome import paste
from .editor import Editor
from .record import read_record, write_record
from .table import BulkEdit, edits_of, parameters_of, pictures_of

_FIELDS = ("source", "target", "negative", "threshold", "grow", "feather", "strength", "guidance", "quality", "method")
_COUNTS = ("seed", "variations")
_SWITCHES = ("detail", "matting", "attention")


@dataclass(frozen=True)
class Ended:
    """How an edit ended: "done", "skipped" (it was done before) or "failed", with the sentence."""

    edit: BulkEdit
    state: str
    results: tuple[Path, ...] = ()
    sentence: str = ""
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        return {
            "picture": str(self.edit.picture),
            "state": self.state,
            "results": [str(path) for path in self.results],
            "sentence": self.sentence,
            "notes": list(self.notes),
            "parameters": parameters_of(self.edit.request),
        }


def run_bulk(args: argparse.Namespace) -> int:
    """Edit many pictures. Returns 0 when every edit is done or was before, 1 when one failed."""
    defaults: dict[str, Any] = {
        name: getattr(args, name) for name in (*_FIELDS, *_COUNTS, *_SWITCHES, "mask", "selection")
    }
    defaults |= {"adapters": tuple(args.adapter), "preview": False}
    args.result.mkdir(parents=True, exist_ok=True)
    edits = edits_of(pictures_of(args.picture), args.result, defaults, args.csv)
    editor, failed = Editor(args), 0
    for number, edit in enumerate(edits):
        bar = _Bar(number, len(edits), edit.picture.name)
        ended = _ended(edit, editor, args, bar)
        bar.clear()
        failed += ended.state == "failed"
        print(json.dumps(ended.to_json(), ensure_ascii=False) if args.json else _line(ended), flush=True)
    if failed:
        print(f"diffedit: {failed} of {len(edits)} edits failed. Run it again to try only those.", file=sys.stderr)
    return 1 if failed else 0


def _ended(edit: BulkEdit, editor: Editor, args: argparse.Namespace, bar: _Bar) -> Ended:
    try:
        made_by = _made_by(edit, args)
        if (results := _earlier(edit, made_by)) is not None:
            return Ended(edit, "skipped", results)
        return _done(edit, editor, made_by, bar)
    except DiffEditError as error:
        return Ended(edit, "failed", sentence=error.sentence)


def _made_by(edit: BulkEdit, args: argparse.Namespace) -> dict[str, Any]:
    """Everything that the result depends on: equal, so is the result, and it need not be made again."""
    contents = {
        name: hashlib.sha256(path.read_bytes()).hexdigest() if path is not None and path.is_file() else None
        for name, path in (("picture", edit.picture), ("mask", edit.mask), ("selection", edit.selection))
    }
    return {"sha256": contents, **parameters_of(edit.request), **made_with(args)}


def made_with(args: argparse.Namespace) -> dict[str, str]:
    """Program, model and a precision that was asked for, for a result's record: no folder of this machine, and no key
    out of a connection line."""
    if args.connect is not None:
        return {"version": __version__, "model": "a backend"}
    asked = {} if args.precision is None else {"precision": args.precision}
    return {"version": __version__, "model": Path(args.model).name, **asked}


def _earlier(edit: BulkEdit, made_by: dict[str, Any]) -> tuple[Path, ...] | None:
    """The results of an earlier run with the same parameters, when all of them are there."""
    first = edit.result if edit.result.is_file() else _numbered(edit.result, 1)
    record = read_record(first)
    if record is None or record["made_by"] != made_by:
        return None
    results = tuple(_names(edit.result, record["count"]))
    return results if all(read_record(path) is not None for path in results) else None


def _done(edit: BulkEdit, editor: Editor, made_by: dict[str, Any], bar: _Bar) -> Ended:
    file = read_picture(edit.picture)
    height, width = file.pixels.shape[:2]

    def plane(path: Path | None) -> Any:
        return None if path is None else read_plane(path, width, height)

    outcome = editor.edit(
        edit.request, file.pixels, selection=plane(edit.selection), mask=plane(edit.mask), on_step=bar.show
    )
    results = tuple(_names(edit.result, len(outcome.edits)))
    for index, (variation, path) in enumerate(zip(outcome.edits, results, strict=True)):
        unfinished = path.with_name(f".{path.name}")  # a half-written result must not pass for a done one
        unfinished = unfinished.with_suffix(".png")
        write_picture(unfinished, file, lay_in(file, paste(file.pixels, outcome, index), outcome.mask))
        write_record(
            unfinished,
            {
                "made_by": made_by,
                "count": len(results),
                "seed": variation.seed,
                "threshold": outcome.threshold,
                "picture": edit.picture.name,
            },
        )
        unfinished.replace(path)
    notes = (file.remark, *(note.sentence for note in outcome.notes))
    return Ended(edit, "done", results, notes=tuple(note for note in notes if note))


def _names(path: Path, count: int) -> Iterator[Path]:
    yield from ([path] if count == 1 else (_numbered(path, number + 1) for number in range(count)))


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-v{number}{path.suffix}")


def _line(ended: Ended) -> str:
    what = ended.sentence if ended.state == "failed" else " ".join(map(str, ended.results))
    return "\n".join((f"{ended.state:7} {ended.edit.picture.name}: {what}", *(f"        {n}" for n in ended.notes)))


class _Bar:
    """One line that is written over, on a terminal only."""

    _WIDTH = 24

    def __init__(self, number: int, total: int, name: str) -> None:
        self._number, self._total, self._name = number, total, name
        self._shown = sys.stderr.isatty()

    def show(self, step: Step) -> None:
        if self._shown:
            full = round(self._WIDTH * self._number / self._total)
            bar = "█" * full + "░" * (self._WIDTH - full)
            text = f"\r{bar} {self._number}/{self._total} {self._name}: {step.stage} {step.step}/{step.total}\x1b[K"
            print(text, end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
