"""The stand-in behaves as Krita does; `tests/krita/test_behaviours.py` runs the same behaviours in the real one."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import fake_krita
import krita_behaviours
import pytest

BEHAVIOURS = [f for _, f in inspect.getmembers(krita_behaviours, inspect.isgeneratorfunction)]


class FakeStage:
    """The part of the driver's Stage that behaviours use."""

    def __init__(self, krita: fake_krita.Krita) -> None:
        self.app = krita

    def new(self, width: int, height: int):  # type: ignore[no-untyped-def]
        document = self.app.createDocument(width, height, "sheet", *fake_krita.SRGB, 120.0)
        self.app.setActiveDocument(document)
        yield 0
        return document


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda f: f.__name__)
def test_the_stand_in_behaves_as_krita_does(behaviour: Callable[..., object], krita: fake_krita.Krita) -> None:
    for _ in behaviour(FakeStage(krita)):  # type: ignore[attr-defined]
        pass


def test_at_least_fifteen_behaviours_are_compared() -> None:
    assert len(BEHAVIOURS) >= 15
