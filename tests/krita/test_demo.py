"""`diffedit demo` without a screen: what it leaves, and that it leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from diffedit_krita_driver.kra import Kra
from PIL import Image


def demo(folder: Path) -> subprocess.Popen[str]:
    """`diffedit demo --headless` whose temporary files are in `folder`."""
    # A process in the background inherits that Ctrl-C is ignored; one with a handler of its own hands on the default.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [sys.executable, "-m", "diffedit_backend.cli", "demo", "--headless", "--out", "out"],
        cwd=folder,  # a relative folder: Krita's own working folder is another one
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left_running(folder: Path) -> list[str]:
    """The command lines of processes that still work in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment, command = (process / "environ").read_bytes(), (process / "cmdline").read_bytes()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if str(folder).encode() in environment + command:
            found.append(command.replace(b"\0", b" ").decode())
    return found


def wait_until_nothing_runs(folder: Path) -> None:
    """What was killed may take a moment to end."""
    deadline = time.monotonic() + 60
    while left := left_running(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@pytest.mark.timeout(900)
def test_the_demo_leaves_five_files_one_last_line_and_nothing_running(tmp_path: Path) -> None:
    process = demo(tmp_path)
    output, _ = process.communicate(timeout=800)
    assert process.returncode == 0, output
    out = tmp_path / "out"
    names = sorted(path.name for path in out.iterdir())
    assert names == ["demo.kra", "edit.png", "mask.png", "screenshot.png", "source.png"]
    assert output.splitlines()[-1].startswith("Made out/:")
    source, edit = (np.asarray(Image.open(out / name).convert("RGB")) for name in ("source.png", "edit.png"))
    mask = np.asarray(Image.open(out / "mask.png"))
    assert np.array_equal(source[mask == 0], edit[mask == 0])
    assert (source[mask > 127] != edit[mask > 127]).any()
    assert len(Kra(out / "demo.kra").layers) == 2
    # Krita's grey, the docker and the picture: a black or blank screen has far fewer colours.
    assert len(Image.open(out / "screenshot.png").convert("RGB").getcolors(1 << 24)) > 1000
    wait_until_nothing_runs(tmp_path)
    assert list(tmp_path.glob("diffedit-demo-*")) == []


@pytest.mark.timeout(900)
def test_ctrl_c_in_the_middle_of_the_demo_leaves_nothing(tmp_path: Path) -> None:
    process = demo(tmp_path)
    for line in process.stdout:
        if "Starting Krita" in line:
            break
    deadline = time.monotonic() + 240
    while len(left_running(tmp_path)) < 3:
        assert time.monotonic() < deadline, left_running(tmp_path)
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 130, output
    wait_until_nothing_runs(tmp_path)
    assert list(tmp_path.glob("diffedit-demo-*")) == []
