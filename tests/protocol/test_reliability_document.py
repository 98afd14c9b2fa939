"""docs/reliability.md names a test for every fault and attack; each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_every_test_and_file_that_is_named_exists() -> None:
    code = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    files = {file.name for file in (ROOT / "tests").rglob("test_*.py")}
    named = set(re.findall(r"\btest_\w+\b(?!\.py)", DOCUMENT))
    assert len(named) > 40
    assert {name for name in named if f"def {name}(" not in code} == set()
    assert {name for name in re.findall(r"\btest_\w+\.py", DOCUMENT) if name not in files} == set()


def test_every_row_of_the_page_names_a_test() -> None:
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("| ") and " test" not in line.split("|")[3][:5]]
    assert len(rows) > 30
    assert [row for row in rows if "`test_" not in row] == []
