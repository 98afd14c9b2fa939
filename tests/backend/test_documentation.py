"""The pages of docs/ beside what they speak of."""

from __future__ import annotations

import ast
import json
import re
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import jsonschema
import pytest
import ray
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.S)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.M)


def anchor(heading: str) -> str:
    """What a forge makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def script(name: str) -> ModuleType:
    """docs/NAME.py, imported."""
    spec = spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_figures_of_the_maps_have_one_place_each_that_their_script_can_write() -> None:
    make_figures = script("make_figures")
    for page, pattern in (("how-it-works.md", make_figures.TABLE), ("first-edit.md", make_figures.FIRST_EDIT)):
        assert len(pattern.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))) == 1, page


SCRIPTS = sorted(path.stem for path in (ROOT / "docs").glob("make_*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_script_of_the_pages_imports_from_the_project_is_there(name: str) -> None:
    source = (ROOT / "docs" / f"{name}.py").read_text(encoding="utf-8")
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    inner = [text for text in texts if isinstance(text, str) and text.startswith("\nimport ")]  # for another process
    trees = [ast.parse(text) for text in (source, *inner)]
    wanted = [
        (node.module, alias.name)
        for node in (node for tree in trees for node in ast.walk(tree))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("diffedit_")
        for alias in node.names
    ]
    missing = []
    for module, attribute in wanted:
        if not hasattr(import_module(module), attribute):
            try:
                import_module(f"{module}.{attribute}")
            except ModuleNotFoundError:
                missing.append(f"{module}.{attribute}")
    assert missing == []


def test_the_api_page_says_what_the_docstrings_say() -> None:
    make_api = script("make_api")
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == make_api.page(), (
        "docs/api.md is older than the docstrings: run .venv/bin/python docs/make_api.py"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    lost = []
    for link in _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue  # the web's
        name, _, fragment = link.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists() or (
            fragment and fragment not in map(anchor, _HEADING.findall(there.read_text(encoding="utf-8")))
        ):
            lost.append(link)
    assert not lost, f"{page.name} links to what is not there: {', '.join(lost)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_of_the_project_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    spans = re.findall(r"`([\w./*-]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    # In code blocks a file is an argument among others.
    words = [word for block in re.findall(r"```\w*\n(.*?)```", text, re.S) for word in re.split(r"[\s`'\"]+", block)]
    named = {name for name in [*spans, *words] if re.match(r"(docs|tests|backend|protocol|krita_plugin|\.ci)/", name)}
    tests = {name for name in spans if re.fullmatch(r"test_\w+\.py", name)}
    lost = {name for name in named if not any(ROOT.glob(name.rstrip("/")))}
    lost |= {name for name in tests if not any((ROOT / "tests").rglob(name))}
    assert not lost


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_single_test_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", page.read_text(encoding="utf-8"))
    there = {file.name: file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py")}
    lost = [f"{file}::{name}" for file, name in named if f"def {name}(" not in there.get(file, "")]
    assert not lost


def test_every_page_can_be_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = {link.partition("#")[0] for link in _LINK.findall(readme)}
    assert {f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"} <= linked


def test_the_cluster_file_of_a_studio_is_one_that_ray_takes_and_it_has_its_workers_started() -> None:
    found = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "several-gpus.md").read_text(encoding="utf-8"), re.S)
    assert found is not None
    cluster = yaml.safe_load(found[1])
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(cluster, schema)
    # Ray starts every box of `worker_ips` unless these say less.
    assert cluster["provider"]["worker_ips"]
    assert not {"min_workers", "max_workers"} & set(cluster)
    # Without its own copy of this file the head starts no other box.
    assert "--autoscaling-config ~/ray_bootstrap_config.yaml" in cluster["head_start_ray_commands"][-1]


def test_every_test_and_file_that_the_reliability_page_names_exists() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    code = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    files = {file.name for file in (ROOT / "tests").rglob("test_*.py")}
    named = set(re.findall(r"\btest_\w+\b(?!\.py)", page))
    assert len(named) > 40
    assert {name for name in named if f"def {name}(" not in code} == set()
    assert {name for name in re.findall(r"\btest_\w+\.py", page) if name not in files} == set()


def test_every_row_of_the_reliability_page_names_a_test() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and " test" not in line.split("|")[3][:5]]
    assert len(rows) > 30
    assert [row for row in rows if "`test_" not in row] == []
