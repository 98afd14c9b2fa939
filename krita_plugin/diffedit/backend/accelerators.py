"""What the machine can compute on, and what torch for it takes. Standard library only."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Accelerator = Literal["cpu", "cuda", "rocm", "xpu", "mps"]
ACCELERATORS: tuple[Accelerator, ...] = ("cpu", "cuda", "rocm", "xpu", "mps")

GIB = 1 << 30


@dataclass(frozen=True)
class Needs:
    """About how much is downloaded and how much lies on the disk afterwards, in bytes."""

    download: int
    disk: int


# Estimates on the safe side. cpu: torch 2.13 alone takes 0.75 GB on Linux x86_64, all packages as stored wheels 1.1 GB.
# The others were neither installed nor looked up.
NEEDS: dict[Accelerator, Needs] = {
    "cpu": Needs(int(0.4 * GIB), int(1.6 * GIB)),
    "cuda": Needs(3 * GIB, 7 * GIB),
    "rocm": Needs(5 * GIB, 16 * GIB),
    "xpu": Needs(2 * GIB, 6 * GIB),
    "mps": Needs(int(0.3 * GIB), int(1.2 * GIB)),
}
# The kinds of torch that there are for a system.
_BY_SYSTEM: dict[str, tuple[Accelerator, ...]] = {
    "linux": ("cpu", "cuda", "rocm", "xpu"),
    "win32": ("cpu", "cuda", "xpu"),
    "darwin": ("mps", "cpu"),
}


def accelerators_of(system: str = sys.platform, machine: str = "") -> tuple[Accelerator, ...]:
    """What can be chosen on this system; "mps" only on an Apple processor."""
    machine = machine or platform.machine()
    kinds = _BY_SYSTEM.get(system, ("cpu",))
    return tuple(kind for kind in kinds if kind != "mps" or machine == "arm64")


def detect(system: str = sys.platform, machine: str = "") -> Accelerator:
    """The best that is there: an NVIDIA driver, AMD's, Intel's, or an Apple processor; else the CPU."""
    kinds = accelerators_of(system, machine)
    if "mps" in kinds:
        return "mps"
    if "cuda" in kinds and cuda_version() is not None:
        return "cuda"
    if "rocm" in kinds and Path("/dev/kfd").exists():
        return "rocm"
    if "xpu" in kinds and _intel_card():
        return "xpu"
    return "cpu"


def cuda_version() -> tuple[int, int] | None:
    """The newest CUDA that the NVIDIA driver of this machine runs, by nvidia-smi; None where there is no driver."""
    program = shutil.which("nvidia-smi") or _windows_nvidia_smi()
    if not program:
        return None
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    try:
        answer = subprocess.run(
            [program],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=15,
            creationflags=flags,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"CUDA Version:\s*(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if answer.returncode == 0 and found else None


def _windows_nvidia_smi() -> str:
    path = Path(os.environ.get("SYSTEMROOT", "C:\\Windows")) / "System32" / "nvidia-smi.exe"
    return str(path) if sys.platform == "win32" and path.is_file() else ""


def _intel_card() -> bool:
    """An Arc or newer: torch's XPU needs Intel's Level Zero loader."""
    if sys.platform == "win32":
        return (Path(os.environ.get("SYSTEMROOT", "C:\\Windows")) / "System32" / "ze_loader.dll").is_file()
    return any(Path(folder, "libze_intel_gpu.so.1").exists() for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64"))
