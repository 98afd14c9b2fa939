"""Wheels of the packages that are installed in this environment, packed again, for an index on loopback.

So an installation is tried with the real torch, and nothing is downloaded. What is packed is stored, not compressed: an
installer reads it faster so.
"""

from __future__ import annotations

import importlib.metadata
import re
import zipfile
from collections.abc import Iterable
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed(wheel: Path, extra: str) -> dict[str, importlib.metadata.Distribution]:
    """Every installed distribution that `wheel` with its extra asks for, by canonical name."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        asked_of_wheel = Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = _applicable(asked_of_wheel, ("", extra))
    seen: set[tuple[str, str]] = set()
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        found[name] = importlib.metadata.distribution(asked.name)
        extras = [extra for extra in ("", *asked.extras) if (name, extra) not in seen]
        seen |= {(name, extra) for extra in extras}
        waiting += _applicable(found[name].requires or [], extras)
    return found


def _applicable(lines: Iterable[str], extras: Iterable[str]) -> list[Requirement]:
    extras = tuple(extras)
    requirements = [Requirement(line) for line in lines]
    return [
        asked
        for asked in requirements
        if any(asked.marker is None or asked.marker.evaluate({"extra": extra}) for extra in extras)
    ]


def pack(distribution: importlib.metadata.Distribution, folder: Path) -> Path:
    """The wheel of an installed distribution, in `folder`; its scripts are left to the installer."""
    files = distribution.files or []
    info = next(file.parts[0] for file in files if file.name == "WHEEL")
    tags = re.findall(r"^Tag: (\S+)$", distribution.read_text("WHEEL") or "", re.M)
    python, abi, platforms = (".".join(dict.fromkeys(tag.split("-")[part] for tag in tags)) for part in range(3))
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
