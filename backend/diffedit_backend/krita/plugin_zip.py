"""The zip that Krita's own importer takes: the plugin with everything that it needs, on every system.

    diffedit/                    with an explicit entry: without it the importer answers "No plugins found"
    diffedit/_vendor/diffedit_protocol/
    diffedit/_vendor/msgpack/    the pure-Python part
    diffedit/_vendor/zmq-TAG/    zmq/ of one pyzmq wheel each; TAG is the wheel's, e.g. cp312-abi3-win_amd64
    diffedit/_vendor/backend/    the backend's own wheel, which *Install the backend here* puts into an environment
    diffedit.desktop, diffedit.action

Krita's bundled Pythons have neither pyzmq nor pip, so the wheels come along; a pyzmq that the system has is preferred.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from diffedit_protocol import __version__
from diffedit_protocol.errors import BadInputError

from .backend_wheel import backend_wheel
from .install import PLUGIN, install_plugin

PYZMQ, MSGPACK = "pyzmq==27.3.0", "msgpack==1.2.4"


@dataclass(frozen=True)
class Target:
    """One wheel of pyzmq: the Python that it is for, and pip's names of the platform, the most general that exists."""

    python: str
    abi: str
    platform: str
    tag: str


# Krita 5.2 brings Python 3.10, 5.3 and 6 bring 3.13; the abi3 wheel serves 3.12 and newer. A Linux distribution's Krita
# uses the distribution's own Python: Debian 12's is 3.11.
_LINUX = ("manylinux_2_28_x86_64", "linux_x86_64")
_SYSTEMS = (("win_amd64", "win_amd64"), ("macosx_10_15_universal2", "macosx"), _LINUX)
TARGETS = (
    *(Target("310", "cp310", platform, f"cp310-{system}") for platform, system in _SYSTEMS),
    *(Target("312", "abi3", platform, f"cp312-abi3-{system}") for platform, system in _SYSTEMS),
    Target("311", "cp311", _LINUX[0], f"cp311-{_LINUX[1]}"),
)


def build(destination: Path) -> Path:
    """Write `destination`/diffedit-krita-VERSION.zip and return its path; needs pip and a package index.

    Raises BadInputError with pip's last words when a wheel cannot be had.
    """
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        staging, wheels = Path(temporary) / "staging", Path(temporary) / "wheels"
        install_plugin(staging)
        vendor = staging / "pykrita" / PLUGIN / "_vendor"
        for target in TARGETS:
            unpack(_download(PYZMQ, wheels / target.tag, target), ("zmq/", "pyzmq.libs/"), vendor / f"zmq-{target.tag}")
        backend_wheel(vendor / "backend")
        # msgpack's Python part is the same in every wheel; its compiled part is left out.
        unpack(_download(MSGPACK, wheels / "msgpack", None), ("msgpack/",), vendor, leave=(".so", ".pyd", ".pyx", ".c"))
        return _zip(staging, destination / f"diffedit-krita-{__version__}.zip")


def _download(requirement: str, folder: Path, target: Target | None) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
    ]
    if target is not None:
        command += ["--implementation", "cp", "--python-version", target.python]
        command += ["--abi", target.abi, "--platform", target.platform]
    answer = subprocess.run([*command, requirement], capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if answer.returncode or not wheels:
        last_words = answer.stderr.strip().splitlines()[-1:] or ["pip said nothing"]
        where = f" for {target.tag}" if target else ""
        raise BadInputError(f"pip could not fetch {requirement}{where}: {last_words[0]}", detail=answer.stderr)
    return wheels[0]


def unpack(wheel: Path, prefixes: tuple[str, ...], folder: Path, leave: tuple[str, ...] = ()) -> None:
    """The files of `wheel` below `prefixes` and its licences, into `folder`; tests and stubs stay behind."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            licence = ".dist-info/" in name and "/licenses/" in name
            wanted = name.startswith(prefixes) and "/tests/" not in name and not name.endswith((*leave, ".pyi", "/"))
            if wanted or (licence and not name.endswith("/")):
                archive.extract(name, folder)


def _zip(staging: Path, path: Path) -> Path:
    pykrita = staging / "pykrita"
    aside = staging.with_name(path.name)  # an earlier zip stays until this one is whole
    with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr(f"{PLUGIN}/", "")
        for file in sorted((pykrita / PLUGIN).rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(pykrita).as_posix())
        archive.write(pykrita / f"{PLUGIN}.desktop", f"{PLUGIN}.desktop")
        archive.write(staging / "actions" / f"{PLUGIN}.action", f"{PLUGIN}.action")
    part = path.with_name(f"{path.name}.part")
    shutil.move(aside, part)  # from the system's temporary folder, perhaps on another disk
    part.replace(path)
    return path
