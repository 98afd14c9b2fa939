"""The zip that Krita's own importer takes: the plugin with everything that it needs, on every system, and the wheel of
this package, built in a checkout, packed again where it is installed.

    diffedit/                    with an explicit entry: without it the importer answers "No plugins found"
    diffedit/_vendor/diffedit_protocol/
    diffedit/_vendor/msgpack/    the pure-Python part
    diffedit/_vendor/zmq-TAG/    zmq/ of one pyzmq wheel each; TAG is the wheel's, e.g. cp312-abi3-win_amd64
    diffedit/_vendor/backend/    the backend's own wheel, which *Install the backend here* puts into an environment
    diffedit.desktop, diffedit.action

Krita's bundled Pythons have neither pyzmq nor pip, so the wheels come along; a pyzmq that the system has is preferred.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from diffedit_protocol import __version__
from diffedit_protocol.errors import BadInputError

from .install import PLUGIN, install_plugin

DISTRIBUTION = "krita-diffedit"
_CHECKOUT = Path(__file__).resolve().parents[3]
# Of an installation, not of the wheel that it came from.
_NOT_OF_THE_WHEEL = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD")
_OLDEST_DATE = (1980, 1, 1, 0, 0, 0)  # of the zip format; fixed, so that the same files give the same bytes


def backend_wheel(folder: Path) -> Path:
    """Write the wheel into `folder` and return its path. The same sources give the same bytes.

    Raises BadInputError where neither a checkout nor an installed wheel is at hand.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (_CHECKOUT / "pyproject.toml").is_file():
        return _built(folder)
    return _packed_again(folder)


def _built(folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    answer = subprocess.run(command, cwd=_CHECKOUT, capture_output=True, text=True, encoding="utf-8", errors="replace")
    wheels = sorted(folder.glob("krita_diffedit-*.whl"))
    if answer.returncode or not wheels:
        last = answer.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise BadInputError(f"hatchling could not build the backend's wheel: {last[0]}", detail=answer.stderr)
    return wheels[-1]


def _packed_again(folder: Path) -> Path:
    try:
        installed = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as error:
        raise BadInputError(f"{DISTRIBUTION} is not installed here, so its wheel cannot be packed.") from error
    info = next((str(file).partition("/")[0] for file in installed.files or () if file.name == "METADATA"), "")
    files = [
        file
        for file in installed.files or ()
        if ".." not in file.parts  # scripts; the installer makes them anew
        and "__pycache__" not in file.parts
        and not (file.parts[0] == info and file.name in _NOT_OF_THE_WHEEL)
    ]
    if not info or not any(file.parts[0] == "diffedit_backend" for file in files):
        raise BadInputError(
            f"{DISTRIBUTION} is installed without its files (an editable installation?): use its checkout."
        )
    path = folder / f"{info.removesuffix('.dist-info')}-py3-none-any.whl"
    record = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(files, key=str):
            archive.writestr(_entry(str(file)), Path(str(file.locate())).read_bytes())
            hashed = f"{file.hash.mode}={file.hash.value}" if file.hash else ""
            record.append(f"{file},{hashed},{'' if file.size is None else file.size}")
        record.append(f"{info}/RECORD,,")
        archive.writestr(_entry(f"{info}/RECORD"), "\n".join(record) + "\n")
    return path


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _OLDEST_DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


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
