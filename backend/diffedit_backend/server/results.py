"""What finished jobs left, kept until acknowledged or too old: on disk, and in memory as long as there is room. What is
kept besides the pixels lets a restarted server tell of a job.

    results/OWNER/JOB/record      see JobRecord; OWNER is a hash of the owner's key
    results/OWNER/JOB/SHA256      one file per blob of the manifest

A result is written by a thread as soon as it is there, under a temporary name until it is whole, and its client
learns of it afterwards: a server that is killed finds every result again that a client knows of. Memory copies beyond
the limit are dropped once they are on disk. When the disk is full they stay in memory, and `strained` tells the server
to take no new jobs until there is room again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
from diffedit_protocol.errors import SchemaError
from diffedit_protocol.events import event_message, read_event
from diffedit_protocol.frames import Message
from diffedit_protocol.messages import Event
from diffedit_protocol.private_files import private_folder
from diffedit_protocol.requests import check_job_id

FORMAT = 1


@dataclass(frozen=True)
class JobRecord:
    """A finished job. `owner`: its client's public key; `events`: all of them, numbered from 1; `ended`: Unix time."""

    owner: str
    job: str
    source: str
    target: str
    created: float
    ended: float
    events: tuple[Event, ...]

    def to_bytes(self) -> bytes:
        events = [event_message(self.job, seq, event).fields for seq, event in enumerate(self.events, 1)]
        packed: bytes = msgpack.packb(
            {
                "format": FORMAT,
                "owner": self.owner,
                "job": self.job,
                "source": self.source,
                "target": self.target,
                "created": self.created,
                "ended": self.ended,
                "events": events,
            }
        )
        return packed

    @classmethod
    def from_bytes(cls, data: bytes) -> JobRecord:
        """Raises SchemaError when `data` is no record of this format."""
        try:
            fields: dict[str, Any] = msgpack.unpackb(data)
            if fields["format"] != FORMAT:
                raise SchemaError(f"A record of format {fields['format']!r:.20}; this backend reads {FORMAT}.")
            check_job_id(fields["job"])
            events = tuple(read_event(Message("event", entry)).event for entry in fields["events"])
            return cls(
                fields["owner"],
                fields["job"],
                fields["source"],
                fields["target"],
                fields["created"],
                fields["ended"],
                events,
            )
        except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
            raise SchemaError(f"A record cannot be read: {error!r:.200}.") from error


log = logging.getLogger("diffedit.results")
RECORD = "record"
UNFINISHED = ".part"
RETRY_SECONDS = 10.0  # between two attempts to write to a full disk
CLOSE_SECONDS = 30.0  # that close() waits for the writer

Key = tuple[str, str]  # owner's public key, job


