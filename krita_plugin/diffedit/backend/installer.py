"""Installs the backend from inside Krita: an environment of its own, made by uv, else by a Python of the machine.

The way of an installation: room on the disk and the folder are checked, uv is fetched from the package index and its
sha256 compared with the published one, an environment is made beside the one in use, torch for the chosen accelerator
and the backend's wheel (which the plugin's zip carries) are installed into it, it is tried, and only then put in use.
Everything may be cancelled; the next attempt goes on from what was downloaded. Standard library only; runs on a thread
of its own and reports through callbacks.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..translation import tr
from .accelerators import NEEDS, Accelerator, compute_capability, cuda_version
from .install_errors import gigabytes, megabytes, sentence_for, sentence_for_os_error, without_password
from .installation import Installation, program_in, python_in
from .package_index import PUBLIC_INDEX, IndexUnreachableError, WrongHashError, download, files_of

# Released on PyPI; the hashes are those that its index tells.
UV_VERSION = "0.13.9"
UV_WHEELS = {
    ("linux", "x86_64"): (
        "manylinux_2_17_x86_64.manylinux2014_x86_64",
        "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
    ),
    ("linux", "aarch64"): (
        "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64",
        "5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe",
    ),
    ("win32", "amd64"): ("win_amd64", "6a44b2ed8111d2f60d2b92627c5dccda3f7ed7570b18ce115e569cd68c28246b"),
    ("win32", "arm64"): ("win_arm64", "eeb92051c2123b9730c46b04cc843cfa4bc7d7b0aec56df431a2215ef4cb0273"),
    ("darwin", "arm64"): ("macosx_11_0_arm64", "66c512266d633bef48384a1f53003f41f2a8e7b36fe6e7fbfd3e0fd52d96fa63"),
    ("darwin", "x86_64"): ("macosx_10_12_x86_64", "c16ed11e013557536b3e60065f1b912f6407bd6518e041b961e23ef9e6b4fbf5"),
}
OLDEST_PYTHON, FIRST_UNTRIED_PYTHON = (3, 10), (3, 14)
PYTHON_RANGE = ">=3.10,<3.14"  # uv takes one of the machine, else fetches one
# Where torch's wheels for an accelerator lie, by PyTorch's tables of its builds (pytorch/pytorch: issue 190385, pull
# requests 164471 and 182849) and by uv's (crates/uv-torch, docs/guides/integration/pytorch.md): cu130 needs a driver
# of CUDA 13 and a card of compute capability 7.5; cu128 ended with torch 2.11, but has Blackwell's for a driver of
# 12.8; cu126, which has the older cards', ends with 2.14. An index without the newest torch gives its own newest.
TORCH_INDEX = "https://download.pytorch.org/whl"
_CUDA_BUILDS = ((13, 0, "cu130"), (12, 8, "cu128"), (12, 6, "cu126"))
_OLDEST_CARD_OF_CUDA_13 = (7, 5)  # Turing; Maxwell, Pascal and Volta stay with CUDA 12.6
_TORCH_BUILDS = {"cpu": "cpu", "rocm": "rocm7.2", "xpu": "xpu"}
TORCH = "torch>=2.7"  # as pyproject.toml's extra `backend`
_LOCK_TRIES, _LOCK_WAIT = 8, 0.5  # a virus scanner holds a new file for some seconds
# Krita's own program starts with these set for its own Python and libraries; another Python would trip over them.
_KRITAS_OWN = ("PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "QT_PLUGIN_PATH", "VIRTUAL_ENV", "CONDA_PREFIX")


@dataclass(frozen=True)
class InstallPlan:
    """What to install where.

    `wheel`: the backend's, as the zip carries it. `index_url`: a mirror of the package index, "" for the public one.
    `torch_index_url`: a mirror of torch's wheels, "" for the index of the accelerator, or for `index_url` where that is
    a mirror. `python`: a Python to use, "" to look for one.
    """

    installation: Installation
    version: str
    wheel: Path
    accelerator: Accelerator
    index_url: str = ""
    torch_index_url: str = ""
    python: str = ""

    @property
    def index(self) -> str:
        return self.index_url or PUBLIC_INDEX

    @property
    def requirement(self) -> str:
        """The backend's wheel with what it needs, as pip and uv read it."""
        return f"krita-diffedit[backend] @ {self.wheel.as_uri()}"

    def torch_index(self) -> str:
        """Where torch comes from; "" for the package index itself."""
        if self.torch_index_url:
            return self.torch_index_url
        if self.index_url or self.accelerator == "mps":
            return ""
        return f"{TORCH_INDEX}/{torch_build(self.accelerator)}"


