"""Makes the protocol package importable, with the pyzmq and msgpack that it needs.

Krita's bundled Pythons have neither and no pip, so the installed plugin carries all three under `_vendor/`:

    _vendor/diffedit_protocol/    always taken, so that plugin and protocol are of one version
    _vendor/msgpack/              pure Python
    _vendor/zmq-TAG/              one pyzmq per system and Python; TAG as in its wheel's name

A pyzmq or msgpack of the system (a Linux distribution's) is preferred. In a checkout there is no `_vendor/`, and the
package is found as any other, or in the folder that DIFFEDIT_PROTOCOL_PATH names.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

VENDOR = Path(__file__).resolve().parent / "_vendor"
PROTOCOL = "diffedit_protocol"
OLDEST_ZMQ = (24, 0)


class MissingPartError(ImportError):
    """A part that the plugin needs is not there; the text says which and what to do."""


def prepare() -> None:
    """Imports zmq, msgpack and diffedit_protocol from where they are. Raises MissingPartError."""
    _import_zmq()
    _import_vendored("msgpack", VENDOR)
    if (VENDOR / PROTOCOL).is_dir():
        _import_vendored_package(PROTOCOL)
    else:
        _import_vendored(PROTOCOL, Path(os.environ.get("DIFFEDIT_PROTOCOL_PATH", VENDOR)))


def zmq_folder(system: str, machine: str, python: tuple[int, int]) -> str:
    """The name of the vendored folder whose pyzmq fits.

    `system` is `platform.system()`, `machine` `platform.machine()`. The abi3 wheel serves Python 3.12 and newer.
    """
    tag = "cp312-abi3" if python >= (3, 12) else f"cp{python[0]}{python[1]}"
    place = {"Windows": "win_amd64", "Darwin": "macosx"}.get(system, f"{system.lower()}_{machine}")
    return f"zmq-{tag}-{place}"


def _import_zmq() -> None:
    folder = VENDOR / zmq_folder(platform.system(), platform.machine(), sys.version_info[:2])
    zmq = _import_vendored("zmq", folder)
    if zmq.pyzmq_version_info()[:2] < OLDEST_ZMQ or not zmq.has("curve"):
        raise MissingPartError(
            f"The pyzmq {zmq.pyzmq_version()} of this system is too old or cannot encrypt; "
            f"{OLDEST_ZMQ[0]}.{OLDEST_ZMQ[1]} or newer with CURVE is needed. Update python3-zmq."
        )


def _import_vendored(name: str, folder: Path) -> ModuleType:
    """The system's module `name`, else the one in `folder`, which is on the path during the import only."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
    with _on_path(folder):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise MissingPartError(
                f"Python {platform.python_version()} of this Krita finds no module '{name}' (looked in {folder} too). "
                "Install the plugin from its zip, or on Debian and Ubuntu: "
                "sudo apt-get install python3-zmq python3-msgpack"
            ) from error


def _import_vendored_package(name: str) -> None:
    """Imports `_vendor/name` under its own top-level name, even where the system has another version of it."""
    for loaded in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
        if not str(getattr(sys.modules[loaded], "__file__", "")).startswith(str(VENDOR)):
            del sys.modules[loaded]
    if name in sys.modules:
        return
    folder = VENDOR / name
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise MissingPartError(f"'{folder}' is missing. Install the plugin anew from its zip.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