@dataclass(frozen=True)
class StoredPart:
    """A part of a result's file that is not in memory: `read` takes as long as the disk does, so it is for a thread."""

    path: Path
    offset: int
    length: int

    def read(self) -> bytes | None:
        """The bytes, fewer at the file's end; None when the file cannot be read any more."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                return file.read(self.length)
        except OSError as error:
            fields = {"job": self.path.parent.name, "blob": self.path.name[:12], "reason": str(error)}
            log.error("result cannot be read", extra={"fields": fields})
            return None


@dataclass
class _Result:
    """`sizes`: bytes by blob; `memory`: the blobs while they are held; `failed_at`: when writing failed last."""

    record: JobRecord
    folder: Path
    sizes: dict[str, int]
    memory: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    written: bool = False
    failed_at: float | None = None

    @property
    def size(self) -> int:
        return sum(self.sizes.values())


class ResultStore:
    """Results below `folder`. All methods are for one thread; the writer thread touches files only."""

    def __init__(
        self, folder: Path, memory_bytes: int, disk_bytes: int, wake: Callable[[], None] = lambda: None
    ) -> None:
        """`wake` is called from the writer's thread when `tidy` has something to return."""
        self._wake = wake
        self._folder = private_folder(folder)
        self._memory_bytes = memory_bytes
        self._disk_bytes = disk_bytes
        self._results: OrderedDict[Key, _Result] = OrderedDict()  # the one that ended first is first
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[tuple[_Result, Exception | None]] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._work, name="results", daemon=True)
        self._writer.start()

    @property
    def memory(self) -> int:
        """Bytes held in memory."""
        return sum(result.size for result in self._results.values() if result.memory)

    @property
    def size(self) -> int:
        """Bytes of all results."""
        return sum(result.size for result in self._results.values())

    @property
    def strained(self) -> bool:
        """Whether results that the disk does not take fill the memory's share."""
        stuck = [result for result in self._results.values() if result.failed_at is not None]
        return bool(stuck) and sum(result.size for result in stuck) > self._memory_bytes // 2

    def status(self) -> dict[str, Any]:
        return {"results": self.memory, "results_on_disk": self.size, "disk_full": self.strained}

    def load(self) -> tuple[JobRecord, ...]:
        """The records that an earlier server left, in the order in which their jobs ended."""
        found = []
        for folder in self._folder.glob("*/*"):
            if not folder.is_dir():
                continue  # a file that a desktop's file manager left, such as .DS_Store
            if folder.name.endswith(UNFINISHED):
                shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                record = JobRecord.from_bytes((folder / RECORD).read_bytes())
                sizes = {file.name: file.stat().st_size for file in folder.iterdir() if file.name != RECORD}
            except (OSError, SchemaError) as error:
                log.warning("result dropped", extra={"fields": {"folder": folder.name, "reason": str(error)}})
                shutil.rmtree(folder, ignore_errors=True)
                continue
            found.append(_Result(record, folder, sizes, written=True))
        for result in sorted(found, key=lambda result: result.record.ended):
            self._results[result.record.owner, result.record.job] = result
        return tuple(result.record for result in self._results.values())

    def add(self, record: JobRecord, blobs: Mapping[str, bytes], *, durable: bool = False) -> None:
        """Keep a finished job and begin to write it; `tidy` returns it afterwards. `durable`: even for a power cut."""
        owner = hashlib.sha256(record.owner.encode()).hexdigest()[:32]
        sizes = {blob: len(data) for blob, data in blobs.items()}
        result = _Result(record, self._folder / owner / record.job, sizes, blobs)
        self._results[record.owner, record.job] = result
        self._tasks.put(lambda: self._write(result, blobs, durable))

    def find(self, owner: str, blob: str, offset: int, length: int) -> tuple[int, memoryview | StoredPart] | None:
        """The size of an owner's blob, and `length` bytes of it (fewer at its end), which may have to be read from the
        disk; None when it is not here."""
        stored = None
        for (whose, _job), result in self._results.items():
            if whose == owner and blob in result.sizes:
                size = result.sizes[blob]
                if result.memory or offset >= size:
                    return size, memoryview(result.memory.get(blob, b""))[offset : offset + length]
                stored = size, StoredPart(result.folder / blob, offset, length)
        return stored

    def drop(self, owner: str, job: str) -> None:
        """Forget a result; its files are deleted."""
        result = self._results.pop((owner, job), None)
        if result is not None:
            self._tasks.put(lambda: self._delete(result))

    def tidy(self) -> list[Key]:
        """Take note of what was written, give memory back, try a full disk again. Called often; costs little.

        Returns the results that were written, or could not be, since the last call.
        """
        stored: list[Key] = []
        while not self._outcomes.empty():
            result, error = self._outcomes.get()
            stored.append((result.record.owner, result.record.job))
            result.written, result.failed_at = error is None, None if error is None else time.monotonic()
            if error is not None:
                log.error("result not written", extra={"fields": {"job": result.record.job, "reason": str(error)}})
        for result in self._results.values():
            if result.failed_at is not None and time.monotonic() - result.failed_at > RETRY_SECONDS:
                result.failed_at = time.monotonic()  # until its outcome is known
                self._tasks.put(lambda result=result: self._write(result, result.memory))  # type: ignore[misc]
        excess = self.memory - self._memory_bytes
        for result in self._results.values():
            if excess <= 0:
                break
            if result.written and result.memory:
                excess -= result.size
                result.memory = {}
        return stored

    def beyond_share(self) -> list[Key]:
        """The oldest results, as many as exceed the disk's share."""
        keys: list[Key] = []
        excess = self.size - self._disk_bytes
        for key, result in self._results.items():
            if excess <= 0 or len(self._results) - len(keys) <= 1:
                break  # the last result stays, however large it is: its client has had no time to fetch it
            keys.append(key)
            excess -= result.size
        return keys

    def close(self) -> None:
        """Write what is not written yet."""
        self._tasks.put(None)
        self._writer.join(CLOSE_SECONDS)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except Exception:  # whatever a task could not do, the next ones are done
                log.exception("result's files")

    def _write(self, result: _Result, blobs: Mapping[str, bytes], durable: bool = False) -> None:
        """In the writer's thread."""
        beside = result.folder.with_name(result.folder.name + UNFINISHED)
        try:
            private_folder(result.folder.parent)
            shutil.rmtree(beside, ignore_errors=True)
            private_folder(beside)
            for blob, data in blobs.items():
                _write_file(beside / blob, data, durable)
            _write_file(beside / RECORD, result.record.to_bytes(), durable)
            shutil.rmtree(result.folder, ignore_errors=True)  # of a job of the same id that had failed before
            beside.rename(result.folder)
        except Exception as error:
            shutil.rmtree(beside, ignore_errors=True)
            self._outcomes.put((result, error))
        else:
            self._outcomes.put((result, None))
        self._wake()

    def _delete(self, result: _Result) -> None:
        """In the writer's thread."""
        shutil.rmtree(result.folder, ignore_errors=True)


def _write_file(path: Path, data: bytes, durable: bool) -> None:
    with open(path, "wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
