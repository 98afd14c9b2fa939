"""What `diffedit serve --executor ray` asks of a Ray cluster, and what it refuses to ask."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest
from diffedit_backend.cli import serve
from diffedit_backend.executors.ray_pool import ENVIRONMENT, RayPool
from diffedit_backend.executors.worker_slot import Timeouts
from diffedit_protocol.errors import BadInputError

Make = Callable[..., RayPool]


@pytest.fixture
def pool_of() -> Iterator[Make]:
    """pool_of(*words) -> the pool of that command line, not started."""
    with ExitStack() as stack:

        def make(*words: str) -> RayPool:
            parser = argparse.ArgumentParser()
            serve.add_arguments(parser)
            args = parser.parse_args(["--executor", "ray", *words])
            pool = serve._ray_pool(args, {"threads": 1}, Timeouts())
            stack.callback(partial(pool.close, 0.0))
            return pool

        yield make


def test_a_cluster_of_its_own_stays_on_this_machine_without_a_dashboard(pool_of: Make) -> None:
    setup = pool_of("--workers", "3")._setup
    assert (setup.address, setup.node_ip) == ("", "127.0.0.1")
    assert setup.options["include_dashboard"] is False
    assert (setup.gpus, setup.configuration["device"]) == (1, "auto")


def test_a_cluster_that_is_there_is_joined_with_the_address_that_was_given_or_that_ray_finds(pool_of: Make) -> None:
    found = pool_of("--ray-address", "10.0.0.1:6379")._setup
    assert (found.address, found.node_ip, dict(found.options)) == ("10.0.0.1:6379", "", {})
    given = pool_of("--ray-address", "10.0.0.1:6379", "--ray-node-ip", "10.0.0.2")._setup
    assert given.node_ip == "10.0.0.2"


def test_every_actor_asks_for_one_gpu_or_for_one_core(pool_of: Make) -> None:
    assert len(pool_of("--workers", "3").slots) == 3
    setup = pool_of("--ray-cpu-only", "--workers", "2")._setup
    assert (setup.gpus, setup.cpus, setup.configuration["device"]) == (0, 1, "cpu")


def test_ray_is_told_to_demand_the_token_and_to_send_no_statistics() -> None:
    assert ENVIRONMENT["RAY_AUTH_MODE"] == "token"
    assert ENVIRONMENT["RAY_USAGE_STATS_ENABLED"] == "0"


def test_what_no_cluster_can_be_asked_is_refused(pool_of: Make) -> None:
    with pytest.raises(BadInputError) as refused:
        pool_of("--ray-address", "ray://10.0.0.1:10001")
    assert refused.value.sentence.startswith("--ray-address is 'ray://10.0.0.1:10001'; give HOST:PORT")
