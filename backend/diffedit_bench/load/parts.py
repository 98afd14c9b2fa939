"""Measured parts of `bench load`, each kept in a file of its own as soon as it ends: a later run goes on from there."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .artists import Ask, Served


@dataclass(frozen=True)
class Part:
    """One measurement. `settings`: what it depends on. `load`: the machine's load average over a minute, before and
    after. `cores`: those of the machine. `began`: Unix time. `seconds`: that it took. `result`: fit for JSON."""

    name: str
    settings: dict[str, Any]
    load: tuple[float, float]
    cores: int
    began: float
    seconds: float
    result: Any


class Parts:
    """The folder of the parts that were measured."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, name: str, settings: dict[str, Any]) -> Part | None:
        """The part as it was measured before with the same settings, None when it has to be measured."""
        path = self._path(name)
        if not path.exists():
            return None
        fields = json.loads(path.read_text())
        part = Part(**{**fields, "load": tuple(fields["load"])})
        return part if part.settings == settings else None

    def measure(self, name: str, settings: dict[str, Any], measure: Callable[[], Any]) -> Part:
        """Measure it, and keep it in place of an older one."""
        before, began, begun = _load(), time.time(), time.monotonic()
        result = measure()
        seconds = time.monotonic() - begun
        part = Part(name, settings, (before, _load()), os.cpu_count() or 1, began, seconds, result)
        self._folder.mkdir(parents=True, exist_ok=True)
        written = self._path(name).with_suffix(".new")
        written.write_text(json.dumps(asdict(part)) + "\n")
        written.replace(self._path(name))  # whole or not at all, when the run is ended in the middle
        return part

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def served_to_json(served: Iterable[Served]) -> list[dict[str, Any]]:
    return [asdict(job) for job in served]


def served_from_json(found: Iterable[dict[str, Any]]) -> list[Served]:
    return [Served(**{**job, "ask": Ask(**job["ask"])}) for job in found]


def machine() -> str:
    """What the figures come from, for people."""
    return f"{platform.machine()}, {os.cpu_count()} cores"


def _load() -> float:
    return os.getloadavg()[0]
