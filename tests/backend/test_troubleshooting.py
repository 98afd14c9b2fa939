"""docs/troubleshooting.md beside the sentences that the code can show."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import diffedit_protocol.errors as errors
import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
KINDS = {
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.DiffEditError)
}
# Packages beside the product, whose errors are a developer's.
DEVELOPMENT = {"diffedit_bench", "diffedit_training", "diffedit_krita_driver"}
# What breaks the protocol has one paragraph for all: no sentence of it tells an artist more than that.
UNLISTED = {"SchemaError"}
SHORTEST = 8  # letters of a sentence that are written out, so that none fits everything
GAP = "…"


def plain(text: str) -> str:
    """Without quotes and marks, and every inserted value as one GAP."""
    return re.sub(f"{GAP}+", GAP, re.sub(r"""['"“”*`]""", "", re.sub(r"\{[^{}]*\}", GAP, text)))


def letters(sentence: str) -> int:
    """How many are written out."""
    return len(re.sub(r"\W", "", sentence))


def text_of(node: ast.AST) -> str:
    """A string of the source, with GAP for what is put in when it is shown; "" for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else GAP for part in node.values)
    return ""


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for folder in ("protocol", "backend", "krita_plugin"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if "_vendor" not in file.parts:
                yield file, ast.parse(file.read_text(encoding="utf-8"))


def raised() -> Iterator[tuple[str, str]]:
    """Place and sentence of every error that an artist may see."""
    for file, tree in sources():
        if DEVELOPMENT & set(file.parts):
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name not in KINDS - UNLISTED:
                continue
            sentence = plain(text_of(node.args[0]))
            if letters(sentence) >= SHORTEST:  # a shorter one is made of another's
                yield f"{file.relative_to(ROOT)}:{node.lineno}", sentence


def rows() -> list[str]:
    """The sentences of the page's tables."""
    cells = re.findall(r"^\| (.+?) \|", PAGE.read_text(encoding="utf-8"), re.M)
    return [sentence for cell in cells for sentence in cell.split("<br>") if sentence != "sentence"]


def pattern(row: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, plain(row).strip(f" {GAP}.").split(GAP))), re.S)


PATTERNS = {row: pattern(row) for row in rows()}


@pytest.mark.parametrize("row", PATTERNS)
def test_a_sentence_of_the_page_is_long_enough_to_be_recognised(row: str) -> None:
    assert letters(plain(row)) >= SHORTEST


def test_every_error_that_can_be_shown_is_on_the_page() -> None:
    lost = [
        f"{place}: {sentence}"
        for place, sentence in raised()
        if not any(known.search(sentence) for known in PATTERNS.values())
    ]
    assert not lost, "Not in docs/troubleshooting.md:\n" + "\n".join(lost)


def test_every_sentence_of_the_page_is_one_that_the_code_can_show() -> None:
    texts = [plain(text) for _, tree in sources() for node in ast.walk(tree) if (text := text_of(node))]
    reported = {row: known for row, known in PATTERNS.items() if not row.startswith("**")}
    lost = [row for row, known in reported.items() if not any(known.search(text) for text in texts)]
    assert not lost, "No code says:\n" + "\n".join(lost)
