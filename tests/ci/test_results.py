"""What `.ci/run` and `.ci/kritas` make of a test run's report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "results.py"
PASSED = '<testcase classname="tests.a" name="test_one" time="1"/>'
SKIPPED = '<testcase classname="tests.a" name="test_two"><skipped message="no network"/></testcase>'
FAILED = '<testcase classname="tests.a" name="test_three"><failure message="m"/></testcase>'
ERROR = '<testcase classname="tests.a" name="test_four"><error message="m"/></testcase>'


def results(folder: Path, *cases: str, allowed: str = "# nothing\n") -> tuple[int, str]:
    """The script's exit code and output for one report of `cases`, beside a list of allowed skips."""
    script = folder / SCRIPT.name
    script.write_bytes(SCRIPT.read_bytes())
    (folder / "allowed-skips").write_text(allowed)
    report = folder / "report.xml"
    report.write_text(f'<testsuites><testsuite name="Krita 5" time="7">{"".join(cases)}</testsuite></testsuites>')
    answer = subprocess.run([sys.executable, str(script), str(report)], capture_output=True, text=True, timeout=60)
    return answer.returncode, answer.stdout


def test_what_passed_is_counted(tmp_path: Path) -> None:
    assert results(tmp_path, PASSED, PASSED) == (0, "Krita 5: 2 passed in 7 s\n")


def test_a_skip_that_nobody_allowed_is_a_failure_and_is_named_with_its_reason(tmp_path: Path) -> None:
    code, reported = results(tmp_path, PASSED, SKIPPED)
    assert code == 1
    assert "tests.a::test_two (no network)" in reported


def test_a_skip_that_is_on_the_list_is_none(tmp_path: Path) -> None:
    code, reported = results(tmp_path, PASSED, SKIPPED, allowed="tests.a::test_t*: there is no network here\n")
    assert (code, reported) == (0, "Krita 5: 1 passed, 1 skipped in 7 s\n")


@pytest.mark.parametrize(
    ("case", "word"), [(FAILED, "failed: tests.a::test_three"), (ERROR, "error: tests.a::test_four")]
)
def test_failures_and_errors_are_named(tmp_path: Path, case: str, word: str) -> None:
    code, reported = results(tmp_path, PASSED, case)
    assert code == 1
    assert word in reported


@pytest.mark.parametrize("cases", [(), (SKIPPED,)])
def test_a_run_in_which_no_test_ran_is_a_failure(tmp_path: Path, cases: tuple[str, ...]) -> None:
    code, reported = results(tmp_path, *cases, allowed="tests.a::*: everything\n")
    assert code == 1
    assert "no test ran" in reported


def test_a_report_that_was_never_written_is_a_failure(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "none.xml")], capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 1
    assert "none.xml: no report" in answer.stdout


def test_every_line_of_the_project_s_list_names_a_reason() -> None:
    lines = (SCRIPT.parent / "allowed-skips").read_text().splitlines()
    named = [line for line in lines if line.strip() and not line.startswith("#")]
    assert all(": " in line for line in named)
