"""Wheels of the packages that are installed in this environment, packed again, for an index on loopback.

So an installation is tried with the real torch, and nothing is downloaded. What is packed is stored, not compressed: an
installer reads it faster so.
"""

from __future__ import annotations

import importlib.metadata
import re
import zipfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed(requirement: str) -> dict[str, importlib.metadata.Distribution]:
    """Every installed distribution that `requirement` ("name[extra]") asks for, itself left out, by canonical name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [Requirement(requirement)]
    first = canonicalize_name(waiting[0].name)
    seen: set[tuple[str, str]] = set()
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        distribution = importlib.metadata.distribution(asked.name)
        if name != first:
            found[name] = distribution
        for extra in ("", *asked.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for line in distribution.requires or ():
                further = Requirement(line)
                if further.marker is None or further.marker.evaluate({"extra": extra}):
                    waiting.append(further)
    return found


def pack(distribution: importlib.metadata.Distribution, folder: Path) -> Path:
    """The wheel of an installed distribution, in `folder`; its scripts are left to the installer."""
    files = distribution.files or []
    info = next(file.parts[0] for file in files if file.name == "WHEEL")
    tags = re.findall(r"^Tag: (\S+)$", distribution.read_text("WHEEL") or "", re.M)
    python, abi, _ = tags[0].split("-")
    platforms = ".".join(dict.fromkeys(tag.split("-")[2] for tag in tags))
    path = folder / f"{info.removesuffix('.dist-info')}-{python}-{abi}-{platforms}.whl"
    record = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            left_out = file.name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
            if ".." in file.parts or "__pycache__" in file.parts or left_out or file.suffix == ".pyc":
                continue
            source = Path(str(file.locate()))
            archive.write(source, str(file))
            record.append(f"{file},,")
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]) + "\n")
    return path
