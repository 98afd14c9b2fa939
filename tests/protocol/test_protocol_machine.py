"""The whole protocol as a state machine: whatever happens in whatever order, no event is lost, doubled or swapped."""

from __future__ import annotations

from diffedit_protocol.blobs import blob_id
from diffedit_protocol.errors import NoBlobError, UnknownJobError, WorkerDiedError
from diffedit_protocol.job_run import JobRun
from diffedit_protocol.messages import (
    FINAL_EVENTS,
    Bounds,
    Cancelled,
    Done,
    EditRequest,
    Event,
    Failed,
    Manifest,
    PictureRef,
    PlaneRef,
    Preview,
    Progress,
)
from diffedit_protocol.operations import Download
from diffedit_protocol.requests import new_job_id
from faulty_link import Faults, World
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

MASK = PlaneRef("0" * 64, 1, 1)
ENDS = (Done(Manifest(MASK, Bounds(0, 0, 0, 0), 0.5)), Failed(WorkerDiedError("The backend had to restart its model.")))


def comparable(event: Event) -> object:
    """Errors are equal when they say the same."""
    return event.error.to_wire() if isinstance(event, Failed) else event


class Reader:
    """Reads one run as the plugin would, and checks every number as it comes."""

    def __init__(self, run: JobRun) -> None:
        self.run = run
        self.events: list[Event] = []

    def read(self) -> None:
        while self.run.events:
            number, event = self.run.events.popleft()
            if isinstance(event, Preview):
                continue
            if number == 1:  # the first, or a server that had forgotten
                self.events.clear()
            assert number == len(self.events) + 1
            self.events.append(event)


class WholeProtocol(RuleBasedStateMachine):
    """Artist, link, server and worker, each free to act at any time."""

    jobs = Bundle("jobs")
    blobs = Bundle("blobs")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.readers: dict[str, Reader] = {}
        self.downloads: list[Download] = []
        self.steps = 0

    @rule(target=jobs, data=st.binary(min_size=3, max_size=600))
    def the_artist_submits_a_job(self, data: bytes) -> str:
        pixels = data[: len(data) // 3 * 3]
        picture = PictureRef(blob_id(pixels), len(pixels) // 3, 1, 3)
        run = JobRun(new_job_id(), EditRequest("a", "b", picture=picture), {picture.blob: pixels}, accepted=False)
        self.readers[run.job] = Reader(run)
        self.world.client.start(run, self.world.now)
        return run.job

    @rule(job=jobs)
    def the_artist_cancels(self, job: str) -> None:
        run = self.readers[job].run
        if not run.finished:
            run.cancel(self.world.client)

    @rule(job=jobs)
    def the_worker_makes_a_step(self, job: str) -> None:
        if job in self.world.server.jobs and not self.world.server.jobs[job].ended:
            self.steps += 1
            self.world.server.send_event(job, Progress("finding", self.steps, self.steps))

    @rule(job=jobs)
    def the_worker_shows_a_preview(self, job: str) -> None:
        if job in self.world.server.jobs and not self.world.server.jobs[job].ended:
            self.world.server.send_event(job, Preview(1, 1, b"rgb"))

    @rule(job=jobs, end=st.sampled_from(ENDS))
    def the_worker_ends_the_job(self, job: str, end: Event) -> None:
        if job in self.world.server.jobs and not self.world.server.jobs[job].ended:
            self.world.server.send_event(job, end)

    @rule(target=blobs, data=st.binary(min_size=1, max_size=500))
    def the_server_has_a_result(self, data: bytes) -> str:
        self.world.server.blobs[blob_id(data)] = data
        return blob_id(data)

    @rule(blob=blobs)
    def the_artist_fetches_a_result(self, blob: str) -> None:
        self.downloads.append(Download(blob, 500))
        self.world.client.start(self.downloads[-1], self.world.now)

    @rule(chances=st.tuples(*[st.sampled_from([0.0, 0.0, 0.3])] * 2), delay=st.sampled_from([0.0, 0.0, 0.5]))
    def the_link_gets_worse_or_better(self, chances: tuple[float, float], delay: float) -> None:
        self.world.faults = Faults(*chances, delay)

    @rule()
    def the_link_is_cut(self) -> None:
        self.world.cut()

    @rule(keep=st.booleans())
    def the_server_is_restarted(self, keep: bool) -> None:
        self.world.restart(keep=keep)

    @rule()
    def the_server_drops_its_blobs(self) -> None:
        self.world.server.blobs.clear()

    @rule(turns=st.integers(1, 60))
    def time_goes_by(self, turns: int) -> None:
        for _ in range(turns):
            self.world.turn()

    @invariant()
    def what_was_read_is_what_the_server_sent(self) -> None:
        for job, reader in self.readers.items():
            reader.read()
            read = [comparable(event) for event in reader.events]
            if reader.run.cancelling and read[-1:] == [Cancelled()]:
                read.pop()  # the client says so itself where the server no longer can
            lives = [[comparable(e) for e in life.log] for life in self.world.server.history.get(job, [])]
            assert not read or any(life[: len(read)] == read for life in lives)

    def teardown(self) -> None:
        """In the end the link is good and the worker does its work: everything comes to an end."""
        self.world.faults = Faults()

        def work() -> None:
            for job, entry in self.world.server.jobs.items():
                if not entry.ended:
                    self.world.server.send_event(job, ENDS[0])

        def ended() -> bool:
            done = all(r.run.finished for r in self.readers.values()) and all(d.finished for d in self.downloads)
            return done and self.world.client.ready and self.world.client.unanswered_since is None

        self.world.run(ended, each=work)
        self.what_was_read_is_what_the_server_sent()
        for reader in self.readers.values():
            assert reader.run.error is None or isinstance(reader.run.error, (NoBlobError, UnknownJobError))
            if reader.run.error is None:
                assert isinstance(reader.events[-1], FINAL_EVENTS)
                assert sum(isinstance(event, FINAL_EVENTS) for event in reader.events) == 1
        for download in self.downloads:
            if download.error is None:
                assert blob_id(download.data) == download.blob
            else:
                assert isinstance(download.error, NoBlobError)
        assert set(self.world.server.jobs) <= set(self.readers)
        assert self.world.client.outgoing() is None


WholeProtocol.TestCase.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
test_nothing_is_lost_doubled_or_swapped_whatever_happens = WholeProtocol.TestCase
