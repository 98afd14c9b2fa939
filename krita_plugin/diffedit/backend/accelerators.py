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


# Rounded up, with uv and a Python that it may fetch (0.1 GB), see docs/installing.md for where each comes from. cpu and
# cuda on Linux x86_64: the sum of the wheels, packed and unpacked. mps: the download read from the package index, the
# disk estimated. rocm: one published wheel, the disk estimated. xpu: estimated but for Intel's own packages.
NEEDS: dict[Accelerator, Needs] = {
    "cpu": Needs(int(0.4 * GIB), int(1.3 * GIB)),
    "cuda": Needs(3 * GIB, 6 * GIB),
    "rocm": Needs(int(5.5 * GIB), 16 * GIB),
    "xpu": Needs(2 * GIB, 6 * GIB),
    "mps": Needs(int(0.3 * GIB), GIB),
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
    found = re.search(r"CUDA Version:\s*(\d+)\.(\d+)", _nvidia_smi())
    return (int(found[1]), int(found[2])) if found else None


def compute_capability() -> tuple[int, int] | None:
    """That of the newest NVIDIA card of this machine, e.g. (8, 9); None where the driver does not tell it."""
    told = re.findall(r"^\s*(\d+)\.(\d+)\s*$", _nvidia_smi("--query-gpu=compute_cap", "--format=csv,noheader"), re.M)
    return max((int(major), int(minor)) for major, minor in told) if told else None


def _nvidia_smi(*options: str) -> str:
    """What it prints; "" where there is none or it fails."""
    program = shutil.which("nvidia-smi") or _windows_nvidia_smi()
    if not program:
        return ""
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    try:
        answer = subprocess.run(
            [program, *options],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=15,
            creationflags=flags,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def _windows_nvidia_smi() -> str:
    path = Path(os.environ.get("SYSTEMROOT", "C:\\Windows")) / "System32" / "nvidia-smi.exe"
    return str(path) if sys.platform == "win32" and path.is_file() else ""


def _intel_card() -> bool:
    """An Arc or newer: torch's XPU needs Intel's Level Zero loader."""
    if sys.platform == "win32":
        return (Path(os.environ.get("SYSTEMROOT", "C:\\Windows")) / "System32" / "ze_loader.dll").is_file()
    return any(Path(folder, "libze_intel_gpu.so.1").exists() for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64"))
