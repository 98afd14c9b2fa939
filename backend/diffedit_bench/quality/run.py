"""The rows of a run: a line of JSON per case, editor and encoding ratio, in a file that a stopped run goes on with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffedit_protocol.errors import BadInputError
from tqdm import tqdm

from .cases import Cases, EditCase
from .editors import DEFAULT_RATIO, Edited, Editor

Key = tuple[str, str, float]


@dataclass(frozen=True)
class Row:
    """What one edit scored; `scores` by name, None where the case has no truth to ask."""

    case: str
    kind: str
    editor: str
    ratio: float
    scores: dict[str, float | None]

    @property
    def key(self) -> Key:
        return self.case, self.editor, self.ratio


class RowFile:
    """`rows.jsonl` of a folder, and beside it `run.json`: what the rows were made with, which must not change on the
    way.
    """

    def __init__(self, folder: Path, made_with: dict[str, Any]) -> None:
        """Open or begin a run. Raises BadInputError when the folder holds a run that was made with anything else."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path, facts = folder / "rows.jsonl", folder / "run.json"
        if facts.is_file():
            _check_same(folder, json.loads(facts.read_text()), made_with)
        else:
            facts.write_text(json.dumps(made_with, indent=2) + "\n")
        self.rows = {row.key: row for row in self._read()}

    def _read(self) -> Iterator[Row]:
        """The rows so far. A last line that was cut off by a stop in the middle of writing is taken away."""
        if not self.path.is_file():
            return
        whole, _, cut_off = self.path.read_text().rpartition("\n")
        if cut_off:
            self.path.write_text(whole + "\n" if whole else "")
        for line in whole.splitlines():
            yield Row(**json.loads(line))

    def add(self, row: Row) -> None:
        """Append a row and keep it."""
        self.rows[row.key] = row
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def _check_same(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    now = json.loads(json.dumps(now))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise BadInputError(
                f"{folder} holds a run with {name} {before.get(name)!r}; this one has {now.get(name)!r}. "
                "Choose another --out, or remove the folder."
            )


ScoreEdit = Callable[[EditCase, str, float, Edited], Row]


OnEdit = Callable[[EditCase, str, Edited], None]


def run_all(
    cases: Cases,
    editors: Sequence[Editor],
    ratios: dict[str, Sequence[float]],
    rows: RowFile,
    score: ScoreEdit,
    on_edit: OnEdit,
) -> None:
    """Do what `rows` does not hold yet. `ratios` names, by editor, encoding ratios beside the default one.

    The default ratio comes first, so that its cost is that of a first edit. `on_edit` sees the edits at the default
    ratio.
    """
    wanted = [(editor, ratio) for editor in editors for ratio in (DEFAULT_RATIO, *ratios.get(editor.name, ()))]
    missing = {
        name: todo
        for name in cases.names
        if (todo := [(editor, ratio) for editor, ratio in wanted if (name, editor.name, ratio) not in rows.rows])
    }
    total = len(cases) * len(wanted)
    left = sum(map(len, missing.values()))
    with tqdm(total=total, initial=total - left, unit="edit", desc="bench quality") as bar:
        for name, todo in missing.items():
            case = cases.load(name)
            for editor, ratio in todo:
                bar.set_postfix_str(f"{name} {editor.name} r={ratio:g}", refresh=False)
                edited = editor.edit(case, ratio)
                if ratio == DEFAULT_RATIO:
                    on_edit(case, editor.name, edited)
                rows.add(score(case, editor.name, ratio, edited))
                bar.update()
