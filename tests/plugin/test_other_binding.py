"""Everything in this folder once more under the other binding, in a process of its own: one process has one Qt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.environ.get("DIFFEDIT_TEST_QT") == "6", reason="this is the other binding's run already")
def test_the_plugin_works_under_pyqt6_as_it_does_under_pyqt5() -> None:
    answer = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            str(HERE),
            # Threads and sockets, uv and its packages: no binding is in them.
            *(f"--ignore={HERE / name}" for name in ("test_client_thread.py", "test_installer.py")),
        ],
        env={**os.environ, "DIFFEDIT_TEST_QT": "6"},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout[-6000:]
    assert " passed" in answer.stdout
