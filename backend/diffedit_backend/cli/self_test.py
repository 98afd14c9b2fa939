"""One small edit there and back, timed: what `diffedit doctor` and the wire benchmark measure an edit with."""

from __future__ import annotations

import time
from dataclasses import dataclass

from diffedit_protocol.blobs import pack_picture, pack_plane
from diffedit_protocol.client import Client
from diffedit_protocol.errors import InternalError
from diffedit_protocol.messages import Done, EditRequest, Failed, Manifest


@dataclass(frozen=True)
class RoundTrip:
    """Seconds of each part, as the client sees them; `stages` as the engine tells them."""

    submit: float
    run: float
    fetch: float
    stages: dict[str, float]

    @property
    def total(self) -> float:
        return self.submit + self.run + self.fetch

    @property
    def transport(self) -> float:
        """What was not spent in the engine."""
        return self.total - sum(self.stages.values())


def sample_edit(side: int, shade: int = 128) -> tuple[EditRequest, dict[str, bytes]]:
    """An edit of a square picture with soft gradients, and its blobs. A mask is given: the edit cannot find nothing.

    Another `shade` (0 to 255) makes another picture.
    """
    ramp = bytes(index * 255 // max(1, side - 1) for index in range(side))
    rows = [bytes(value for x in range(side) for value in (ramp[x], ramp[y], shade)) for y in range(side)]
    picture, pixels = pack_picture(b"".join(rows), side, side, 3)
    inside = bytes(255 if side // 4 <= x < 3 * side // 4 else 0 for x in range(side))
    mask, plane = pack_plane(
        b"".join(inside if side // 4 <= y < 3 * side // 4 else bytes(side) for y in range(side)), side, side
    )
    request = EditRequest("a horse on grass", "a zebra on grass", picture=picture, mask=mask, quality="draft")
    return request, {picture.blob: pixels, mask.blob: plane}


def round_trip(client: Client, request: EditRequest, blobs: dict[str, bytes]) -> RoundTrip:
    """Run one edit and fetch its result. Raises the error that it failed with."""
    started = time.perf_counter()
    job = client.submit(request, blobs)
    submitted = time.perf_counter()
    manifest = _manifest(client, job)
    done = time.perf_counter()
    for ref in (manifest.mask, manifest.soft_map, *(edit.pixels for edit in manifest.edits)):
        if ref is not None:
            client.fetch(ref)
    client.ack(job)
    return RoundTrip(submitted - started, done - submitted, time.perf_counter() - done, dict(manifest.seconds))


def _manifest(client: Client, job: str) -> Manifest:
    for event in client.events(job):
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Done):
            return event.manifest
    raise InternalError("The self-test's job was cancelled by someone.")
