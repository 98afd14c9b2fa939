"""Runs the edits of a table one after the other, skips those that are done, and reports how each ended."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffedit_protocol.errors import BadInputError, DiffEditError, InternalError

from ...imaging.files import lay_in, read_picture, read_plane
from ...imaging.results import format_for
from ...method.steps import Step
from ...outcome import paste
from ..terminal import ProgressLine
from .editor import Editor
from .outputs import Outputs, Record, is_untouched, made_with, read_record, same_file, write_result
from .report import EditReport
from .table import BulkEdit, FaultyRow, edits_of, parameters_of, pictures_of, variation_of

_FIELDS = ("source", "target", "negative", "threshold", "grow", "feather", "strength", "guidance", "quality", "method")
_COUNTS = ("seed", "variations")
_SWITCHES = ("detail", "matting", "attention", "segment", "blend")


def run_bulk(args: argparse.Namespace) -> int:
    """Edit many pictures. Returns 0 when every edit is done or was before, 1 when one failed.

    Raises BadInputError before anything is edited for a folder, a table or results that cannot be.
    """
    rows = _rows(args)
    outputs = _checked_outputs(args, rows)
    edits = [row for row in rows if isinstance(row, BulkEdit)]
    faulty = [row for row in rows if isinstance(row, FaultyRow)]
    for row in faulty:  # first, so that they are seen before the work begins
        _print(args, EditReport(row.picture, "failed", sentence=row.sentence, code=BadInputError.code))
    editor, failed = Editor(args), len(faulty)
    for number, edit in enumerate(edits):
        with ProgressLine(number, len(edits)) as progress:
            report = _report(edit, editor, args, outputs, progress)
        failed += report.state == "failed"
        _print(args, report)
    if failed:
        print(f"diffedit: {failed} of {len(rows)} edits failed. Run it again to try only those.", file=sys.stderr)
    return 1 if failed else 0


def _rows(args: argparse.Namespace) -> list[BulkEdit | FaultyRow]:
    defaults: dict[str, Any] = {
        name: getattr(args, name) for name in (*_FIELDS, *_COUNTS, *_SWITCHES, "mask", "selection")
    }
    defaults |= {
        "adapters": tuple(args.adapter),
        "preview": False,
        "model": (args.model or "") if args.connect is not None else "",
    }
    return edits_of(pictures_of(args.picture, args.result), args.result, defaults, args.csv)


def _checked_outputs(args: argparse.Namespace, rows: list[BulkEdit | FaultyRow]) -> Outputs:
    """The folder of results is made. Raises BadInputError where a result would take the place of an input."""
    edits = [row for row in rows if isinstance(row, BulkEdit)]
    for folder in {edit.picture.parent for edit in edits}:
        if same_file(folder, args.result):
            raise BadInputError(
                f"The pictures are in '{args.result}' themselves: a result could take their place, and the next run "
                "would edit the results. Name another folder for them."
            )
    inputs = {path: kind for edit in edits for path, kind in edit.inputs.items()}
    if args.csv is not None:
        inputs[args.csv] = "table"
    outputs = Outputs(inputs, args.overwrite)
    # By name first: thousands of results need not be compared with thousands of pictures.
    names = {path.name.casefold() for path in inputs} | {path.resolve().name.casefold() for path in inputs}
    written = [path for edit in edits for path in edit.outputs]
    outputs.check_inputs(p for p in written if p.name.casefold() in names or p.is_symlink() or _has_other_names(p))
    try:
        args.result.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"The folder '{args.result}' cannot be made: {error.strerror}. Name another.") from error
    return outputs


def _has_other_names(path: Path) -> bool:
    return path.exists() and path.stat().st_nlink > 1


def _print(args: argparse.Namespace, report: EditReport) -> None:
    if args.json:
        report.print_json()
    else:
        report.print_lines()


def _report(
    edit: BulkEdit, editor: Editor, args: argparse.Namespace, outputs: Outputs, progress: ProgressLine
) -> EditReport:
    """Runs one edit, or says why it need not or cannot be run: one bad row must not end the batch."""
    parameters = parameters_of(edit.request)
    try:
        made_by = _made_by(edit, args)
        if (results := _earlier(edit, made_by, args.overwrite)) is not None:
            return EditReport(edit.picture, "skipped", results, parameters=parameters)
        _check_replaced(edit, outputs)
    except (DiffEditError, OSError) as error:
        return _failed(edit, error)
    editor.prepare()  # a model that cannot be loaded fails every row alike: that ends the batch
    try:
        results, notes = _run(edit, editor, made_by, progress)
    except Exception as error:
        return _failed(edit, error)
    return EditReport(edit.picture, "done", results, notes=notes, parameters=parameters)


def _failed(edit: BulkEdit, error: Exception) -> EditReport:
    if isinstance(error, DiffEditError):
        known = error
    elif isinstance(error, OSError):
        known = BadInputError(f"'{error.filename or edit.picture}': {error.strerror or error}.")
    else:
        known = InternalError(f"A fault of this program: {type(error).__name__}: {error}")
    parameters = parameters_of(edit.request)
    return EditReport(edit.picture, "failed", sentence=known.sentence, code=known.code, parameters=parameters)


def _made_by(edit: BulkEdit, args: argparse.Namespace) -> Record:
    """Everything that the result depends on: equal, so is the result, and it need not be made again."""
    contents = {
        name: hashlib.sha256(path.read_bytes()).hexdigest() if path is not None and path.is_file() else None
        for name, path in (("picture", edit.picture), ("mask", edit.mask), ("selection", edit.selection))
    }
    return {"sha256": contents, **parameters_of(edit.request), **made_with(args)}


def _earlier(edit: BulkEdit, made_by: Record, overwrite: bool) -> tuple[Path, ...] | None:
    """The results of an earlier run with the same parameters, when all of them are there: painted on or not, unless
    they are to be overwritten."""
    first = edit.result if edit.result.is_file() else variation_of(edit.result, 1)
    record = read_record(first)
    if record is None or record.get("made_by") != made_by:
        return None
    results = tuple(_names(edit.result, int(record.get("count", 1))))
    there = all(is_untouched(path) if overwrite else read_record(path) is not None for path in results)
    return results if there else None


def _check_replaced(edit: BulkEdit, outputs: Outputs) -> None:
    for path in edit.outputs:
        outputs.check_replaced(path)


def _run(
    edit: BulkEdit, editor: Editor, made_by: Record, progress: ProgressLine
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """The results' files, and what is to be known of them. Raises every error that an edit may end in."""
    file = read_picture(edit.picture)
    format_ = format_for(edit.result, file)
    edit.result.parent.mkdir(parents=True, exist_ok=True)
    mask, selection = (None if path is None else read_plane(path, *file.size) for path in (edit.mask, edit.selection))

    def show(step: Step) -> None:
        progress.show(f"{edit.picture.name}: {step.stage} {step.step}/{step.total}")

    outcome = editor.edit(edit.request, file.pixels, selection=selection, mask=mask, on_step=show)
    results = tuple(_names(edit.result, len(outcome.edits)))
    for index, (variation, path) in enumerate(zip(outcome.edits, results, strict=True)):
        samples = lay_in(file, paste(file.pixels, outcome, index), outcome.mask)
        record = {
            "made_by": made_by,
            "count": len(results),
            "seed": variation.seed,
            "threshold": outcome.threshold,
            "picture": edit.picture.name,
        }
        write_result(path, format_, file, samples, record)
    notes = (*file.remarks, *format_.remarks(edit.result), *(warning.sentence for warning in outcome.warnings))
    return results, notes


def _names(path: Path, count: int) -> Iterator[Path]:
    yield from ([path] if count == 1 else (variation_of(path, number + 1) for number in range(count)))
