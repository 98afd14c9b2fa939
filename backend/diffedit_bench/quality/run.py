"""One run: every editor on every case, rows kept as they come, pictures of the first cases for the contact sheets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from .cases import Cases, EditCase
from .editors import DEFAULT_RATIO, Edited, Editor
from .rows import Row, RowFile

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


class StripsOf:
    """Keeps a strip of a contact sheet for each of the first cases and every editor, as PNG files in a folder."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        self._names = names
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, case: EditCase, editor: str, edited: Edited) -> None:
        from .sheets import strip

        if case.name in self._names:
            strip(case, edited).save(self.path(case.name, editor))

    def path(self, case: str, editor: str) -> Path:
        return self._folder / f"{editor}-{case}.png"

    def of(self, editor: str) -> list[Path]:
        """The strips of an editor that are there, in the cases' order."""
        return [path for name in self._names if (path := self.path(name, editor)).is_file()]
