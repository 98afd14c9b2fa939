"""Messages as frames, chunk encodings, blobs and events: every way in, every way to be refused."""

from __future__ import annotations

import dataclasses
import os
import random
import tracemalloc
import zlib
from typing import Any

import msgpack
import pytest
from diffedit_protocol import blobs, encodings
from diffedit_protocol.errors import OutOfMemoryError, SchemaError, TooLargeError
from diffedit_protocol.events import JobEvent, event_message, read_event
from diffedit_protocol.frames import MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES, Message, decode, encode
from diffedit_protocol.link_speed import LinkSpeed, TransferMeter
from diffedit_protocol.messages import (
    Bounds,
    Cancelled,
    Done,
    Event,
    Failed,
    Manifest,
    PictureRef,
    PlaneRef,
    Preview,
    Progress,
    Queued,
    Started,
)
from diffedit_protocol.replies import Limits
from hypothesis import given
from hypothesis import strategies as st
from msgpack import fallback

JOB = "0123456789abcdef" * 2
MIB = 1 << 20


@pytest.mark.parametrize("payload", [None, b"", b"\x00\xff" * 500])
def test_a_message_comes_back_as_it_was(payload: bytes | None) -> None:
    message = Message("put", {"id": 3, "text": "ü", "list": [1, 2.5, None, True], "map": {"a": -1}}, payload)
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "value", [{"text": "x" * MAX_HEADER_BYTES}, {"n": 2**64}, {"text": "\ud83d"}, {"object": object()}]
)
def test_what_cannot_be_packed_is_refused_before_it_is_sent(value: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        encode(Message("submit", value))


@pytest.mark.parametrize("count", [0, 3, 5])
def test_a_message_has_one_or_two_frames(count: int) -> None:
    with pytest.raises(SchemaError, match=f"1 or 2 frames, not {count}"):
        decode([b"\x80"] * count)


def test_an_oversized_header_or_payload_is_refused_unread() -> None:
    with pytest.raises(TooLargeError, match="65537"):
        decode([b"\x80" * (MAX_HEADER_BYTES + 1)])
    with pytest.raises(TooLargeError, match=str(MAX_PAYLOAD_BYTES + 1)):
        decode([msgpack.packb({"type": "put"}), bytes(MAX_PAYLOAD_BYTES + 1)])


@pytest.mark.parametrize("unpackb", [msgpack.unpackb, fallback.unpackb], ids=["C", "pure Python"])
@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xc1",
        b"\x80",
        b"\x90",
        b"\x80\x80",
        b"\x81\xa4type\x01",
        b"\x81\xa4type",
        b"\x81\x01\x01",
        b"\x81\x91\x01\x01",
        b"\x81\xc4\x01a\x01",
        b"\xa1\xff",
        b"\x91" * 60_000,
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xc7\x0c\xff" + bytes(12),
        b"\xc7\x00\x01",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x82\xa4type\xa1a\xa1b\xc4\x01x",  # bytes in a header that is sound otherwise
        b"\x82\xa4type\xa1a\xa1b\xd6\xff\x00\x00\x00\x00",  # a timestamp
        b"\x82\xa4type\xa1a\xa1b\xd4\x05\x00",  # any other extension
    ],
)
def test_a_header_that_is_no_plain_map_is_refused(header: bytes, unpackb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(msgpack, "unpackb", unpackb)
    with pytest.raises(SchemaError):
        decode([header])


def test_the_worst_header_takes_little_memory() -> None:
    worst = b"\xdc\x10\x00" + b"\x80" * 4096  # an array of empty maps, as long as allowed
    tracemalloc.start()
    for _ in range(10):
        with pytest.raises(SchemaError):
            decode([worst])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * MIB


@given(st.binary(min_size=1, max_size=400), st.sampled_from([3, 4]))
def test_a_running_sum_undoes_a_difference(data: bytes, channels: int) -> None:
    taken = encodings.difference(data, channels)
    expected = bytes((data[i] - (data[i - channels] if i >= channels else 0)) % 256 for i in range(len(data)))
    assert taken == expected
    assert encodings.running_sum(taken, channels) == data


@given(st.binary(min_size=1, max_size=2000), st.sampled_from(["raw", "zlib", "delta3", "delta4"]))
def test_every_encoding_gives_the_chunk_back(data: bytes, encoding: str) -> None:
    used, packed = encodings.encode_chunk(data, encoding)
    assert len(packed) <= len(data)
    assert encodings.decode_chunk(packed, used, len(data)) == data


def test_a_smooth_picture_gets_much_smaller_and_noise_stays_raw() -> None:
    smooth = bytes((x * 2 + y + channel) % 256 for y in range(100) for x in range(100) for channel in range(3))
    used, packed = encodings.encode_chunk(memoryview(smooth), "delta3")
    assert used == "delta3"
    assert len(packed) < len(smooth) / 10
    assert encodings.encode_chunk(random.Random(1).randbytes(1000), "delta3")[0] == "raw"


@pytest.mark.parametrize("announced", [99, 101])
def test_a_chunk_of_another_length_than_announced_is_refused(announced: int) -> None:
    for encoding in ("raw", "zlib", "delta3"):
        used, packed = encodings.encode_chunk(bytes(100), encoding)
        with pytest.raises(SchemaError):
            encodings.decode_chunk(packed, used, announced)


@pytest.mark.parametrize("broken", [b"", b"no zlib", zlib.compress(bytes(10))[:-1], zlib.compress(bytes(10)) + b"x"])
def test_packed_data_that_is_broken_is_refused(broken: bytes) -> None:
    with pytest.raises(SchemaError):
        encodings.inflate(broken, 10)


def test_a_decompression_bomb_is_never_unpacked() -> None:
    bomb = zlib.compress(bytes(200 * MIB), 9)
    tracemalloc.start()
    with pytest.raises(SchemaError):
        encodings.inflate(bomb, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MIB


def test_a_blob_is_gathered_in_order_and_its_hash_checked() -> None:
    data = bytes(range(200))
    assembler = blobs.BlobAssembler(blobs.blob_id(data), 200, limit=200)
    assert assembler.put(0, 200, data[:80]) == 80
    assert assembler.put(0, 200, data[:80]) == 80  # again: skipped
    assert assembler.put(120, 200, data[120:]) == 80  # a gap: not stored
    assert assembler.put(40, 200, data[40:150]) == 150  # overlaps: the rest is taken
    assert not assembler.complete
    with pytest.raises(ValueError, match="150 of 200"):
        assembler.take()
    assert assembler.put(150, 200, data[150:]) == 200
    assert assembler.complete
    assert bytes(assembler.take()) == data


def test_a_blob_whose_hash_lies_is_forgotten() -> None:
    assembler = blobs.BlobAssembler(blobs.blob_id(b"truth"), 4, limit=10)
    assembler.put(0, 4, b"li")
    with pytest.raises(SchemaError, match="another hash"):
        assembler.put(2, 4, b"es")
    assert assembler.received == 0


@pytest.mark.parametrize(("offset", "size", "data"), [(0, 5, b"x"), (0, 4, b"xxxxx"), (3, 4, b"xx"), (-1, 4, b"x")])
def test_a_chunk_that_does_not_fit_its_blob_is_refused(offset: int, size: int, data: bytes) -> None:
    assembler = blobs.BlobAssembler(blobs.blob_id(b"four"), 4, limit=10)
    assembler.put(0, 4, b"f")
    with pytest.raises(SchemaError):
        assembler.put(offset, size, data)
    assert assembler.received == 0


def test_a_blob_beyond_the_limit_or_without_a_byte_is_refused() -> None:
    name = blobs.blob_id(b"")
    with pytest.raises(TooLargeError):
        blobs.BlobAssembler(name, 11, limit=10)
    with pytest.raises(SchemaError):
        blobs.BlobAssembler(name, 0, limit=10)
    with pytest.raises(SchemaError):
        blobs.BlobAssembler("../x", 5, limit=10)


def test_memory_grows_with_what_came_and_not_with_what_was_announced() -> None:
    tracemalloc.start()
    assembler = blobs.BlobAssembler(blobs.blob_id(b"x"), 1 << 40, limit=1 << 41)
    assembler.put(0, 1 << 40, bytes(1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_a_large_chunk_is_kept_where_it_came_and_small_ones_are_gathered() -> None:
    large, small = os.urandom(blobs.KEPT_BYTES), os.urandom(900)
    data = large + small + large
    assembler = blobs.BlobAssembler(blobs.blob_id(data), len(data), limit=len(data))
    assembler.put(0, len(data), large)
    for offset in range(0, 900, 300):
        assembler.put(len(large) + offset, len(data), small[offset : offset + 300])
    assembler.put(len(large) + 900, len(data), large)
    pieces = assembler.take()
    assert pieces.parts[0] is large
    assert pieces.parts[2] is large
    assert list(map(len, pieces.parts)) == [len(large), 900, len(large)]
    assert len(pieces) == len(data)
    assert bytes(pieces) == data


def test_of_a_large_chunk_that_was_there_in_part_nothing_but_the_rest_is_held() -> None:
    data = os.urandom(3 * blobs.KEPT_BYTES)
    assembler = blobs.BlobAssembler(blobs.blob_id(data), len(data), limit=len(data))
    assembler.put(0, len(data), data[:1000])
    assembler.put(0, len(data), data)
    assert [type(part) for part in assembler.take().parts] == [bytearray]
    assert bytes(assembler.take()) == data


@given(st.lists(st.binary(max_size=9)), st.integers(0, 40), st.integers(1, 40))
def test_bytes_in_pieces_are_read_as_if_they_were_whole(parts: list[bytes], offset: int, length: int) -> None:
    assert bytes(blobs.Pieces(parts).read(offset, length)) == b"".join(parts)[offset : offset + length]


def test_what_lies_in_one_piece_is_read_without_a_copy() -> None:
    part = bytearray(b"defg")
    found = blobs.Pieces([b"abc", part]).read(4, 2)
    part[1] = ord("E")
    assert bytes(found) == b"Ef"


def test_planes_come_back_as_they_were() -> None:
    plane = bytes(range(250)) * 2
    ref, blob = blobs.pack_plane(plane, 25, 20)
    assert ref == PlaneRef(blobs.blob_id(blob), 25, 20, packed=True)
    assert blobs.unpack_plane(ref, blob) == plane
    raw = PlaneRef(blobs.blob_id(plane), 25, 20, packed=False)
    assert blobs.unpack_plane(raw, plane) == plane
    with pytest.raises(SchemaError):
        blobs.unpack_plane(raw, plane[:-1])
    with pytest.raises(SchemaError):
        blobs.pack_plane(plane, 25, 21)


def test_an_opaque_picture_travels_as_rgb() -> None:
    rgba = bytes((1, 2, 3, 255, 4, 5, 6, 255))
    ref, blob = blobs.pack_picture(rgba, 2, 1, 4)
    assert (ref.channels, blob) == (3, bytes((1, 2, 3, 4, 5, 6)))
    assert blobs.unpack_picture(ref, blob) == blob


def test_a_picture_with_transparency_travels_as_rgba() -> None:
    rgba = bytes((1, 2, 3, 255, 4, 5, 6, 254))
    ref, blob = blobs.pack_picture(rgba, 2, 1, 4)
    assert (ref.channels, blob) == (4, rgba)


def test_pixels_of_another_length_are_refused() -> None:
    with pytest.raises(SchemaError, match="has 8 bytes, not 7"):
        blobs.pack_picture(bytes(7), 2, 1, 4)
    with pytest.raises(SchemaError, match="has 8 bytes, not 7"):
        blobs.unpack_picture(PictureRef("0" * 64, 2, 1, 4), bytes(7))


EVENTS: list[Event] = [
    Queued(3),
    Started(),
    Progress("editing", 3, 9, 1.5),
    Progress("editing", 3, 9),
    Preview(2, 1, b"rgbrgb"),
    Done(Manifest(PlaneRef("0" * 64, 1, 1), Bounds(0, 0, 1, 1), 0.5)),
    Cancelled(),
]


@pytest.mark.parametrize("previews", ["raw", "zlib"])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_comes_back_as_it_was(event: Event, previews: str) -> None:
    message = decode(encode(event_message(JOB, 7, event, previews=previews)))
    assert read_event(message) == JobEvent(JOB, 7, event)


def test_a_stage_that_only_a_newer_server_knows_comes_as_it_was_sent() -> None:
    sent = Message("event", {"job": JOB, "seq": 1, "kind": "progress", "stage": "sharpening", "step": 1, "total": 2})
    assert dataclasses.astuple(read_event(decode(encode(sent))).event) == ("sharpening", 1, 2, None)


def test_a_failure_comes_back_with_its_error() -> None:
    error = OutOfMemoryError("The GPU ran out of memory.", detail="2 GiB")
    read = read_event(decode(encode(event_message(JOB, 7, Failed(error))))).event
    assert isinstance(read, Failed)
    assert type(read.error) is OutOfMemoryError
    assert vars(read.error) == vars(error)


@pytest.mark.parametrize("preview", [Preview(769, 1, bytes(769 * 3)), Preview(2, 2, b"x")])
def test_a_preview_that_would_not_be_taken_is_not_sent(preview: Preview) -> None:
    with pytest.raises(ValueError, match="preview"):
        event_message(JOB, 1, preview)


@pytest.mark.parametrize(
    ("fields", "payload"),
    [
        ({}, None),
        ({"job": JOB}, None),
        ({"job": "x", "seq": 1, "kind": "started"}, None),
        ({"job": JOB, "seq": -1, "kind": "started"}, None),
        ({"job": JOB, "seq": True, "kind": "started"}, None),
        ({"job": JOB, "seq": 1, "kind": "exploded"}, None),
        ({"job": JOB, "seq": 1, "kind": ["started"]}, None),
        ({"job": JOB, "seq": 1, "kind": "done"}, None),
        ({"job": JOB, "seq": 1, "kind": "progress", "stage": 3}, None),
        ({"job": JOB, "seq": 1, "kind": "preview", "width": 1, "height": 1}, None),
        ({"job": JOB, "seq": 1, "kind": "preview", "width": 1, "height": 1}, b"1234"),
        ({"job": JOB, "seq": 1, "kind": "preview", "width": 0, "height": 1}, b""),
        ({"job": JOB, "seq": 1, "kind": "preview", "width": 2, "height": 10_000}, bytes(60_000)),
        ({"job": JOB, "seq": 1, "kind": "preview", "width": 1, "height": 1, "packed": True}, zlib.compress(bytes(4))),
    ],
)
def test_an_ill_formed_event_is_refused(fields: dict[str, Any], payload: bytes | None) -> None:
    with pytest.raises(SchemaError):
        read_event(Message("event", fields, payload))


def test_a_failure_without_an_error_is_an_internal_one() -> None:
    read = read_event(Message("event", {"job": JOB, "seq": 1, "kind": "failed", "error": 3})).event
    assert isinstance(read, Failed)
    assert read.error.code == "INTERNAL"


LIMITS = Limits()


def test_loopback_is_never_packed_and_takes_the_largest_chunks() -> None:
    speed = LinkSpeed(loopback=True)
    speed.saw_transfer(1000, 1.0)
    assert (speed.chunk_bytes(LIMITS), speed.window(LIMITS)) == (MIB, 8)
    assert (speed.encoding(3), speed.encoding(None), speed.previews) == ("raw", "raw", "raw")


def test_a_small_blob_on_loopback_is_split_so_that_both_ends_work_at_once() -> None:
    speed = LinkSpeed(loopback=True)
    sizes = [MIB, 3 * MIB, 8 * MIB, 48 * MIB]
    assert [speed.chunk_bytes(LIMITS, size) for size in sizes] == [256 * 1024, 768 * 1024, MIB, MIB]


@pytest.mark.parametrize(
    ("megabits", "chunk", "encoding"),
    [(2, 256 * 1024, "delta4"), (20, 256 * 1024, "delta4"), (40, 500_000, "delta4"), (1000, MIB, "raw")],
)
def test_chunks_and_encoding_follow_the_measured_speed(megabits: int, chunk: int, encoding: str) -> None:
    speed = LinkSpeed(loopback=False)
    speed.saw_transfer(megabits * 125_000, 1.0)
    assert speed.chunk_bytes(LIMITS) == chunk
    assert speed.encoding(4) == encoding
    assert speed.previews == ("raw" if encoding == "raw" else "zlib")
    assert speed.encoding(None) == "raw"
    assert 2 <= speed.window(LIMITS) <= LIMITS.window


def test_a_slow_link_holds_less_than_half_a_second_in_flight_and_a_fast_one_more_chunks() -> None:
    slow, fast = LinkSpeed(loopback=False), LinkSpeed(loopback=False)
    slow.saw_transfer(2_500_000, 1.0)
    fast.saw_transfer(100_000_000, 1.0)
    assert slow.window(LIMITS) * slow.chunk_bytes(LIMITS) / 2_500_000 < 0.5
    assert fast.window(LIMITS) == 8


def test_an_unmeasured_link_is_judged_by_its_round_trip() -> None:
    speed = LinkSpeed(loopback=False)
    assert speed.slow
    speed.saw_round_trip(0.080)
    assert speed.slow
    speed.saw_round_trip(0.001)
    speed.saw_round_trip(0.050)
    assert speed.round_trip == 0.001
    assert not speed.slow
    assert speed.chunk_bytes(LIMITS) == 256 * 1024


def test_the_servers_limits_bound_chunk_and_window() -> None:
    speed = LinkSpeed(loopback=True)
    assert speed.chunk_bytes(Limits(chunk_bytes=1000)) == 1000
    assert speed.window(Limits(window=3)) == 3


def test_a_transfer_is_measured_from_its_first_answer() -> None:
    speed = LinkSpeed(loopback=False)
    meter = TransferMeter()
    for step in range(21):
        meter.answered(speed, 10_000, step * 0.01)
    assert speed.bytes_per_second == pytest.approx(1_000_000, rel=0.01)
