"""The values that cross the wire: what is taken, what is refused and in which words."""

from __future__ import annotations

import math
from typing import Any

import pytest
from diffedit_protocol import errors, requests
from diffedit_protocol.errors import DiffEditError, InternalError, SchemaError, error_from_wire
from diffedit_protocol.messages import (
    Adapter,
    Bounds,
    EditRequest,
    EditResult,
    Manifest,
    PictureRef,
    PlaneRef,
)
from diffedit_protocol.schema import from_map, to_map

BLOB = "0123456789abcdef" * 4
REQUEST = EditRequest(
    source="a horse",
    target="a zebra",
    picture=PictureRef(BLOB, 10, 20, 4),
    mask=PlaneRef(BLOB, 10, 20),
    threshold=0.25,
    adapters=(Adapter("ink", 0.5), Adapter("wash")),
)
MANIFEST = Manifest(
    mask=PlaneRef(BLOB, 10, 20),
    bounds=Bounds(1, 2, 3, 4),
    threshold=0.5,
    soft_map=PlaneRef(BLOB, 10, 20, packed=False),
    edits=(EditResult(7, PictureRef(BLOB, 3, 4, 4)),),
    seconds={"finding": 1.5},
    notes=(("FLAGGED", "A sentence."),),
    ground=True,
)


def test_a_request_and_a_manifest_come_back_as_they_were() -> None:
    assert EditRequest.from_wire(REQUEST.to_wire()) == REQUEST
    assert Manifest.from_wire(MANIFEST.to_wire()) == MANIFEST


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": 3}, "EditRequest.source must be str, not 3."),
        ({"source": "x" * 4001}, "source must be at most 4000 characters"),
        ({"task": "paint"}, "task must be one of mask, edit, describe, suggest, not 'paint'."),
        ({"quality": "best"}, "quality must be one of draft, normal, fine, not 'best'."),
        ({"method": "magic"}, "method must be one of fast, paper, reference, align, not 'magic'."),
        ({"threshold": 1.0}, "threshold must be between 0 and 1, or empty for automatic, not 1.0."),
        ({"threshold": math.nan}, "EditRequest.threshold must be float, not nan."),
        ({"threshold": True}, "EditRequest.threshold must be float, not True."),
        ({"strength": 0}, "strength must be above 0 and at most 1, not 0.0."),
        ({"guidance": 51}, "guidance must be 0 to 50, not 51.0."),
        ({"grow": 5000}, "grow must be -4096 to 4096 px, not 5000."),
        ({"grow": 1.5}, "EditRequest.grow must be int, not 1.5."),
        ({"feather": -1}, "feather must be 0 to 4096 px, not -1."),
        ({"seed": -1}, "seed must be 0 to 4294967295, not -1."),
        ({"variations": 0}, "variations must be 1 to 16, not 0."),
        ({"preview": 1}, "EditRequest.preview must be bool, not 1."),
        ({"speed": 1}, "EditRequest has no field 'speed'."),
        ({"picture": []}, "PictureRef must be a map, not list."),
        ({"picture": {"blob": BLOB, "width": 1}}, "PictureRef lacks the field 'height'."),
        ({"picture": {"blob": BLOB, "width": 0, "height": 1, "channels": 3}}, "A picture must be 1 to 65535 px"),
        (
            {"picture": {"blob": BLOB, "width": 1, "height": 1, "channels": 2}},
            "has 3 (RGB) or 4 (RGBA) channels, not 2.",
        ),
        ({"picture": {"blob": "../x", "width": 1, "height": 1, "channels": 3}}, "A blob is named by 64"),
        ({"mask": {"blob": BLOB, "width": 1, "height": 65536}}, "A plane must be 1 to 65535 px"),
        ({"adapters": "ink"}, "EditRequest.adapters must be tuple"),
        ({"adapters": [{"name": "../../etc/passwd"}]}, "An adapter is named without a path"),
        ({"adapters": [{"name": "a\\b"}]}, "An adapter is named without a path"),
        ({"adapters": [{"name": ".hidden"}]}, "An adapter is named without a path"),
        ({"adapters": [{"name": ""}]}, "An adapter is named without a path"),
        ({"adapters": [{"name": "ink", "weight": 5}]}, "The weight of adapter 'ink' must be -4 to 4, not 5.0."),
    ],
)
def test_a_bad_field_is_named_with_its_value(change: dict[str, Any], words: str) -> None:
    with pytest.raises(SchemaError) as caught:
        EditRequest.from_wire({**REQUEST.to_wire(), **change})
    assert words in caught.value.sentence


@pytest.mark.parametrize(
    "change",
    [
        {"notes": [["one", "two", "three"]]},
        {"notes": [[1, 2]]},
        {"seconds": {"finding": "long"}},
        {"seconds": {1: 2.0}},
        {"bounds": None},
    ],
)
def test_a_bad_manifest_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        Manifest.from_wire({**MANIFEST.to_wire(), **change})


def test_a_request_without_an_automatic_grow_and_a_manifest_of_an_older_backend_say_nothing_of_a_ground() -> None:
    assert "automatic_grow" not in REQUEST.to_wire()
    assert EditRequest("a", "b", automatic_grow=True).to_wire()["automatic_grow"] is True
    fields = MANIFEST.to_wire()
    del fields["ground"]
    assert not Manifest.from_wire(fields).ground


