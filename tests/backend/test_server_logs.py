"""The server's log."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from diffedit_backend.server import logs


@pytest.fixture(autouse=True)
def unhurried_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is written, however long a busy machine takes for it."""
    monkeypatch.setattr(logs, "CLOSE_SECONDS", 120.0)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """A log in small files."""
    monkeypatch.setattr(logs, "FILE_BYTES", 2000)
    yield logs.start(tmp_path / "server.log")
    logs.stop()


def test_it_rotates_keeps_three_old_files_and_every_one_is_private(log: logging.Logger, tmp_path: Path) -> None:
    for number in range(200):
        log.info("ended", extra={"fields": {"job": f"{number:032x}"}})
    logs.stop()
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == ["server.log", "server.log.1", "server.log.2", "server.log.3"]
    for file in tmp_path.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.stat().st_size <= 2000


def test_an_entry_holds_its_fields_and_an_error_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", shown := io.StringIO())
    log = logs.start(tmp_path / "server.log")
    try:
        raise ValueError("wrong")
    except ValueError:
        log.exception("fault", extra={"fields": {"job": "ab", "seconds": 1.5}})
    logs.stop()
    entry = json.loads((tmp_path / "server.log").read_text())
    assert (entry["level"], entry["event"], entry["job"], entry["seconds"]) == ("error", "fault", "ab", 1.5)
    assert "ValueError: wrong" in entry["traceback"]
    assert "fault job=ab seconds=1.5" in shown.getvalue()


def test_a_pipe_that_nobody_reads_holds_up_neither_the_server_nor_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    pipe = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stderr", pipe)
    log = logs.start(tmp_path / "server.log")

    def fill() -> None:
        for number in range(2000):
            log.info("ended", extra={"fields": {"number": number, "text": "x" * 100}})

    filling = threading.Thread(target=fill, daemon=True)
    filling.start()
    filling.join(60)
    assert not filling.is_alive()
    os.close(reader)
    logs.stop()
    with contextlib.suppress(BrokenPipeError):
        pipe.close()
    assert json.loads((tmp_path / "server.log").read_text().splitlines()[-1])["number"] == 1999


def test_a_stranger_cannot_rotate_the_log_away(log: logging.Logger, tmp_path: Path) -> None:
    log.info("an entry that someone will need")
    for number in range(5000):
        logging.getLogger("diffedit.authenticator").warning("refused", extra={"fields": {"number": number}})
    logs.stop()
    entries = "".join(file.read_text() for file in tmp_path.iterdir())
    assert entries.count('"refused') <= logs.STRANGERS_ENTRIES


def test_a_log_that_cannot_be_written_is_reported_on_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", shown := io.StringIO())
    logs.start(tmp_path / "missing" / "server.log").info("ended")
    logs.stop()
    assert "no log file" in shown.getvalue()
    assert "ended" in shown.getvalue()
