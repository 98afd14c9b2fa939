"""The hash that a thread computes while a download comes in."""

from __future__ import annotations

import os

import pytest
from diffedit_protocol import blobs
from diffedit_protocol.blobs import BackgroundHash, blob_id


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte goes to a thread, which ends soon."""
    monkeypatch.setattr(blobs, "AT_ONCE_BYTES", 0)
    monkeypatch.setattr(blobs, "IDLE_SECONDS", 0.01)


def test_the_hash_is_that_of_all_bytes_in_order() -> None:
    data = memoryview(os.urandom(3 << 20))
    hashing = BackgroundHash()
    for offset in range(0, len(data), 300_000):
        hashing.update(data[offset : offset + 300_000])
    assert hashing.hexdigest() == blob_id(data)


@pytest.mark.parametrize("data", [b"", b"a mask"])
def test_for_little_or_nothing_no_thread_is_started(data: bytes) -> None:
    hashing = BackgroundHash()
    hashing.update(memoryview(data))
    assert hashing.hexdigest() == blob_id(data)
    assert hashing.thread is None


@pytest.mark.usefixtures("quick")
def test_a_download_that_is_given_up_leaves_no_thread_behind() -> None:
    hashing = BackgroundHash()
    hashing.update(memoryview(b"first "))
    assert hashing.thread is not None
    hashing.thread.join()  # ends by itself


@pytest.mark.usefixtures("quick")
def test_bytes_that_come_after_a_long_silence_are_hashed_by_another_thread() -> None:
    hashing = BackgroundHash()
    hashing.update(memoryview(b"first "))
    first = hashing.thread
    assert first is not None
    first.join()
    hashing.update(memoryview(b"second"))
    assert hashing.thread is not first
    assert hashing.hexdigest() == blob_id(b"first second")


@pytest.mark.usefixtures("quick")
def test_bytes_that_come_while_the_thread_ends_are_hashed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    hashing = BackgroundHash()
    hashing.update(memoryview(b"first "))
    assert hashing.thread is not None
    hashing.thread.join()
    monkeypatch.setattr(hashing.thread, "is_alive", lambda: True)  # as seen a moment before its end
    hashing.update(memoryview(b"second"))
    assert hashing.hexdigest() == blob_id(b"first second")
