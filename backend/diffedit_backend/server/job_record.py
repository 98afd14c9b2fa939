"""What is kept of a finished job besides its pixels, so that a restarted server can tell of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgpack
from diffedit_protocol.errors import SchemaError
from diffedit_protocol.events import event_message, read_event
from diffedit_protocol.frames import Message
from diffedit_protocol.messages import Event
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