def test_a_manifest_may_hold_more_than_this_version_knows() -> None:
    assert Manifest.from_wire({**MANIFEST.to_wire(), "colour": "blue"}) == MANIFEST


def test_what_is_no_map_is_refused() -> None:
    with pytest.raises(SchemaError, match="EditRequest must be a map, not list"):
        from_map(EditRequest, [])


def test_a_refused_value_is_repeated_in_few_words() -> None:
    deep: Any = "x" * 10_000
    for _ in range(400):
        deep = [deep, deep]
    with pytest.raises(SchemaError) as caught:
        EditRequest.from_wire({**REQUEST.to_wire(), "seed": deep})
    assert len(caught.value.sentence) < 300


def test_bounds_without_area_are_empty() -> None:
    assert Bounds(3, 3, 0, 5).empty
    assert Bounds(3, 3, 5, 0).empty
    assert not Bounds(3, 3, 1, 1).empty


def test_references_tell_their_raw_size() -> None:
    assert PictureRef(BLOB, 10, 20, 4).size == 800
    assert PlaneRef(BLOB, 10, 20).size == 200


@pytest.mark.parametrize("cls", errors.BY_CODE.values(), ids=errors.BY_CODE)
def test_every_error_comes_back_as_itself(cls: type[DiffEditError]) -> None:
    error = cls("A sentence.", detail="more", retry_after=2.5)
    back = error_from_wire(error.to_wire())
    assert type(back) is cls
    assert vars(back) == vars(error)


def test_an_unknown_or_broken_error_keeps_what_can_be_read() -> None:
    strange = error_from_wire({"code": "NEW", "sentence": "From the future.", "retryable": True, "retry_after": "soon"})
    assert isinstance(strange, InternalError)
    assert (strange.sentence, strange.retryable, strange.retry_after) == ("From the future.", True, None)
    assert error_from_wire({"code": ["OOM"]}).sentence == "The backend reported an error without a text."


JOB = "0" * 32


@pytest.mark.parametrize(
    "request_",
    [
        requests.Hello((1, 2), "test", ("a",)),
        requests.Have((BLOB,)),
        requests.Put(BLOB, 10, 0, 10),
        requests.Get(BLOB, 0, 10, "delta4"),
        requests.Submit(JOB, REQUEST),
        requests.Subscribe(JOB, 3, "zlib"),
        requests.Cancel(JOB),
        requests.Ack(JOB),
        requests.Ping(),
        requests.Status(),
        requests.Jobs(),
    ],
    ids=lambda request: request.TYPE,
)
def test_every_request_comes_back_as_it_was(request_: requests.Request) -> None:
    assert from_map(type(request_), to_map(request_)) == request_


@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        (requests.Hello, {"versions": [2, 1], "client": "x"}),
        (requests.Hello, {"versions": [0, 1], "client": "x"}),
        (requests.Hello, {"versions": [1, 1], "client": "line\nbreak"}),
        (requests.Hello, {"versions": [1, 1], "client": "x" * 201}),
        (requests.Hello, {"versions": [1], "client": "x"}),
        (requests.Have, {"blobs": [BLOB] * 257}),
        (requests.Have, {"blobs": ["/etc/passwd"]}),
        (requests.Put, {"blob": BLOB, "size": 10, "offset": 5, "length": 6}),
        (requests.Put, {"blob": BLOB, "size": 10, "offset": -1, "length": 6}),
        (requests.Put, {"blob": BLOB, "size": 10, "offset": 0, "length": 0}),
        (requests.Put, {"blob": BLOB, "size": 10, "offset": 0, "length": 5, "encoding": "lzma"}),
        (requests.Put, {"blob": "x", "size": 10, "offset": 0, "length": 5}),
        (requests.Get, {"blob": "x", "offset": 0, "length": 5}),
        (requests.Submit, {"job": "x", "request": REQUEST.to_wire()}),
        (requests.Submit, {"job": JOB.upper().replace("0", "A"), "request": REQUEST.to_wire()}),
        (requests.Subscribe, {"job": JOB, "since": -1}),
        (requests.Subscribe, {"job": JOB, "previews": "jpeg"}),
        (requests.Subscribe, {"job": "x"}),
        (requests.Cancel, {"job": JOB + "\n"}),
        (requests.Ack, {"job": "../" + JOB}),
        (requests.Ping, {"more": 1}),
    ],
)
def test_a_bad_request_is_refused(cls: type[Any], fields: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        from_map(cls, fields)


def test_free_values_become_plain_ones_and_what_has_no_plain_form_is_left_for_the_packer_to_refuse() -> None:
    thing = object()
    assert to_map({"a": (1, [Bounds(1, 2, 3, 4)]), "b": thing}) == {
        "a": [1, [{"x": 1, "y": 2, "width": 3, "height": 4}]],
        "b": thing,
    }


def test_job_ids_do_not_repeat() -> None:
    ids = {requests.new_job_id() for _ in range(1000)}
    assert len(ids) == 1000
    for job in ids:
        requests.check_job_id(job)


def test_a_request_without_blend_is_one_that_an_older_backend_reads_and_one_with_it_comes_back() -> None:
    assert "blend" not in EditRequest("a", "b").to_wire()
    for wish in (True, False):
        asked = EditRequest("a", "b", blend=wish)
        assert asked.to_wire()["blend"] is wish
        assert EditRequest.from_wire(asked.to_wire()) == asked
