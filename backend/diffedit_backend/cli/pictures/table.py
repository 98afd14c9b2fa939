"""Which pictures are edited with which words: a folder or glob, and a CSV table whose rows are edits.

Columns: file (a name in the folder; without this column every row applies to every picture), source, target; and any of
negative, threshold, grow, feather, strength, guidance, quality, method, seed, variations, mask, selection (PNG files,
relative to the table). An empty cell and a column that is not there take what the command line gives. Cells are parted
by commas, semicolons or tabs; UTF-8, UTF-16 and, failing these, Windows' code page 1252 are read; 0,5 is 0.5.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import stat
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffedit_protocol.errors import BadInputError, SchemaError
from diffedit_protocol.messages import EditRequest
from PIL import Image

from ..arguments import STANDARD_STREAM

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
_DELIMITERS = ",;\t"
_WILDCARDS = "*?["


@dataclass(frozen=True)
class Picture:
    """A picture to be edited. name: of its results, without a number: its own with ".png", below the results' folder
    where the glob's is."""

    file: Path
    name: Path


@dataclass(frozen=True)
class BulkEdit:
    """One edit of one picture. `result` is its file, whose numbered siblings hold further variations."""

    picture: Path
    result: Path
    request: EditRequest
    mask: Path | None = None
    selection: Path | None = None

    @property
    def inputs(self) -> dict[Path, str]:
        files = {self.picture: "picture", self.mask: "mask", self.selection: "selection"}
        return {file: kind for file, kind in files.items() if file is not None}

    @property
    def outputs(self) -> list[Path]:
        """Every file that it may write."""
        return [self.result, *(variation_of(self.result, i + 1) for i in range(self.request.variations))]


@dataclass(frozen=True)
class FaultyRow:
    """A row that cannot be run, and why. `picture`: what it names, or nothing."""

    picture: Path
    sentence: str


def variation_of(path: Path, number: int) -> Path:
    """Where variation `number`, from 1 on, of a result lies."""
    return path.with_name(f"{path.stem}-v{number}{path.suffix}")


def is_glob(path: Path) -> bool:
    return not path.exists() and any(character in str(path) for character in _WILDCARDS)


def pictures_of(pattern: Path, results: Path) -> list[Picture]:
    """The pictures in a folder, or those that a glob matches, by name; hidden files are none, nor is what lies
    in the folder `results` below. Raises BadInputError when there are none."""
    if pattern.is_dir():
        endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
        base, found = pattern, [file for file in pattern.iterdir() if file.suffix.lower() in endings]
    elif pattern.is_file():
        base, found = pattern.parent, [pattern]
    else:
        parts = pattern.parts
        wild = next((i for i, part in enumerate(parts) if any(c in part for c in _WILDCARDS)), len(parts) - 1)
        base = Path(*parts[:wild]) if wild else Path()
        found = list(base.glob(str(Path(*parts[wild:])))) if base.is_dir() else []
    below = [file for file in found if file.is_file() and not _is_hidden(file, base)]
    inside = results.resolve() if base.resolve() in results.resolve().parents else None
    outside = [file for file in below if inside not in file.resolve().parents]
    if not outside:
        raise BadInputError(f"There is no picture in '{pattern}'. Name a folder of pictures, or a glob in quotes.")
    return [Picture(file, _result_name(file.relative_to(base))) for file in sorted(outside)]


def _is_hidden(file: Path, base: Path) -> bool:
    if any(part.startswith(".") for part in file.relative_to(base).parts):
        return True
    attributes = getattr(file.stat(), "st_file_attributes", 0)
    return bool(attributes & getattr(stat, "FILE_ATTRIBUTE_HIDDEN", 0)) and sys.platform == "win32"


def _result_name(file: Path) -> Path:
    """A name that the full name of the picture alone decides: a.png stays a.png, a.jpg becomes a.jpg.png."""
    return file if file.suffix.lower() == ".png" else file.with_name(f"{file.name}.png")


def edits_of(
    pictures: list[Picture], folder: Path, defaults: dict[str, Any], table: Path | None
) -> list[BulkEdit | FaultyRow]:
    """Every edit to be made, results named in `folder`. `defaults`: fields of EditRequest, mask and selection.

    A row with a fault becomes a FaultyRow, whose sentence names the line. Raises BadInputError for a table that cannot
    be read as a whole.
    """
    rows: Iterable[_Row] = (
        [_Row(picture, {}, "The command line") for picture in pictures] if table is None else _rows(table, pictures)
    )
    count: Counter[Path] = Counter()
    edits: list[BulkEdit | FaultyRow] = []
    for row in rows:
        if isinstance(row.picture, Path):
            edits.append(FaultyRow(row.picture, row.fault))
            continue
        name, number = row.picture.name, count[row.picture.file] + 1
        count[row.picture.file] = number
        # The first row of a picture has its plain name, whether or not a second one is added later.
        own = name if number == 1 else name.with_name(f"{name.stem}-row{number}{name.suffix}")
        edits.append(_edit(row, row.picture.file, folder / own, defaults))
    return _without_collisions(edits)


@dataclass(frozen=True)
class _Row:
    """A row of the table: its picture (a path alone where that is not among the pictures), values, where it stands."""

    picture: Picture | Path
    cells: dict[str, Any]
    where: str
    fault: str = ""


