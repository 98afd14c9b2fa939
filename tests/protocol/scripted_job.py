"""What the tests of jobs over a link in memory share: the events of a job, and the worker that tells them."""

from __future__ import annotations

from diffedit_protocol.blobs import pack_plane
from diffedit_protocol.job_run import JobRun
from diffedit_protocol.messages import (
    Bounds,
    Done,
    EditRequest,
    Event,
    Manifest,
    Preview,
    Progress,
    Started,
)
from faulty_link import World

Edit = tuple[EditRequest, dict[str, bytes]]


MASK, MASK_BLOB = pack_plane(bytes(range(200)), 20, 10)


SCRIPT: tuple[Event, ...] = (
    Started(),
    Progress("encoding", 1, 1),
    Progress("finding", 1, 2, 3.5),
    Progress("finding", 2, 2, 2.5),
    Progress("editing", 1, 1, 0.5),
    Done(Manifest(MASK, Bounds(1, 2, 3, 4), 0.5, seconds={"finding": 1.0}, notes=(("CODE", "A sentence."),))),
)


def play(world: World) -> None:
    """The worker: every job gets the next event of the script now and then, with a preview in between."""
    world.server.blobs.setdefault(MASK.blob, MASK_BLOB)
    for name, job in world.server.jobs.items():
        if not job.ended and world.random.random() < 0.3:
            world.server.send_event(name, Preview(1, 1, b"rgb"))
            if not job.ended:
                world.server.send_event(name, SCRIPT[len(job.log) - 1])


def drain(run: JobRun) -> list[Event]:
    """What the run gathered, previews left out."""
    events = [event for _, event in run.events if not isinstance(event, Preview)]
    run.events.clear()
    return events
