"""docs/protocol.md names everything that crosses the wire."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffedit_protocol import frames, messages, replies, requests
from diffedit_protocol.connection import Connection, KeyPair
from diffedit_protocol.errors import BY_CODE, InternalError
from diffedit_protocol.events import MAX_PREVIEW_SIDE, event_message
from diffedit_protocol.requests import CHUNK_ENCODINGS, PREVIEW_ENCODINGS
from diffedit_protocol.schema import layout
from diffedit_protocol.server_session import SUPPORTED_VERSIONS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
MESSAGES = {**requests.REQUESTS, **replies.REPLIES}
VALUES = (
    replies.ServerInfo,
    replies.Limits,
    replies.ModelInfo,
    replies.AdapterInfo,
    replies.JobInfo,
    messages.EditRequest,
    messages.Manifest,
    messages.PictureRef,
    messages.PlaneRef,
    messages.Bounds,
    messages.Adapter,
    messages.EditResult,
    messages.Queued,
    messages.Progress,
)


def row(kind: str) -> str:
    """The line of the table of messages that has `kind`."""
    return next(line for line in DOCUMENT.splitlines() if line.startswith("|") and f"| `{kind}` |" in line)


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=MESSAGES)
def test_every_message_has_a_row_with_all_its_fields(cls: type[requests.Request | replies.Reply]) -> None:
    for name in layout(cls).hints:
        assert f"`{name}`" in row(cls.TYPE)


@pytest.mark.parametrize("cls", VALUES, ids=lambda cls: cls.__name__)
def test_every_field_of_every_value_is_on_the_page(cls: type) -> None:
    for name in layout(cls).hints:
        assert f"`{name}`" in DOCUMENT


def test_codes_stages_encodings_and_error_fields_are_on_the_page() -> None:
    for code in BY_CODE:
        assert f"\n| {code} |" in DOCUMENT
    for name in (*messages.STAGES, *CHUNK_ENCODINGS, *InternalError("x").to_wire()):
        assert f"`{name}`" in DOCUMENT
    for name in (*messages.TASKS, *messages.QUALITIES, *messages.METHODS, *PREVIEW_ENCODINGS):
        assert name in DOCUMENT


def test_every_kind_of_event_is_on_the_page() -> None:
    manifest = messages.Manifest(messages.PlaneRef("0" * 64, 1, 1), messages.Bounds(0, 0, 0, 0), 0.5)
    for event in (
        messages.Queued(0),
        messages.Started(),
        messages.Progress("finding", 1, 1),
        messages.Preview(1, 1, b"rgb"),
        messages.Done(manifest),
        messages.Failed(InternalError("x")),
        messages.Cancelled(),
    ):
        fields = event_message("0" * 32, 1, event).fields
        assert f"`{fields['kind']}`" in DOCUMENT
        assert all(f"`{name}`" in DOCUMENT or f'"{name}"' in DOCUMENT for name in fields)


def test_versions_and_limits_on_the_page_are_those_of_the_code() -> None:
    assert SUPPORTED_VERSIONS == (1, 1)
    assert "# The protocol, version 1\n" in DOCUMENT
    assert frames.MAX_HEADER_BYTES == 65_536
    assert "65 536 bytes" in DOCUMENT
    assert frames.MAX_PAYLOAD_BYTES == 2 << 20
    assert "raw bytes, at most 2 MiB" in DOCUMENT
    assert f"at most {MAX_PREVIEW_SIDE} px wide" in DOCUMENT
    assert f"{messages.MAX_PROMPT_CHARACTERS:,} characters".replace(",", " ") in DOCUMENT


def test_a_connections_line_has_the_form_that_the_page_shows() -> None:
    connection = Connection.invite("tcp://gpu1:5599", KeyPair.generate().public, "anna")
    line = next(line for line in DOCUMENT.splitlines() if line.startswith("diffedit://"))
    assert [len(part) for part in connection.to_line().split("/")[3:]] == [43, 43 + len("?name=anna")]
    assert line.count("/") == connection.to_line().count("/")
