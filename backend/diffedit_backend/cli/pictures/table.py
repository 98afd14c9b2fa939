"""Which pictures are edited with which words: a folder or glob, and a CSV table whose rows are edits.

Columns: file (a name in the folder; without this column every row applies to every picture), source, target; and any of
negative, threshold, grow, feather, strength, guidance, quality, method, seed, variations, mask, selection (PNG files,
relative to the table). An empty cell and a column that is not there take what the command line says.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffedit_protocol.errors import BadInputError, SchemaError
from diffedit_protocol.messages import EditRequest
from PIL import Image

_TEXTS = ("source", "target", "negative", "quality", "method")
_NUMBERS = {
    "threshold": float,
    "strength": float,
    "guidance": float,
    "grow": int,
    "feather": int,
    "seed": int,
    "variations": int,
}
_FILES = ("mask", "selection")
_COLUMNS = ("file", *_TEXTS, *_NUMBERS, *_FILES)


@dataclass(frozen=True)
class BulkEdit:
    """One edit of one picture. `result` is its file, whose numbered siblings hold further variations."""

    picture: Path
    result: Path
    request: EditRequest
    mask: Path | None = None
    selection: Path | None = None


def pictures_of(pattern: Path) -> list[Path]:
    """The pictures in a folder, or those that a glob matches, by name. Raises BadInputError when there are none."""
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    if pattern.is_dir():
        found = [file for file in pattern.iterdir() if file.suffix.lower() in endings]
    else:
        matches = Path(pattern.anchor or ".").glob(str(pattern.relative_to(pattern.anchor)))
        found = [file for file in matches if file.is_file()]
    if not found:
        raise BadInputError(f"There is no picture in '{pattern}'. Name a folder of pictures, or a glob in quotes.")
    return sorted(found)


def edits_of(pictures: list[Path], folder: Path, defaults: dict[str, Any], table: Path | None) -> list[BulkEdit]:
    """Every edit to be made, results named in `folder`. `defaults`: fields of EditRequest, mask and selection.

    Raises BadInputError that names the table's line and what is wrong in it.
    """
    rows: list[tuple[Path, dict[str, Any], str]]
    if table is None:
        rows = [(picture, {}, "the command line") for picture in pictures]
    else:
        rows = list(_rows(table, pictures))
    often = Counter(picture.stem for picture, _, _ in rows)
    count: Counter[str] = Counter()
    edits = []
    for picture, cells, where in rows:
        count[picture.stem] += 1
        name = picture.stem if often[picture.stem] == 1 else f"{picture.stem}-{count[picture.stem]}"
        edits.append(_edit(picture, folder / f"{name}.png", {**defaults, **cells}, where))
    return edits


def _edit(picture: Path, result: Path, fields: dict[str, Any], where: str) -> BulkEdit:
    files = {name: fields.pop(name) for name in _FILES}
    for name in ("source", "target"):
        if fields[name] is None:
            raise BadInputError(f"{where} says no {name} for '{picture.name}'. Add it there, or give --{name}.")
    try:
        return BulkEdit(picture, result, EditRequest(**fields), **files)
    except SchemaError as error:
        raise BadInputError(f"{where}, '{picture.name}': {error.sentence}") from error


def _rows(table: Path, pictures: list[Path]) -> Iterator[tuple[Path, dict[str, Any], str]]:
    """Picture, its values, and where they stand."""
    named = {picture.name: picture for picture in pictures}
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            unknown = [column for column in reader.fieldnames or () if column not in _COLUMNS]
            if unknown or not reader.fieldnames:
                raise BadInputError(
                    f"'{table.name}' has the unknown column {unknown[0]!r}. The columns are: {', '.join(_COLUMNS)}."
                    if unknown
                    else f"'{table.name}' is empty. Its first line names the columns: {', '.join(_COLUMNS)}."
                )
            for row in reader:
                where = f"Line {reader.line_num} of '{table.name}'"
                cells = _values(row, table.parent, where)
                if "file" not in reader.fieldnames:
                    yield from ((picture, dict(cells), where) for picture in pictures)
                elif row["file"] in named:
                    yield named[row["file"]], cells, where
                else:
                    raise BadInputError(f"{where} names '{row['file']}', which is not among the pictures.")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInputError(f"'{table}' cannot be read as CSV in UTF-8: {error}") from error


def _values(row: Mapping[str | None, Any], folder: Path, where: str) -> dict[str, Any]:
    if None in row:
        raise BadInputError(f"{where} has more cells than columns. Put texts with commas into quotes.")
    values: dict[str, Any] = {}
    for column, cell in row.items():
        if column == "file" or not cell:
            continue
        if column in _NUMBERS:
            try:
                values[column] = _NUMBERS[column](cell)
            except ValueError as error:
                raise BadInputError(f"{where}: {column} must be a number, not {cell!r}.") from error
        else:
            values[str(column)] = folder / cell if column in _FILES else cell
    return values


def parameters_of(request: EditRequest) -> dict[str, Any]:
    """What a result depends on beside pixels and model, as JSON knows it."""
    fields = json.loads(json.dumps(dataclasses.asdict(request)))
    return {name: value for name, value in fields.items() if name not in ("picture", "selection", "mask", "preview")}
