"""One real Krita for all tests of this folder: start-up dominates.

    def test_something(krita, tmp_path):
        def inside(stage, path):          # runs on Krita's main thread, see RemoteKrita.run
            document = yield from stage.new(64, 64)
            ...
        assert krita.run(inside, path=tmp_path / "out.kra") == ...

Each test starts with every document closed. A Krita that a test took down is started anew for the next one. Where
Krita or Xvfb are missing, every test here fails with the sentence that says what to install: nothing is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from diffedit_backend.krita.install import PLUGIN
from diffedit_krita_driver.display import Xvfb
from diffedit_krita_driver.remote import RemoteKrita, fresh_profile


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.krita)


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """A virtual screen of 1400 × 900 px."""
    with Xvfb() as name:
        yield name


@pytest.fixture(scope="session")
def start_krita(display: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RemoteKrita]]:
    """Starts a Krita with the plugin in a fresh profile; it is ended with the session at the latest."""
    started: list[RemoteKrita] = []

    def start(**options: object) -> RemoteKrita:
        profile = fresh_profile(tmp_path_factory.mktemp("krita"), display)
        started.append(RemoteKrita(profile, display, **{"plugins": [(None, PLUGIN)], **options}))
        return started[-1]

    yield start
    for krita in started:
        krita.stop()


class _SharedKrita:
    """The Krita that the tests share, started when it is first asked for, and again when it is gone."""

    def __init__(self, start: Callable[..., RemoteKrita]) -> None:
        self._start = start
        self._running: RemoteKrita | None = None

    def clean(self) -> RemoteKrita:
        if self._running is None or self._running.process.exit_code() is not None:
            self._running = self._start()

        def close_all(stage):
            yield from stage.close_all()

        self._running.run(close_all)
        return self._running


@pytest.fixture(scope="session")
def shared_krita(start_krita: Callable[..., RemoteKrita]) -> _SharedKrita:
    return _SharedKrita(start_krita)


@pytest.fixture
def krita(shared_krita: _SharedKrita) -> RemoteKrita:
    """The shared Krita with no document open."""
    return shared_krita.clean()
