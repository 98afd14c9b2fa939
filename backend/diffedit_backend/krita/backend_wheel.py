"""The wheel of this package, for the plugin's zip: built in a checkout, packed again where it is installed."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

from diffedit_protocol.errors import BadInputError

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