@dataclass(frozen=True)
class InstallProgress:
    """How far it is. `sentence`: what is done now, for the artist. `share`: 0 to 1, None where it is not known.

    `received`, `total`: bytes of what is announced by name, 0 where nothing is.
    """

    sentence: str
    share: float | None = None
    received: int = 0
    total: int = 0


class InstallError(Exception):
    """Why the installation did not work; the text is for the artist and says what to do."""


class InstallCancelled(Exception):
    """The artist cancelled; what was downloaded is kept."""


def torch_build(accelerator: Accelerator) -> str:
    """The folder of torch's index: "cpu", "cu128", ..."""
    if accelerator != "cuda":
        return _TORCH_BUILDS.get(accelerator, "cpu")
    card = compute_capability()
    if card is not None and card < _OLDEST_CARD_OF_CUDA_13:
        return _CUDA_BUILDS[-1][2]
    driver = cuda_version() or (12, 6)
    return next((name for major, minor, name in _CUDA_BUILDS if driver >= (major, minor)), _CUDA_BUILDS[-1][2])


class Installer:
    """One installation. `run` may be called again after an error or a cancel, and goes on where it was."""

    def __init__(
        self, plan: InstallPlan, report: Callable[[InstallProgress], None], log: Callable[[str], None]
    ) -> None:
        """`report` and `log` (a line each) are called on the thread that calls `run`."""
        self._plan = plan
        self._report = report
        self._log_line = log
        self._cancelled = threading.Event()
        self._process: subprocess.Popen[str] | None = None

    def cancel(self) -> None:
        """May be called from any thread: ends `run` with InstallCancelled within a second."""
        self._cancelled.set()
        process = self._process
        if process is not None:
            _end(process)

    def run(self) -> Path:
        """Install, try and put in use. Returns the path of the new `diffedit`.

        Raises InstallError with a sentence, or InstallCancelled.
        """
        plan, place = self._plan, self._plan.installation
        try:
            self._check_system()
            self._check_disk_space()
            for folder in (place.environments, place.tools, place.downloads):
                folder.mkdir(parents=True, exist_ok=True)
            place.log.write_text("", encoding="utf-8")
            if not plan.wheel.is_file():
                raise InstallError(
                    tr(
                        "The plugin does not contain the backend: '{file}' is missing. Install the plugin from "
                        "its zip again.",
                        file=plan.wheel,
                    )
                )
            environment = place.next_environment(plan.version, plan.accelerator)
            self._log(f"environment {environment}")
            self._make(environment)
            self._try(environment)
            (environment / "unfinished").unlink(missing_ok=True)
            place.switch(environment)
            return program_in(environment)
        except (InstallError, InstallCancelled):
            raise
        except WrongHashError as error:
            self._log(str(error))
            raise InstallError(
                tr(
                    "A downloaded file differs from the published one and was deleted. Try again; if this "
                    "happens again, check the mirror in Settings."
                )
            ) from error
        except IndexUnreachableError as error:
            self._log(str(error))
            raise InstallError(sentence_for(str(error), place.folder, plan.index)) from error
        except OSError as error:
            self._log(repr(error))
            raise InstallError(sentence_for_os_error(error, place.folder)) from error

    # -- the steps ---------------------------------------------------------------------------------------------------

    def _check_system(self) -> None:
        if sys.platform == "darwin" and platform.machine().lower() == "x86_64":  # torch 2.2 was the last
            raise InstallError(
                tr(
                    "There is no torch 2.7 or newer for a Mac with an Intel processor, so the backend cannot run here. "
                    "Join another machine instead."
                )
            )

    def _check_disk_space(self) -> None:
        folder = self._plan.installation.folder
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
        needed = NEEDS[self._plan.accelerator].disk
        free = shutil.disk_usage(folder).free + self._plan.installation.size()
        if free < needed:
            raise InstallError(
                tr(
                    "'{folder}' has {free} free; about {needed} are needed. Free some space, or choose another folder.",
                    folder=folder,
                    free=gigabytes(free),
                    needed=gigabytes(needed),
                )
            )

    def _make(self, environment: Path) -> None:
        uv = self._uv()
        python = self._plan.python or ("" if uv is not None else find_python())
        if uv is None and not python:
            raise InstallError(
                tr(
                    "There is no installer for this system (uv) and no Python 3.10 to 3.13 with venv. Install Python "
                    "from python.org, then try again."
                )
            )
        environment.mkdir(parents=True, exist_ok=True)
        (environment / "unfinished").touch()
        if not (python_in(environment).exists() and (environment / "pyvenv.cfg").exists()):
            self._report(InstallProgress(tr("Making an environment for the backend…")))
            if uv is None:
                self._command([python, "-m", "venv", str(environment)])
            else:
                wanted = python or os.environ.get("UV_PYTHON", PYTHON_RANGE)
                self._command([str(uv), "venv", "--python", wanted, "--allow-existing", str(environment)])
        if uv is not None:
            self._with_uv(uv, environment)
        else:
            self._with_pip(environment)

    def _uv(self) -> Path | None:
        """uv of the pinned version; None where there is none for this system or the index has none."""
        key = (sys.platform, platform.machine().lower())
        if key not in UV_WHEELS:
            return None
        tag, sha256 = UV_WHEELS[key]
        folder = self._plan.installation.tools / f"uv-{UV_VERSION}"
        program = folder / ("uv.exe" if sys.platform == "win32" else "uv")
        if program.is_file():
            return program
        self._report(InstallProgress(tr("Fetching the installer…")))
        name = f"uv-{UV_VERSION}-py3-none-{tag}.whl"
        wheel = next((file for file in files_of("uv", self._plan.index) if file.name == name), None)
        if wheel is None:
            self._log(f"{self._plan.index} has no {name}")
            return None
        kept = self._plan.installation.tools / name

        def progress(received: int, total: int) -> None:
            share = received / total if total else None
            self._report(InstallProgress(tr("Fetching the installer…"), share, received, total))

        if not download(wheel, kept, sha256, progress, self._cancelled.is_set):
            raise InstallCancelled
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(kept) as archive:
            member = next(item for item in archive.namelist() if item.endswith(f"/scripts/{program.name}"))
            beside = program.with_name(program.name + ".new")
            with archive.open(member) as source, beside.open("wb") as target:
                shutil.copyfileobj(source, target)
        beside.chmod(0o755)
        _replace(beside, program)
        kept.unlink()
        return program

    def _with_uv(self, uv: Path, environment: Path) -> None:
        plan = self._plan
        base = [str(uv), "pip", "install", "--python", str(python_in(environment)), "--default-index", plan.index]
        torch_index = plan.torch_index()
        # torch first and, where it has it, from its own index: what depends on torch is then content with this build.
        first = ["--index", torch_index] if torch_index else []
        self._command([*base, *first, TORCH], packages=True)
        self._command([*base, plan.requirement], packages=True)

    def _with_pip(self, environment: Path) -> None:
        plan = self._plan
        base = [
            str(python_in(environment)),
            "-m",
            "pip",
            "install",
            "--progress-bar",
            "off",
            "--disable-pip-version-check",
        ]
        base += ["--cache-dir", str(plan.installation.downloads / "pip")]
        # torch's index alone, which has what torch needs too: of two indexes pip would take the newer torch, whatever
        # it computes on.
        self._command([*base, "--index-url", plan.torch_index() or plan.index, TORCH], packages=True)
        self._command([*base, "--index-url", plan.index, plan.requirement], packages=True)

    def _try(self, environment: Path) -> None:
        """The new environment must start before it replaces the old one."""
        self._report(InstallProgress(tr("Trying the new backend…")))
        self._command(
            [str(python_in(environment)), "-c", "import torch, diffusers, transformers; print(torch.__version__)"]
        )
        self._command([str(program_in(environment)), "--version"])

    # -- a command, watched --------------------------------------------------------------------------------------------

    def _command(self, command: list[str], packages: bool = False) -> None:
        if self._cancelled.is_set():
            raise InstallCancelled
        self._log("$ " + " ".join(command))
        watch = _PackageWatch(self._report) if packages else None
        lines: list[str] = []
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=self._environment(),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            start_new_session=os.name == "posix",
        )
        self._process = process
        if self._cancelled.is_set():  # between the first look and now
            _end(process)
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                line = line.rstrip()
                lines.append(line)
                self._log(line)
                if watch is not None:
                    watch.read(line)
        code = process.wait()
        self._process = None
        if self._cancelled.is_set():
            raise InstallCancelled
        if code:
            raise InstallError(sentence_for("\n".join(lines), self._plan.installation.folder, self._plan.index))

    def _environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in _KRITAS_OWN}
        downloads = self._plan.installation.downloads
        environment.update(
            UV_CACHE_DIR=str(downloads / "uv"),
            UV_PYTHON_INSTALL_DIR=str(self._plan.installation.tools / "python"),
            UV_NO_CONFIG="1",
            UV_NO_PROGRESS="1",
            NO_COLOR="1",
            PYTHONUTF8="1",
            PYTHONUNBUFFERED="1",
        )
        return environment

    def _log(self, line: str) -> None:
        with contextlib.suppress(OSError), self._plan.installation.log.open("a", encoding="utf-8") as file:
            file.write(without_password(line) + "\n")
        self._log_line(without_password(line))