def _edit(row: _Row, picture: Path, result: Path, defaults: dict[str, Any]) -> BulkEdit | FaultyRow:
    fields = {**defaults, **row.cells}
    files = {name: fields.pop(name) for name in _FILES}
    if row.fault:
        return FaultyRow(picture, row.fault)
    for name in ("source", "target"):
        if fields[name] is None:
            return FaultyRow(
                picture, f"{row.where} gives no {name} for '{picture.name}'. Add it there, or give --{name}."
            )
    try:
        return BulkEdit(picture, result, EditRequest(**fields), **files)
    except SchemaError as error:
        return FaultyRow(picture, f"{row.where}, '{picture.name}': {error.sentence}")


def _without_collisions(edits: list[BulkEdit | FaultyRow]) -> list[BulkEdit | FaultyRow]:
    """Edits that would write the same file become faulty: which of them should win, nobody can tell."""
    writers: defaultdict[str, set[int]] = defaultdict(set)
    for index, edit in enumerate(edits):
        if isinstance(edit, BulkEdit):
            for path in edit.outputs:
                writers[os.path.normcase(str(path)).casefold()].add(index)  # case: a disk may not tell it
    sane: list[BulkEdit | FaultyRow] = []
    for index, edit in enumerate(edits):
        if isinstance(edit, BulkEdit):
            keys = (os.path.normcase(str(path)).casefold() for path in edit.outputs)
            others = sorted(set().union(*(writers[key] for key in keys)) - {index})
            if others:
                other = edits[others[0]].picture
                sentence = f"'{edit.picture.name}' and '{other.name}' would both be written to '{edit.result.name}'."
                sane.append(FaultyRow(edit.picture, f"{sentence} Rename one of them."))
                continue
        sane.append(edit)
    return sane


def _rows(table: Path, pictures: list[Picture]) -> Iterator[_Row]:
    """The rows of the table that are not blank."""
    named = {_normal(picture.file.name): picture for picture in pictures}
    try:
        data = sys.stdin.buffer.read() if table == STANDARD_STREAM else table.read_bytes()
    except OSError as error:
        raise BadInputError(f"'{table}' cannot be read: {error.strerror or error}.") from error
    lines = list(io.StringIO(_decoded(data, table), newline=""))
    skipped = 0
    if lines and lines[0].lower().startswith("sep="):  # as Excel writes to itself
        skipped, lines = 1, lines[1:]
    try:
        reader = csv.reader(lines, delimiter=_delimiter(lines), strict=True)
        header = [name.strip().lower() for name in next(reader, [])]
        while header and not header[-1]:
            header.pop()  # a spreadsheet's empty columns
        unknown = [column for column in header if column not in _COLUMNS]
        if not header:
            raise BadInputError(f"'{table.name}' is empty. Its first line names the columns: {', '.join(_COLUMNS)}.")
        if unknown:
            raise BadInputError(
                f"'{table.name}' has the unknown column {unknown[0]!r}. The columns are: {', '.join(_COLUMNS)}."
            )
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            where = f"Line {reader.line_num + skipped} of '{table.name}'"
            yield from _rows_of(header, cells, where, table.parent, pictures, named)
    except csv.Error as error:
        raise BadInputError(f"'{table}' cannot be read as CSV: {error}") from error


def _rows_of(
    header: list[str],
    cells: list[str],
    where: str,
    folder: Path,
    pictures: list[Picture],
    named: Mapping[str, Picture],
) -> Iterator[_Row]:
    """What one line of the table asks for: an edit of one picture, or of each."""
    fault, values = "", {}
    if any(cell.strip() for cell in cells[len(header) :]):
        fault = f"{where} has more cells than columns. Put texts with commas into quotes."
    row = dict(zip(header, cells, strict=False))
    try:
        values = _values(row, folder, where)
    except BadInputError as error:
        fault = fault or error.sentence
    if "file" not in header:
        yield from (_Row(picture, dict(values), where, fault) for picture in pictures)
        return
    name = row.get("file", "").strip()
    if _normal(name) in named:
        yield _Row(named[_normal(name)], values, where, fault)
    else:
        yield _Row(Path(name), values, where, fault or f"{where} names '{name}', which is not among the pictures.")


def _normal(name: str) -> str:
    """A file name in one of the two ways to write an accented letter: macOS writes the other."""
    return unicodedata.normalize("NFC", name)


def _decoded(data: bytes, table: Path) -> str:
    """The text of a table as spreadsheets write them."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    elif data[:1] and b"\0" in data[:4]:  # ASCII letters of UTF-16 without its mark
        encodings = ["utf-16-le" if data[1:2] == b"\0" else "utf-16-be"]
    else:
        encodings = ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise BadInputError(f"'{table}' is no text in UTF-8, UTF-16 or code page 1252. Save it as CSV in UTF-8.")


def _delimiter(lines: list[str]) -> str:
    """What stands between the names of the columns: the delimiter that gives the most names that are known."""

    def known(delimiter: str) -> int:
        header = next(csv.reader(io.StringIO(lines[0]), delimiter=delimiter), []) if lines else []
        return sum(name.strip().lower() in _COLUMNS for name in header)

    return max(_DELIMITERS, key=known)


def _values(row: Mapping[str, str], folder: Path, where: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for column, text in row.items():
        cell = text.strip()
        if column == "file" or not cell:
            continue
        if column in _NUMBERS:
            try:
                values[column] = _NUMBERS[column](cell.replace(",", "."))
            except ValueError as error:
                raise BadInputError(f"{where}: {column} must be a number, not {cell!r}.") from error
        else:
            values[column] = folder / cell if column in _FILES else cell
    return values


def parameters_of(request: EditRequest) -> dict[str, Any]:
    """What a result depends on beside pixels and model, as JSON knows it."""
    fields = json.loads(json.dumps(dataclasses.asdict(request)))
    return {name: value for name, value in fields.items() if name not in ("picture", "selection", "mask", "preview")}
