"""Counts of test runs, from their JUnit reports; a skipped test that .ci/allowed-skips does not name is a failure.

    .venv/bin/python .ci/results.py REPORT.xml...

Prints one line per report with its failures below it. Exit code 1: a report is missing or empty, something failed, or
a test was skipped that may not be.
"""

from __future__ import annotations

import fnmatch
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

ALLOWED = Path(__file__).with_name("allowed-skips")


@dataclass
class Results:
    """One report. Tests are named as `tests.krita.test_actions::test_name[parameter]`."""

    suite: str
    seconds: float = 0.0
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # the test -> why

    @classmethod
    def read(cls, path: Path) -> Results:
        """OSError when there is no such file, ParseError when it is cut off."""
        suite = next(ET.parse(path).getroot().iter("testsuite"))
        results = cls(suite.get("name", path.stem), float(suite.get("time", "0")))
        for case in suite.iter("testcase"):
            name = f"{case.get('classname')}::{case.get('name')}"
            if case.find("failure") is not None:
                results.failed.append(name)
            elif case.find("error") is not None:  # in a fixture: before the test, or after one that passed
                results.errors.append(name)
            elif (skipped := case.find("skipped")) is not None:
                results.skipped[name] = skipped.get("message", "")
            else:
                results.passed += 1
        return results

    def __str__(self) -> str:
        counts = {"failed": len(self.failed), "errors": len(self.errors), "skipped": len(self.skipped)}
        parts = [f"{self.passed} passed", *(f"{count} {word}" for word, count in counts.items() if count)]
        return f"{self.suite}: {', '.join(parts)} in {self.seconds:.0f} s"


def allowed_skips(text: str) -> dict[str, str]:
    """Pattern -> reason, from lines `PATTERN: REASON`; empty lines and those with # at the start say nothing."""
    lines = [line.strip() for line in text.splitlines()]
    found = dict(line.split(": ", 1) for line in lines if line and not line.startswith("#"))
    return {pattern.strip(): reason.strip() for pattern, reason in found.items()}


def not_allowed(skipped: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The skipped tests that no pattern (as of a shell) names."""
    patterns = list(patterns)
    return [test for test in skipped if not any(fnmatch.fnmatchcase(test, pattern) for pattern in patterns)]


def main(paths: list[str]) -> int:
    """Prints what the reports say; the exit code."""
    patterns = allowed_skips(ALLOWED.read_text(encoding="utf-8"))
    good = bool(paths)
    for path in map(Path, paths):
        try:
            results = Results.read(path)
        except (OSError, ET.ParseError) as error:
            print(f"{path.name}: no report, so the run did not end: {error}")
            good = False
            continue
        print(results)
        for kind, tests in (("failed", results.failed), ("error", results.errors)):
            for test in tests:
                print(f"  {kind}: {test}")
        refused = not_allowed(results.skipped, patterns)
        for test in refused:
            print(f"  skipped, and not named in {ALLOWED.name}: {test} ({results.skipped[test]})")
        ran = results.passed + len(results.failed) + len(results.errors)
        if not ran:
            print("  no test ran")
        good = good and bool(ran) and not (results.failed or results.errors or refused)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
