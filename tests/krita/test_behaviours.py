"""The behaviours that the stand-in of tests/plugin was written by, in the real Krita."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path

import pytest
from diffedit_krita_driver.remote import RemoteKrita

_SPEC = importlib.util.spec_from_file_location(
    "krita_behaviours", Path(__file__).parents[1] / "plugin" / "krita_behaviours.py"
)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
BEHAVIOURS = [f for _, f in inspect.getmembers(_MODULE, inspect.isgeneratorfunction)]


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda f: f.__name__)
def test_krita_behaves_as_its_stand_in_does(behaviour, krita: RemoteKrita) -> None:
    krita.run(behaviour)
