"""The server's log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from diffedit_backend.server import logs


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """A log in small files."""
    monkeypatch.setattr(logs, "FILE_BYTES", 2000)
    logger = logs.start(tmp_path / "server.log")
    yield logger
    for handler in logger.handlers:
        handler.close()
    logger.handlers = []


def test_it_rotates_keeps_three_old_files_and_every_one_is_private(log: logging.Logger, tmp_path: Path) -> None:
    for number in range(200):
        log.info("ended", extra={"fields": {"job": f"{number:032x}"}})
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == ["server.log", "server.log.1", "server.log.2", "server.log.3"]
    for file in tmp_path.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.stat().st_size <= 2000


def test_an_entry_holds_its_fields_and_an_error_its_traceback(log: logging.Logger, tmp_path: Path) -> None:
    screen = log.handlers[1]
    assert isinstance(screen, logging.StreamHandler)
    screen.setStream(shown := io.StringIO())
    try:
        raise ValueError("wrong")
    except ValueError:
        log.exception("fault", extra={"fields": {"job": "ab", "seconds": 1.5}})
    entry = json.loads((tmp_path / "server.log").read_text())
    assert (entry["level"], entry["event"], entry["job"], entry["seconds"]) == ("error", "fault", "ab", 1.5)
    assert "ValueError: wrong" in entry["traceback"]
    assert "fault job=ab seconds=1.5" in shown.getvalue()