class _PackageWatch:
    """Reads what uv and pip print and reports the packages with their sizes."""

    # uv: "Downloading torch (172.1MiB)", " Downloaded torch"; pip: "Downloading torch-2.9.0-cp312-....whl (172.1 MB)".
    _BEGUN = re.compile(r"^\s*Downloading\s+(?P<name>\S+?)(?:-\d\S*)?\s+\((?P<number>[\d.]+)\s*(?P<unit>[kKMG])i?B\)")
    _DONE = re.compile(r"^\s*(?:Downloaded|Using cached)\s+(?P<name>\S+)")
    _UNITS: ClassVar = {"k": 1 << 10, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

    def __init__(self, report: Callable[[InstallProgress], None]) -> None:
        self._report = report
        self._sizes: dict[str, int] = {}
        self._done: set[str] = set()

    def read(self, line: str) -> None:
        begun, done = self._BEGUN.match(line), self._DONE.match(line)
        if begun:
            self._sizes[begun["name"]] = int(float(begun["number"]) * self._UNITS[begun["unit"]])
        elif done:
            self._done.add(done["name"])
        elif re.match(r"^\s*(Prepared|Installing collected)", line):
            self._report(InstallProgress(tr("Unpacking packages…")))
            return
        else:
            return
        total = sum(self._sizes.values())
        received = sum(size for name, size in self._sizes.items() if name in self._done)
        coming = [name for name in self._sizes if name not in self._done]
        names = ", ".join(coming[-3:]) or ", ".join(list(self._sizes)[-1:])
        self._report(
            InstallProgress(
                tr("Downloading {names} ({size})…", names=names, size=megabytes(total - received)),
                received / total if total else None,
                received,
                total,
            )
        )


def find_python() -> str:
    """A Python of the machine that makes environments, between the oldest supported and the newest tried.

    "" where there is none. Krita's own Python is none: it has no interpreter to start.
    """
    return next((path for path in _pythons() if _fits(path)), "")


def _pythons() -> Iterator[str]:
    newest, oldest = FIRST_UNTRIED_PYTHON[1] - 1, OLDEST_PYTHON[1]
    names = [f"python3.{minor}" for minor in range(newest, oldest - 1, -1)]
    for name in [*names, "python3", "python"]:
        path = shutil.which(name)
        if path and "WindowsApps" not in path:  # the store's stand-in opens a shop window
            yield path


def _fits(path: str) -> bool:
    check = (
        f"import sys, venv, ensurepip; sys.exit(not ({OLDEST_PYTHON} <= sys.version_info[:2] < {FIRST_UNTRIED_PYTHON}))"
    )
    environment = {name: value for name, value in os.environ.items() if name not in _KRITAS_OWN}
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    try:
        answer = subprocess.run(
            [path, "-c", check], capture_output=True, timeout=20, env=environment, creationflags=flags
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


def _replace(source: Path, target: Path) -> None:
    """Renames over `target`; a virus scanner that holds the new file is waited for."""
    for attempt in range(_LOCK_TRIES):
        try:
            source.replace(target)
            return
        except PermissionError:
            if attempt == _LOCK_TRIES - 1:
                raise
            time.sleep(_LOCK_WAIT)


def _end(process: subprocess.Popen[str]) -> None:
    """Ends a command and what it started."""
    with contextlib.suppress(OSError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGTERM)
        else:
            process.terminate()
