"""The head of a Ray cluster stops, with the bundled model: what the clients are told, and what they still get."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from backends import client_of, last_event
from diffedit_backend.cli.self_test import sample_edit
from diffedit_backend.server.private_backend import PrivateBackend
from diffedit_protocol.errors import BusyError
from diffedit_protocol.messages import MAX_VARIATIONS, Done, Failed, Started
from ray_clusters import HEAD_SOON, TOKEN, ray_head

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # Ray's start alone takes minutes on a busy machine


def test_a_stopped_head_is_told_clearly_and_results_that_were_made_can_still_be_fetched(tmp_path: Path) -> None:
    request, blobs = sample_edit(64)
    with ray_head(cpus=1) as head:
        where = ("--executor", "ray", "--ray-cpu-only", "--ray-address", head.address, "--ray-patience", "1")
        # The driver learns the token from its environment, as from a studio's ~/.ray/auth_token.
        with (
            PrivateBackend(tmp_path, ["--threads", "1", *where], environment={**TOKEN, **HEAD_SOON}) as backend,
            client_of(backend.connection) as client,
        ):
            finished = client.submit(request, blobs)
            done = last_event(client, finished, 120)
            assert isinstance(done, Done)
            running = client.submit(
                replace(request, quality="fine", method="paper", seed=5, variations=MAX_VARIATIONS), blobs
            )
            waiting = client.submit(replace(request, seed=6), blobs)
            assert any(isinstance(event, Started) for event in client.events(running))
            head.stop()
            for job in (running, waiting):
                event = last_event(client, job, 150)
                assert isinstance(event, Failed)
                assert event.error.sentence.startswith(f"The Ray cluster {head.address} does not answer")
            with pytest.raises(BusyError, match="can still be fetched"):
                client.submit(request, blobs)
            pixels = done.manifest.edits[0].pixels
            assert len(client.fetch(pixels)) == pixels.width * pixels.height * pixels.channels
