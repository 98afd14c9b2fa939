"""Uploads, results and turns, without a socket."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from diffedit_backend.server.fair_queue import FairQueue
from diffedit_backend.server.results import JobRecord, ResultStore, StoredPart
from diffedit_backend.server.uploads import MAX_PARTIAL, Uploads
from diffedit_protocol.blobs import blob_id
from diffedit_protocol.errors import BusyError, NoBlobError, SchemaError, TooLargeError
from diffedit_protocol.messages import Bounds, Done, Manifest, PlaneRef, Progress, Queued, Started
from diffedit_protocol.requests import Put, new_job_id
from hypothesis import given
from hypothesis import strategies as st

ANNA, BOB = "anna's key", "bob's key"


def put(uploads: Uploads, owner: str, data: bytes, chunk: int = 1 << 20) -> str:
    blob = blob_id(data)
    for offset in range(0, len(data), chunk):
        part = data[offset : offset + chunk]
        uploads.put(owner, Put(blob, len(data), offset, len(part), data=part))
    return blob


class TestUploads:
    def test_a_blob_is_its_owners_alone(self) -> None:
        uploads = Uploads(1000, 1000, 1000)
        blob = put(uploads, ANNA, b"picture")
        found = uploads.find(ANNA, blob)
        assert found is not None
        assert bytes(found) == b"picture"
        assert uploads.find(BOB, blob) is None
        assert uploads.received(BOB, blob) == 0
        with pytest.raises(NoBlobError):
            uploads.pin(BOB, [blob])

    def test_an_upload_that_was_cut_goes_on_where_it_was(self) -> None:
        uploads = Uploads(1000, 1000, 1000)
        blob = blob_id(b"abcdef")
        assert uploads.put(ANNA, Put(blob, 6, 0, 4, data=b"abcd")).received == 4
        assert uploads.received(ANNA, blob) == 4
        assert uploads.put(ANNA, Put(blob, 6, 4, 2, data=b"ef")).complete
        assert uploads.received(ANNA, blob) is None

    def test_bytes_with_another_hash_are_forgotten_and_not_counted(self) -> None:
        uploads = Uploads(1000, 1000, 1000)
        with pytest.raises(SchemaError, match="another hash"):
            uploads.put(ANNA, Put(blob_id(b"abc"), 3, 0, 3, data=b"abd"))
        assert uploads.size == 0
        assert uploads.received(ANNA, blob_id(b"abc")) == 0

    def test_the_least_recently_used_blob_makes_room(self) -> None:
        uploads = Uploads(100, 250, 1000)
        first, second = put(uploads, ANNA, b"1" * 100), put(uploads, ANNA, b"2" * 100)
        assert uploads.received(ANNA, first) is None  # a use
        put(uploads, ANNA, b"3" * 100)
        assert uploads.find(ANNA, second) is None
        assert uploads.find(ANNA, first) is not None
        assert uploads.size == 200

    def test_what_a_job_needs_is_never_dropped_and_the_client_is_told_to_wait(self) -> None:
        uploads = Uploads(100, 150, 1000)
        held = put(uploads, ANNA, b"1" * 100)
        uploads.pin(ANNA, [held])
        with pytest.raises(BusyError) as caught:
            put(uploads, ANNA, b"2" * 100)
        assert caught.value.retry_after
        uploads.unpin(ANNA, [held])
        put(uploads, ANNA, b"2" * 100)
        assert uploads.find(ANNA, held) is None

    def test_all_clients_together_stay_within_the_total(self) -> None:
        uploads = Uploads(100, 1000, 300)
        for owner in range(20):
            put(uploads, f"key {owner}", bytes([owner]) * 100)
        assert uploads.size == 300

    def test_a_blob_beyond_the_limits_is_refused_before_a_byte_is_kept(self) -> None:
        uploads = Uploads(100, 150, 1000)
        with pytest.raises(TooLargeError, match="101 bytes"):
            uploads.put(ANNA, Put(blob_id(b"x"), 101, 0, 1, data=b"x"))
        with pytest.raises(TooLargeError, match="may store 150"):
            uploads.put(ANNA, Put(blob_id(b"x"), 151, 0, 1, data=b"x"))
        assert uploads.size == 0

    def test_uploads_that_are_begun_and_never_ended_are_bounded(self) -> None:
        uploads = Uploads(1000, 10_000, 10_000)
        for number in range(10 * MAX_PARTIAL):
            uploads.put(ANNA, Put(blob_id(str(number).encode()), 1000, 0, 100, data=b"x" * 100))
        assert uploads.size == MAX_PARTIAL * 100

    @given(st.lists(st.tuples(st.sampled_from([ANNA, BOB]), st.integers(1, 60), st.booleans()), max_size=30))
    def test_the_count_of_bytes_is_always_that_of_what_is_held(self, steps: list[tuple[str, int, bool]]) -> None:
        uploads = Uploads(50, 120, 200)
        names: dict[str, set[str]] = {ANNA: set(), BOB: set()}
        for owner, size, whole in steps:
            data = os.urandom(size)
            try:
                if whole:
                    names[owner].add(put(uploads, owner, data, chunk=7))
                else:
                    names[owner].add(blob_id(data))
                    uploads.put(owner, Put(blob_id(data), size, 0, 1, data=data[:1]))
            except TooLargeError:
                assert size > 50
        held = 0
        for owner, blobs in names.items():
            for blob in blobs:
                found = uploads.find(owner, blob)
                held += len(found) if found is not None else uploads.received(owner, blob) or 0
        assert uploads.size == held <= 200


def record_of(owner: str, ended: float | None = None) -> JobRecord:
    manifest = Manifest(PlaneRef(blob_id(b"mask"), 2, 2), Bounds(0, 0, 2, 2), 0.5, seconds={"editing": 1.5})
    events = (Queued(1), Started(), Progress("editing", 1, 2, 3.5), Done(manifest))
    return JobRecord(owner, new_job_id(), "a horse", "a zebra", 1.0, ended or time.time(), events)


def settle(store: ResultStore) -> None:
    """Wait for the writer, as a server does that comes by again and again."""
    until = time.monotonic() + 60
    while not all(result.written for result in store._results.values()):
        assert time.monotonic() < until
        store.tidy()
        time.sleep(0.005)
    store.tidy()


def content(store: ResultStore, owner: str, blob: str, offset: int, length: int) -> tuple[int, bytes] | None:
    """Size and bytes of a part of a blob, from wherever it lies."""
    found = store.find(owner, blob, offset, length)
    if found is None:
        return None
    size, data = found
    return size, (data.read() or b"") if isinstance(data, StoredPart) else bytes(data)


class TestResults:
    def test_a_record_is_the_same_after_it_was_written_and_read(self) -> None:
        record = record_of(ANNA)
        assert JobRecord.from_bytes(record.to_bytes()) == record
        with pytest.raises(SchemaError):
            JobRecord.from_bytes(b"\x81\xa6format\x07")

    def test_a_result_is_read_from_memory_and_then_from_disk_alike(self, tmp_path: Path) -> None:
        data = os.urandom(5000)
        store = ResultStore(tmp_path / "results", memory_bytes=100_000, disk_bytes=1 << 20)
        store.add(record_of(ANNA), {"b1": data})
        first = content(store, ANNA, "b1", 1000, 500)
        settle(store)
        store._memory_bytes = 0
        store.tidy()
        assert store.memory == 0
        second = content(store, ANNA, "b1", 1000, 500)
        assert first is not None
        assert second is not None
        assert (first[0], first[1]) == (second[0], second[1]) == (5000, data[1000:1500])
        assert content(store, BOB, "b1", 0, 10) is None
        assert content(store, ANNA, "b1", 5000, 10) == (5000, b"")
        store.close()

    def test_memory_is_bounded_while_every_result_stays_there(self, tmp_path: Path) -> None:
        store = ResultStore(tmp_path / "results", memory_bytes=25_000, disk_bytes=1 << 20)
        records = [record_of(ANNA) for _ in range(10)]
        for number, record in enumerate(records):
            store.add(record, {f"b{number}": bytes([number]) * 10_000})
        settle(store)
        assert store.memory <= 25_000
        for number in range(10):
            found = content(store, ANNA, f"b{number}", 0, 10_000)
            assert found is not None
            assert found[1] == bytes([number]) * 10_000
        store.close()

    def test_a_later_server_finds_every_whole_result_and_clears_away_the_rest(self, tmp_path: Path) -> None:
        store = ResultStore(tmp_path / "results", memory_bytes=1 << 20, disk_bytes=1 << 20)
        kept = record_of(ANNA)
        store.add(kept, {"b": b"bytes"})
        store.close()
        (owner,) = (tmp_path / "results").iterdir()
        torn = owner / f"{new_job_id()}.part"
        torn.mkdir()
        (torn / "b").write_bytes(b"by")
        damaged = owner / new_job_id()
        damaged.mkdir()
        (damaged / "record").write_bytes(b"\xc1")
        later = ResultStore(tmp_path / "results", memory_bytes=1 << 20, disk_bytes=1 << 20)
        assert later.load() == (kept,)
        found = content(later, ANNA, "b", 0, 100)
        assert found is not None
        assert found[1] == b"bytes"
        assert not torn.exists()
        assert not damaged.exists()
        later.close()

    def test_the_oldest_results_make_room_on_disk_and_the_last_one_stays(self, tmp_path: Path) -> None:
        store = ResultStore(tmp_path / "results", memory_bytes=0, disk_bytes=250)
        records = [record_of(ANNA, ended=time.time() + number) for number in range(4)]
        for number, record in enumerate(records):
            store.add(record, {f"b{number}": b"x" * 100})
        assert store.beyond_share() == [(ANNA, records[0].job), (ANNA, records[1].job)]
        store._disk_bytes = 10
        assert (ANNA, records[3].job) not in store.beyond_share()
        store.close()

    def test_the_files_of_a_result_go_with_it(self, tmp_path: Path) -> None:
        store = ResultStore(tmp_path / "results", memory_bytes=0, disk_bytes=1 << 20)
        old, new = record_of(ANNA), record_of(ANNA)
        store.add(old, {"b": b"x"})
        store.add(new, {"c": b"y"})
        store.drop(ANNA, old.job)
        store.close()
        assert [path.name for path in (tmp_path / "results").glob("*/*")] == [new.job]

    def test_a_full_disk_keeps_results_in_memory_and_is_reported(self, tmp_path: Path) -> None:
        store = ResultStore(tmp_path / "results", memory_bytes=1000, disk_bytes=1 << 20)
        (tmp_path / "results").rmdir()
        (tmp_path / "results").write_text("in the way, as a disk without room is")
        record = record_of(ANNA)
        store.add(record, {"b": b"x" * 900})
        until = time.monotonic() + 60
        while not store.strained:
            assert time.monotonic() < until
            store.tidy()
            time.sleep(0.005)
        found = content(store, ANNA, "b", 0, 900)
        assert found is not None
        assert found[1] == b"x" * 900
        (tmp_path / "results").unlink()
        next(iter(store._results.values())).failed_at = -1000.0  # the time to try again has come
        settle(store)
        assert not store.strained
        store.close()


class TestTurns:
    def test_a_client_with_many_jobs_does_not_hold_up_one_with_a_single_job(self) -> None:
        queue: FairQueue[str] = FairQueue()
        for number in range(5):
            queue.add(ANNA, f"a{number}")
        queue.add(BOB, "b0")
        assert [queue.next() for _ in range(6)] == ["a0", "b0", "a1", "a2", "a3", "a4"]
        with pytest.raises(IndexError):
            queue.next()

    def test_jobs_leave_the_queue_in_the_order_that_it_lists(self) -> None:
        queue: FairQueue[str] = FairQueue()
        for owner, count in ((ANNA, 3), (BOB, 2), ("carl", 4)):
            for number in range(count):
                queue.add(owner, f"{owner}{number}")
        queue.remove(BOB, f"{BOB}0")
        foretold = list(queue)
        assert len(queue) == 8
        assert [queue.next() for _ in range(8)] == foretold

    @given(st.lists(st.sampled_from([ANNA, BOB, "carl"]), max_size=20))
    def test_nothing_is_lost_and_each_clients_order_is_kept(self, owners: list[str]) -> None:
        queue: FairQueue[tuple[str, int]] = FairQueue()
        for number, owner in enumerate(owners):
            queue.add(owner, (owner, number))
        served = [queue.next() for _ in range(len(queue))]
        assert sorted(served, key=lambda entry: entry[1]) == [(owner, number) for number, owner in enumerate(owners)]
        for owner in set(owners):
            own = [number for who, number in served if who == owner]
            assert own == sorted(own)
