"""What the server tells of a job without being asked: numbered events, and previews.

    {"type": "event", "job": id, "seq": n, "kind": "progress", ...fields of messages.Progress}

Numbers count from 1 without a gap, so that a client sees at once that one is missing and subscribes again from the last
that it has. A preview has no number of its own (it carries that of the event before it): it alone may be dropped.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

from .encodings import FAST, PreviewEncoding, inflate
from .errors import SchemaError, bounded_error, error_from_wire
from .frames import Buffer, Message
from .messages import Cancelled, Done, Event, Failed, Manifest, Preview, Progress, Queued, Started
from .requests import check_job_id
from .schema import from_map, to_map

EVENT = "event"
MAX_PREVIEW_SIDE = 768  # px: 1.7 MiB of RGB, within one payload
_PLAIN: dict[str, type[Queued | Started | Progress | Cancelled]] = {
    "queued": Queued,
    "started": Started,
    "progress": Progress,
    "cancelled": Cancelled,
}
_KIND = {cls: kind for kind, cls in _PLAIN.items()}


@dataclass(frozen=True)
class JobEvent:
    """An event of `job`; `seq` is its number, for a preview that of the numbered event before it."""

    job: str
    seq: int
    event: Event


def event_message(job: str, seq: int, event: Event, *, previews: PreviewEncoding = "raw") -> Message:
    """The message that tells `event`; `previews` ("raw" or "zlib") is how a preview's pixels travel."""
    fields: dict[str, Any] = {"job": job, "seq": seq}
    if isinstance(event, Preview):
        if max(event.width, event.height) > MAX_PREVIEW_SIDE or len(event.rgb) != event.width * event.height * 3:
            raise ValueError(
                f"A preview is RGB and at most {MAX_PREVIEW_SIDE} px wide and high; "
                f"got {event.width} × {event.height} px in {len(event.rgb)} bytes."
            )
        data = zlib.compress(event.rgb, FAST) if previews == "zlib" else event.rgb
        return Message(
            EVENT,
            {**fields, "kind": "preview", "width": event.width, "height": event.height, "packed": previews == "zlib"},
            data,
        )
    if isinstance(event, Done):
        return Message(EVENT, {**fields, "kind": "done", "manifest": event.manifest.to_wire()})
    if isinstance(event, Failed):
        return Message(EVENT, {**fields, "kind": "failed", "error": bounded_error(event.error)})
    return Message(EVENT, {**fields, "kind": _KIND[type(event)], **to_map(event)})


def read_event(message: Message) -> JobEvent:
    """The event of a message of type "event". Raises SchemaError when it is ill-formed."""
    fields = dict(message.fields)
    job, seq, kind = fields.pop("job", None), fields.pop("seq", None), fields.pop("kind", None)
    if not isinstance(job, str) or type(seq) is not int or seq < 0:
        raise SchemaError("An event must name its job and its number.")
    check_job_id(job)
    return JobEvent(job, seq, _read(kind, fields, message.payload))


def _read(kind: Any, fields: dict[str, Any], payload: Buffer | None) -> Event:
    if kind == "preview":
        return _read_preview(fields, payload)
    if kind == "done":
        return Done(Manifest.from_wire(fields.get("manifest", {})))
    if kind == "failed":
        error = fields.get("error")
        return Failed(error_from_wire(error if isinstance(error, dict) else {}))
    if isinstance(kind, str) and kind in _PLAIN:
        return from_map(_PLAIN[kind], fields, lenient=True)
    raise SchemaError(f"There is no event of the kind {kind!r:.80}.")


@dataclass(frozen=True)
class _PreviewHeader:
    width: int
    height: int
    packed: bool = False


def _read_preview(fields: dict[str, Any], payload: Buffer | None) -> Preview:
    header = from_map(_PreviewHeader, fields, lenient=True)
    if not (1 <= header.width <= MAX_PREVIEW_SIDE and 1 <= header.height <= MAX_PREVIEW_SIDE) or payload is None:
        raise SchemaError(f"A preview of {header.width} × {header.height} px is no preview.")
    size = header.width * header.height * 3
    rgb = inflate(payload, size) if header.packed else bytes(payload)
    if len(rgb) != size:
        raise SchemaError(f"A preview of {header.width} × {header.height} px has {size} bytes, not {len(rgb)}.")
    return Preview(header.width, header.height, rgb)
