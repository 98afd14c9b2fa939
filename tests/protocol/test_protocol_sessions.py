"""The server's session for itself, and the client's against a server that does not keep to the protocol."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from diffedit_protocol import operations, replies, requests
from diffedit_protocol.blobs import blob_id, unpack_plane
from diffedit_protocol.client_session import LONGEST_REPEAT_SECONDS, REPEAT_SECONDS, ClientSession
from diffedit_protocol.encodings import encode_chunk
from diffedit_protocol.errors import BusyError, InternalError, NoBlobError, SchemaError, error_from_wire
from diffedit_protocol.events import read_event
from diffedit_protocol.frames import Frames, Message, decode, encode
from diffedit_protocol.job_run import JobRun
from diffedit_protocol.messages import Bounds, Done, EditRequest, Manifest, PlaneRef, Preview, Started
from diffedit_protocol.operations import Call, Download
from diffedit_protocol.replies import NO_MASK, Limits, ServerInfo
from diffedit_protocol.schema import to_map
from diffedit_protocol.server_session import BLACK_PIXEL_BYTES, Received, ServerSession, reply_message

JOB = "0" * 32
BLOB = blob_id(b"x")
INFO = ServerInfo("0.1.0", "boot-1", limits=Limits(chunk_bytes=100, blob_bytes=1000))


def asked_by(
    session: ServerSession, kind: str, payload: bytes | None = None, number: Any = 5, **fields: Any
) -> Received:
    return session.receive(encode(Message(kind, {"id": number, **fields}, payload)))


def only_reply(asked: Received) -> tuple[str, dict[str, Any]]:
    assert asked.request is None
    (frames,) = asked.replies
    message = decode(frames)
    return message.type, message.fields


def greeted() -> ServerSession:
    session = ServerSession(INFO)
    kind, fields = only_reply(asked_by(session, "hello", versions=[1, 1], client="test"))
    assert (kind, fields["re"], fields["protocol"]) == ("welcome", 5, 1)
    return session


def refusal(asked: Received) -> dict[str, Any]:
    kind, fields = only_reply(asked)
    assert kind == "error"
    error: dict[str, Any] = fields["error"]
    return error


def test_before_hello_every_request_is_answered_by_again() -> None:
    session = ServerSession(INFO)
    for kind, fields in (("ping", {}), ("jobs", {}), ("cancel", {"job": JOB})):
        assert only_reply(asked_by(session, kind, **fields)) == ("again", {"re": 5})


def test_hello_tells_who_the_server_is() -> None:
    _, fields = only_reply(asked_by(ServerSession(INFO), "hello", versions=[1, 9], client="test", colour="blue"))
    assert fields["server"] == to_map(INFO)
    assert fields["protocol"] == 1


def test_the_session_remembers_who_said_hello() -> None:
    session = greeted()
    assert session.hello == requests.Hello((1, 1), "test")


def test_ping_is_answered_by_the_session_itself() -> None:
    assert only_reply(asked_by(greeted(), "ping")) == ("pong", {"re": 5, "boot_id": "boot-1"})


@pytest.mark.parametrize("number", [None, -1, 2**63, 1.0, "1", True])
def test_a_request_without_a_number_is_refused(number: Any) -> None:
    asked = asked_by(greeted(), "ping", number=number)
    assert refusal(asked)["code"] == "SCHEMA"


def test_an_unknown_request_is_refused() -> None:
    assert "reformat" in refusal(asked_by(greeted(), "reformat"))["sentence"]


def test_frames_that_are_no_message_are_answered_without_a_number() -> None:
    kind, fields = only_reply(greeted().receive([b"\xc1"]))
    assert (kind, fields["re"]) == ("error", None)


def test_a_payload_where_none_belongs_is_refused_and_so_is_a_missing_one() -> None:
    session = greeted()
    assert refusal(asked_by(session, "ping", b"x"))["code"] == "SCHEMA"
    assert refusal(asked_by(session, "put", None, blob=BLOB, size=1, offset=0, length=1))["code"] == "SCHEMA"


def test_the_server_hands_on_a_chunk_decoded() -> None:
    data = bytes(range(50)) + bytes(50)
    encoding, packed = encode_chunk(data, "delta4")
    asked = asked_by(greeted(), "put", bytes(packed), blob=BLOB, size=100, offset=0, length=100, encoding=encoding)
    assert isinstance(asked.request, requests.Put)
    assert asked.request.data == data
    assert asked.id == 5


@pytest.mark.parametrize(
    ("fields", "payload"),
    [({"size": 101, "length": 101}, bytes(101)), ({"size": 1001, "length": 10}, bytes(10))],
)
def test_a_chunk_or_a_blob_beyond_the_limit_is_refused(fields: dict[str, int], payload: bytes) -> None:
    asked = asked_by(greeted(), "put", payload, blob=BLOB, offset=0, **fields)
    assert refusal(asked)["code"] == "TOO_LARGE"


def test_asking_for_more_than_a_chunk_is_refused() -> None:
    assert refusal(asked_by(greeted(), "get", blob=BLOB, offset=0, length=101))["code"] == "TOO_LARGE"


def test_a_chunk_is_answered_as_it_was_asked_for() -> None:
    session = greeted()
    asked = asked_by(session, "get", blob=BLOB, offset=0, length=100, encoding="zlib")
    message = decode(session.reply(asked, replies.Chunk(100, 0, 100, data=bytes(100))))
    assert message.fields == {"re": 5, "size": 100, "offset": 0, "length": 100, "encoding": "zlib"}
    assert message.payload is not None
    assert len(message.payload) < 30


def test_a_refusal_carries_code_sentence_and_time_but_no_endless_text() -> None:
    session = greeted()
    asked = asked_by(session, "jobs")
    message = decode(session.refuse(asked, BusyError("Full." * 1000, detail="d" * 100_000, retry_after=3.0)))
    error = error_from_wire(message.fields["error"])
    assert isinstance(error, BusyError)
    assert error.retry_after == 3.0
    assert len(error.sentence) == len(error.detail) == 2000


def test_previews_go_only_to_those_who_want_them() -> None:
    session = greeted()
    preview = Preview(1, 1, b"rgb")
    assert session.event(JOB, 1, preview) is None
    asked_by(session, "subscribe", job=JOB, previews="raw")
    assert session.event(JOB, 1, preview) is not None
    asked_by(session, "subscribe", job=JOB, previews="none")
    assert session.event(JOB, 1, preview) is None
    assert session.event(JOB, 1, Started()) is not None


class Peer:
    """A client session and the far end of its link, answered by hand."""

    def __init__(self) -> None:
        self.session = ClientSession("test", loopback=True)
        self.session.link_up(0.0)
        self.answer(self.asked(), replies.Welcome(1, INFO))

    def asked(self) -> Message:
        frames = self.session.outgoing()
        assert frames is not None
        self.session.sent()
        return decode([bytes(frame) for frame in frames])

    def answer(self, message: Message, reply: replies.Reply, now: float = 0.0) -> None:
        self.session.receive(encode(reply_message(message.fields["id"], reply)), now)

    def start(self, operation: Any) -> Message:
        self.session.start(operation, 0.0)
        return self.asked()


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"\xc1"],
        [bytes(70_000)],
        encode(Message("pong", {})),
        encode(Message("pong", {"re": None})),
        encode(Message("pong", {"re": "1"})),
        encode(Message("pong", {"re": 999, "boot_id": "x"})),
        encode(Message("event", {"job": "x", "seq": 1, "kind": "started"})),
    ],
)
def test_a_client_ignores_what_answers_nothing(frames: Frames) -> None:
    peer = Peer()
    call = Call(requests.Ping())
    peer.start(call)
    peer.session.receive(frames, 1.0)
    assert not call.finished


@pytest.mark.parametrize(
    "reply", [Message("reformat", {}), Message("pong", {}), Message("pong", {"boot_id": 3}), Message("error", {})]
)
def test_an_unreadable_answer_fails_what_it_answers(reply: Message) -> None:
    peer = Peer()
    call = Call(requests.Ping())
    number = peer.start(call).fields["id"]
    peer.session.receive(encode(Message(reply.type, {"re": number, **reply.fields})), 1.0)
    assert call.finished
    assert isinstance(call.error, SchemaError)


def test_an_error_without_a_text_is_an_internal_one() -> None:
    peer = Peer()
    call = Call(requests.Ping())
    peer.answer(peer.start(call), replies.Error({}))
    assert isinstance(call.error, InternalError)


def test_hello_answered_by_something_else_is_fatal() -> None:
    session = ClientSession("test", loopback=True)
    session.link_up(0.0)
    session.receive(encode(reply_message(1, replies.Okay())), 0.0)
    assert isinstance(session.fatal, SchemaError)
    assert not session.ready


def test_a_request_is_repeated_ever_more_rarely_until_it_is_answered() -> None:
    peer = Peer()
    call = Call(requests.Ping())
    first = peer.start(call)
    times = []
    for tenth in range(1, 2000):
        peer.session.tick(tenth / 10)
        if peer.session.outgoing() is not None:
            assert peer.asked() == first
            times.append(tenth / 10)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert times[0] == REPEAT_SECONDS
    assert gaps[0] == pytest.approx(2 * REPEAT_SECONDS)
    assert max(gaps) == pytest.approx(LONGEST_REPEAT_SECONDS)
    assert peer.session.unanswered_since == 0.0
    peer.answer(first, replies.Pong("boot-1"), 200.0)
    assert peer.session.unanswered_since is None


def test_a_request_that_still_waits_to_be_sent_is_not_repeated() -> None:
    peer = Peer()
    peer.session.start(Call(requests.Ping()), 0.0)
    for second in range(100):
        peer.session.tick(float(second))
    peer.asked()
    assert peer.session.outgoing() is None


def test_the_round_trip_is_not_measured_on_chunks() -> None:
    peer = Peer()
    peer.session.speed.round_trip = 9.0
    message = peer.start(Download(BLOB, 100))
    peer.answer(message, replies.Chunk(1, 0, 1, data=b"x"), 1.0)
    assert peer.session.speed.round_trip == 9.0
    peer.answer(peer.start(Call(requests.Ping())), replies.Pong("boot-1"), 3.0)
    assert peer.session.speed.round_trip == 3.0


@pytest.mark.parametrize(
    "reply",
    [
        replies.Okay(),
        replies.Chunk(200, 1, 100, data=bytes(100)),
        replies.Chunk(200, 0, 99, data=bytes(99)),
        replies.Chunk(200, 0, 100, data=bytes(99)),
        replies.Chunk(0, 0, 0, data=b""),
        replies.Chunk(200, 0, 100, "zlib", data=b"no zlib"),
    ],
)
def test_a_download_does_not_take_what_it_did_not_ask_for(reply: replies.Reply) -> None:
    peer = Peer()
    download = Download(BLOB, 200)
    peer.answer(peer.start(download), reply)
    assert download.finished
    assert download.error is not None


def test_a_blob_whose_size_changes_is_not_taken() -> None:
    peer = Peer()
    download = Download(BLOB, 300)
    peer.answer(peer.start(download), replies.Chunk(300, 0, 100, data=bytes(100)))
    peer.answer(peer.asked(), replies.Chunk(299, 100, 100, data=bytes(100)))
    assert isinstance(download.error, SchemaError)


def test_a_download_of_known_size_asks_for_its_chunks_without_waiting_for_the_first() -> None:
    data = bytes(range(30))
    chunk = Peer().session.speed.chunk_bytes(INFO.limits)
    size = 2 * chunk + len(data)
    blob = bytes(2 * chunk) + data
    peer = Peer()
    download = Download(blob_id(blob), size, expected=size)
    asked = [peer.start(download), peer.asked(), peer.asked()]
    assert [(message.fields["offset"], message.fields["length"]) for message in asked] == [
        (0, chunk),
        (chunk, chunk),
        (2 * chunk, len(data)),
    ]
    assert peer.session.outgoing() is None
    for message in reversed(asked):  # any order will do
        offset, length = message.fields["offset"], message.fields["length"]
        peer.answer(message, replies.Chunk(size, offset, length, data=blob[offset : offset + length]))
    assert (download.error, download.data) == (None, blob)


def test_chunks_for_which_the_hash_has_no_time_yet_are_hashed_at_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "HASHED_AS_THEY_CAME", 0)
    blob = bytes(range(90))
    peer = Peer()
    download = Download(blob_id(blob), len(blob), expected=len(blob))
    message = peer.start(download)
    peer.answer(message, replies.Chunk(len(blob), 0, len(blob), data=blob))
    assert (download.error, download.data) == (None, blob)


def test_a_blob_that_is_larger_than_expected_is_taken_up_to_the_limit() -> None:
    peer = Peer()
    download = Download(blob_id(bytes(200)), 200, expected=100)
    peer.answer(peer.start(download), replies.Chunk(200, 0, 100, data=bytes(100)))
    peer.answer(peer.asked(), replies.Chunk(200, 100, 100, data=bytes(100)))
    assert (download.error, download.data) == (None, bytes(200))


def test_a_job_answered_by_something_else_fails() -> None:
    peer = Peer()
    run = JobRun(JOB, EditRequest("a", "b"), {}, accepted=False)
    peer.answer(peer.start(run), replies.Pong("boot-1"))
    assert isinstance(run.error, SchemaError)


def test_a_job_is_not_disturbed_by_events_of_another_or_before_it_is_accepted() -> None:
    server = greeted()
    asked_by(server, "subscribe", job=JOB)
    peer = Peer()
    run = JobRun(JOB, EditRequest("a", "b"), {}, accepted=False)
    submit = peer.start(run)
    own, other = server.event(JOB, 1, Started()), server.event("1" * 32, 1, Started())
    assert own is not None
    assert other is not None
    peer.session.receive(own, 0.0)
    assert not run.events
    peer.answer(submit, replies.Accepted(JOB))
    peer.session.receive(other, 0.0)
    assert not run.events
    peer.session.receive(own, 0.0)
    assert list(run.events) == [(1, Started())]


def test_a_stored_without_an_upload_fails_the_job() -> None:
    peer = Peer()
    run = JobRun(JOB, EditRequest("a", "b"), {BLOB: b"x"}, accepted=False)
    peer.answer(peer.start(run), replies.Stored(BLOB, 1, True))
    assert isinstance(run.error, SchemaError)


@pytest.mark.parametrize("offset", [-1, 3, 10])
def test_an_upload_from_outside_the_blob_fails_the_job(offset: int) -> None:
    peer = Peer()
    run = JobRun(JOB, EditRequest("a", "b"), {BLOB: b"abc"}, accepted=False)
    peer.answer(peer.start(run), replies.Lacking({BLOB: offset}))
    assert isinstance(run.error, SchemaError)


@pytest.mark.parametrize(("received", "complete"), [(3, False), (2, True), (4, True), (-1, False)])
def test_an_answer_to_a_chunk_that_cannot_be_fails_the_job(received: int, complete: bool) -> None:
    peer = Peer()
    run = JobRun(JOB, EditRequest("a", "b"), {BLOB: b"abc"}, accepted=False)
    peer.answer(peer.start(run), replies.Lacking({BLOB: 0}))
    peer.answer(peer.asked(), replies.Stored(BLOB, received, complete))
    assert isinstance(run.error, SchemaError)


def test_a_cancel_that_is_answered_waits_for_the_last_event() -> None:
    peer = Peer()
    run = JobRun(JOB, None, {}, accepted=True)
    peer.answer(peer.start(run), replies.Subscribed(JOB, 0))
    run.cancel(peer.session)
    peer.answer(peer.asked(), replies.Okay())
    assert not run.finished


def test_a_run_that_begins_again_is_given_the_events_after_a_number() -> None:
    first = JobRun(JOB, EditRequest("a", "b"), {}, accepted=True, since=9)
    message = Peer().start(first.again(4))
    assert (message.type, message.fields["since"]) == ("subscribe", 4)


def test_a_refused_download_drops_what_else_it_asked() -> None:
    peer = Peer()
    download = Download(BLOB, 1000)
    peer.answer(peer.start(download), replies.Chunk(1000, 0, 100, data=bytes(100)))
    second = peer.asked()
    session = greeted()
    refused = Received(id=second.fields["id"])
    peer.session.receive(session.refuse(refused, NoBlobError("Gone.")), 0.0)
    assert isinstance(download.error, NoBlobError)
    assert peer.session.outgoing() is None
    assert peer.session.unanswered_since is None


class TestResultsWithoutAMask:
    """A description and suggestions have none. Clients and servers from before they said so still understand each
    other: such a client cannot read a manifest without a mask, such a server sends one that means nothing."""

    WORDS = Done(Manifest(None, Bounds(0, 0, 0, 0), 0.5, words=("a horse", "a pony")))

    def test_a_client_that_takes_none_is_sent_none(self) -> None:
        session = ServerSession(INFO)
        asked_by(session, "hello", versions=[1, 1], client="new", capabilities=[NO_MASK])
        frames = session.event(JOB, 1, self.WORDS)
        assert frames is not None
        assert read_event(decode(frames)).event == self.WORDS

    def test_an_older_client_is_sent_a_black_pixel_which_it_can_fetch(self) -> None:
        frames = greeted().event(JOB, 1, self.WORDS)
        assert frames is not None
        manifest = decode(frames).fields["manifest"]
        mask = PlaneRef(**manifest["mask"])  # what an older client demands
        assert (mask.width, mask.height) == (1, 1)
        assert unpack_plane(mask, BLACK_PIXEL_BYTES) == b"\0"
        assert manifest["words"] == ["a horse", "a pony"]

    def test_an_older_server_takes_the_clients_hello_and_its_black_pixel_is_read(self) -> None:
        session = ClientSession("new", loopback=True)
        session.link_up(0.0)
        frames = session.outgoing()
        assert frames is not None
        hello = decode(frames).fields
        assert set(hello) == {"id", "versions", "client", "capabilities"}  # fields of the first version
        older = {"mask": {"blob": BLOB, "width": 1, "height": 1, "packed": True}, "bounds": to_map(Bounds(0, 0, 0, 0))}
        manifest = Manifest.from_wire({**older, "threshold": 0.5, "words": ["a horse"]})
        assert manifest.words == ("a horse",)

    def test_a_mask_of_an_edit_is_sent_to_everyone(self) -> None:
        done = Done(Manifest(PlaneRef(BLOB, 2, 3), Bounds(0, 0, 0, 0), 0.5))
        frames = greeted().event(JOB, 1, done)
        assert frames is not None
        assert read_event(decode(frames)).event == done
