"""Makes docs/gallery.md and its pictures with the bundled model: `.venv/bin/python docs/make_gallery.py`.

Run it again when the bundled model changes. Which scenes are shown was settled before any of them was seen: the first
ones of a seed of the benchmark that no setting was chosen on. Nothing is left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from diffedit_backend.models import load_model, use_threads
from diffedit_bench.quality.cases import KINDS, EditCase, Picture, bundled_cases
from diffedit_bench.quality.editors import DEFAULT_RATIO, Edited
from diffedit_bench.quality.roster import make_editors
from PIL import Image

PAGE = Path(__file__).parent / "gallery.md"
PICTURES = Path(__file__).parent / "images" / "gallery"
SEED = 1  # docs/quality.md's figures are of seed 0
EACH = 6  # edits of every kind
CELL = 160  # px of every picture in the page
GAP = 4
PAPER = (250, 250, 250)
WHAT = {
    "swap": "One thing becomes another.",
    "colour": "A thing gets another colour.",
    "background": "The ground changes, the things stay.",
    "delete": "A thing goes away.",
    "add": "A thing is added. No word says where it goes, and DiffEdit has nothing to find there: its weak side, shown "
    "for what it is.",
}
HEAD = """# Gallery

Edits with the small model that ships with the package, successes and failures alike: the first {each} scenes of each
kind of edit, of seed {seed} of the benchmark. The rule was settled before any of these scenes was seen, and nothing is
left out. Every one shows, before or after the edit, a pair of things, a thing on a ground, or a thing in a place that
no training scene shows. Settings are the benchmark's: the fast method at normal quality, the mask as it was found, one
edit each.

The judge, a small classifier that was trained for the benchmark, says whether the edit became what the text asks for.
It counts {done} of {count} here, and is lenient: a thing in the right colours passes before its shape does. Figures
with intervals and comparisons are in [quality.md](quality.md). Your own Stable Diffusion weights know far more than
these dozen things.

`docs/make_gallery.py` makes this page anew. From left: source, mask, edit.
"""


def main() -> None:
    """Edit every scene and write pictures and page."""
    model = load_model("bundled", "cpu")
    use_threads(model)
    editor = make_editors(["ours"], model)[0]
    cases = bundled_cases(EACH * len(KINDS), SEED, model.native_size, KINDS)
    PICTURES.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[str]] = {kind: [] for kind in KINDS}
    done = 0
    for name in cases.names:
        case = cases.load(name)
        edited = editor.edit(case, DEFAULT_RATIO)
        assert case.succeeds is not None
        success = case.succeeds(edited.delivered)
        done += success
        rows[case.kind].append(row(case, edited, success, len(rows[case.kind])))
    lines = [HEAD.format(each=EACH, seed=SEED, done=done, count=len(cases))]
    for kind in KINDS:
        lines += [
            f"## {kind.capitalize()}\n\n{WHAT[kind]}\n",
            "| | asked for | judge |\n|---|---|---|",
            *rows[kind],
            "",
        ]
    PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print(f"{PAGE}: the judge counts {done} of {len(cases)}")


def row(case: EditCase, edited: Edited, success: bool, number: int) -> str:
    """A line of the page's table; saves its picture."""
    file = PICTURES / f"{case.kind}-{number + 1}.png"
    mask = np.repeat(edited.mask[..., None], 3, 2)
    strip(case.source, mask, edited.delivered).save(file, optimize=True)
    asked = f"{case.source_text} → {case.target_text}"
    said = "yes" if success else "no"
    print(f"{file.name}: {asked}: {said}")
    return f"| ![source, mask, edit](images/gallery/{file.name}) | {asked} | {said} |"


def strip(*cells: Picture) -> Image.Image:
    """Pictures side by side, each CELL px wide and high."""
    image = Image.new("RGB", (len(cells) * (CELL + GAP) - GAP, CELL), PAPER)
    for i, cell in enumerate(cells):
        image.paste(Image.fromarray(cell).resize((CELL, CELL), Image.Resampling.LANCZOS), (i * (CELL + GAP), 0))
    return image


if __name__ == "__main__":
    main()
