"""Who imports whom, and the names that `docs/architecture.md` sends a reader to."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
HOW_TO = " ".join(PAGE.partition("## How to add")[2].partition("\n## ")[0].split())
NAMED = sorted(set(re.findall(r"`(\w+)` (?:of|in) `([\w/]+\.py)`", HOW_TO)))


def test_packages_import_downwards_only_and_without_cycles() -> None:
    places = os.pathsep.join(str(ROOT / name) for name in ("protocol", "backend", "krita_plugin"))
    program = Path(sys.executable).with_name("lint-imports")
    answer = subprocess.run(
        [str(program), "--no-cache"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert answer.returncode == 0, answer.stdout
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", answer.stdout), answer.stdout


def test_the_page_names_a_place_for_each_step() -> None:
    assert len(NAMED) >= 12


@pytest.mark.parametrize(("name", "file"), NAMED)
def test_what_the_page_says_how_to_extend_is_where_it_says(name: str, file: str) -> None:
    found = {
        node.name if isinstance(node, ast.ClassDef | ast.FunctionDef) else getattr(node, "id", "")
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
    }
    assert name in found


@pytest.mark.parametrize("file", sorted(set(re.findall(r"`([\w/]+(?:\.py|/))`", HOW_TO))))
def test_a_file_that_the_page_sends_a_reader_to_is_there(file: str) -> None:
    assert (ROOT / file).exists()
