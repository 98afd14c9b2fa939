"""Which job begins next, and where: affinity, its limit, and fairness between clients."""

from __future__ import annotations

from diffedit_backend.executors.routing import REMEMBERED, Router
from diffedit_backend.server.fair_queue import FairQueue

IDLE, BUSY = 0, 1


def test_a_picture_goes_to_the_worker_that_had_it() -> None:
    router = Router()
    router.remember("b", "horse")
    assert router.assign(["horse"], {"a": IDLE, "b": IDLE}) == (0, "b")


def test_a_new_picture_goes_to_the_idle_worker_that_holds_least() -> None:
    router = Router()
    router.remember("a", "horse")
    assert router.assign(["car"], {"a": IDLE, "b": IDLE}) == (0, "b")


def test_a_job_waits_for_its_busy_worker_while_another_is_idle() -> None:
    router = Router()
    router.remember("a", "horse")
    assert router.assign(["horse"], {"a": BUSY, "b": IDLE}) is None


def test_a_worker_that_is_two_jobs_behind_loses_its_picture_to_an_idle_one() -> None:
    router = Router()
    router.remember("a", "horse")
    assert router.assign(["horse", "horse"], {"a": BUSY, "b": IDLE}) == (1, "b")


def test_without_affinity_the_least_busy_worker_is_taken() -> None:
    router = Router(behind=0)
    router.remember("a", "horse")
    assert router.assign(["horse"], {"a": BUSY, "b": IDLE}) == (0, "b")
    assert router.assign(["horse"], {"a": IDLE, "b": IDLE}) == (0, "b")


def test_no_job_begins_while_no_worker_is_idle() -> None:
    assert Router().assign(["horse"], {"a": BUSY}) is None
    assert Router().assign(["horse"], {}) is None


def test_a_worker_that_ended_holds_nothing_and_the_oldest_picture_is_forgotten_first() -> None:
    router = Router()
    for number in range(REMEMBERED + 1):
        router.remember("a", str(number))
    assert not router.holds("a", "0")
    assert router.holds("a", "1")
    router.forget("a")
    assert not router.holds("a", "1")


def test_a_client_that_was_served_out_of_turn_is_served_last() -> None:
    queue: FairQueue[str] = FairQueue()
    for client, entry in (("anna", "a1"), ("anna", "a2"), ("ben", "b1"), ("carl", "c1")):
        queue.add(client, entry)
    queue.take("anna", "a2")
    assert list(queue) == ["b1", "c1", "a1"]


def test_an_entry_that_is_put_back_is_next_before_everyone_elses() -> None:
    queue: FairQueue[str] = FairQueue()
    for client, entry in (("anna", "a1"), ("ben", "b1"), ("ben", "b2")):
        queue.add(client, entry)
    taken = queue.next()
    assert taken == "a1"
    queue.put_back("anna", taken)
    assert list(queue) == ["a1", "b1", "b2"]
