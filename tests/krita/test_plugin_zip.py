"""The plugin's zip: through Krita's own importer into an empty profile, and to an edit with nothing else.

The vendored pyzmq is imported by every Python out of PYTHONS that is on this machine. For the others, and for Windows
and macOS, only the loader's choice of folder is tested.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from diffedit_backend.krita.install import plugin_source
from diffedit_backend.krita.plugin_zip import TARGETS, build
from diffedit_krita_driver.remote import RemoteKrita

PLUGIN = "diffedit"
# Of Krita 5.2, Debian 12, Krita 5.3 and 6; 3.12 is the oldest that the abi3 wheel is for.
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def interpreter(version: str) -> str | None:
    """A Python of that version on this machine: on the PATH, or one of pyenv's."""
    kept = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python"))
    # pyenv's commands on the PATH stand for versions that may not be chosen; its own folders are real.
    return str(kept[-1]) if kept else shutil.which(f"python{version}")


@pytest.fixture(scope="session")
def plugin_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip as `make plugin` builds it."""
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def imported(
    plugin_zip: Path, shared_krita: Callable[..., RemoteKrita], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An empty resource folder after Krita's own importer, run by a Krita, was given the zip."""
    resources = tmp_path_factory.mktemp("resources")

    def run_importer(stage, archive, folder):
        from plugin_importer.plugin_importer import PluginImporter

        def no_older_plugin(plugin):
            raise AssertionError(f"The folder was empty, but the importer found {plugin}.")

        yield 0
        return [plugin["name"] for plugin in PluginImporter(archive, folder, no_older_plugin).import_all()]

    assert shared_krita.clean().run(run_importer, archive=plugin_zip, folder=resources) == [PLUGIN]
    return resources


def test_kritas_importer_unpacks_every_file_of_the_zip_and_nothing_else(plugin_zip: Path, imported: Path) -> None:
    with zipfile.ZipFile(plugin_zip) as archive:
        inside = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    expected = {f"pykrita/{name}": data for name, data in inside.items() if not name.endswith(".action")}
    expected[f"actions/{PLUGIN}.action"] = inside[f"{PLUGIN}.action"]
    files = {str(f.relative_to(imported)): f.read_bytes() for f in imported.rglob("*") if f.is_file()}
    assert files == expected
    for name in ("Manual.html", "__init__.py", "_vendor/diffedit_protocol/client.py", "_vendor/msgpack/fallback.py"):
        assert (imported / "pykrita" / PLUGIN / name).is_file()


def test_the_zip_holds_pyzmq_for_every_system_and_no_compiled_msgpack(plugin_zip: Path) -> None:
    with zipfile.ZipFile(plugin_zip) as archive:
        names = archive.namelist()
    for target in TARGETS:
        ending = ".pyd" if "win" in target.tag else ".so"
        folder = f"{PLUGIN}/_vendor/zmq-{target.tag}/zmq/backend/"
        assert any(name.startswith(folder) and name.endswith(ending) for name in names), target.tag
    assert not [name for name in names if "/msgpack/" in name and name.endswith((".so", ".pyd"))]


def test_a_krita_with_what_the_importer_wrote_has_the_docker_and_the_actions(
    imported: Path, start_krita: Callable[..., RemoteKrita], tmp_path: Path
) -> None:
    def look(stage):
        import sys

        from krita import Krita

        yield 0.5
        dockers = [docker.objectName() for docker in Krita.instance().dockers()]
        return {
            "dockers": [name for name in dockers if "diffedit" in name.lower()],
            "plugin": sys.modules["diffedit"].__file__,
            "protocol": sys.modules["diffedit_protocol"].__file__,
        }

    krita = start_krita(plugins=[(imported / "pykrita", PLUGIN)])
    found = krita.run(look)
    assert found["dockers"]
    assert found["plugin"].startswith(str(krita.profile.resources))
    assert "_vendor/diffedit_protocol" in found["protocol"]


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A backend of its own; yields its DIFFEDIT_HOME."""
    home = tmp_path_factory.mktemp("home")
    environment = os.environ | {"DIFFEDIT_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "diffedit_backend.cli", "serve", "--device", "cpu", "--threads", "1"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready ")
            yield home
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


# Runs in another Python that sees its standard library and the imported plugin only.
EDIT = """
import hashlib, importlib.util, json, sys
plugin = sys.argv[1] + "/pykrita/diffedit"
spec = importlib.util.spec_from_file_location("vendoring", plugin + "/vendoring.py")
vendoring = importlib.util.module_from_spec(spec)
spec.loader.exec_module(vendoring)
vendoring.prepare()
import msgpack, zmq, diffedit_protocol
from diffedit_protocol.blobs import pack_picture
from diffedit_protocol.client import Client
from diffedit_protocol.connection import Connection
from diffedit_protocol.messages import Done, EditRequest, Failed
picture = bytes(v for y in range(64) for x in range(64) for v in (200 - x, 30 + y, 30))
ref, blob = pack_picture(picture, 64, 64, 3)
request = EditRequest("a red apple", "a green pear", picture=ref, quality="draft", threshold=0.2)
with Client(Connection.local_backend()) as client:
    job = client.submit(request, {ref.blob: blob})
    for event in client.events(job):
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Done):
            manifest = event.manifest
    pixels = client.fetch(manifest.edits[0].pixels)
    client.ack(job)
print(json.dumps({
    "modules": [m.__file__ for m in (zmq, msgpack, diffedit_protocol)],
    "pixels": len(pixels) == 4 * manifest.bounds.width * manifest.bounds.height > 0,
}))
"""


def test_a_python_that_a_krita_has_is_on_this_machine() -> None:
    assert any(map(interpreter, PYTHONS)), f"none of Python {', '.join(PYTHONS)} is here: the zip was not tried"


@pytest.mark.parametrize("version", PYTHONS)
def test_an_edit_needs_nothing_but_python_and_what_the_zip_brought(version: str, imported: Path, backend: Path) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"this machine has no Python {version}")
    # -I: no PYTHONPATH, no user folder. -S: no site-packages, where a system's pyzmq and msgpack would lie.
    environment = {"DIFFEDIT_HOME": str(backend), "PATH": os.environ["PATH"], "HOME": str(backend)}
    answer = subprocess.run(
        [python, "-I", "-S", "-c", EDIT, str(imported)], env=environment, capture_output=True, text=True, timeout=280
    )
    assert answer.returncode == 0, answer.stderr
    reported = json.loads(answer.stdout)
    assert all(file.startswith(f"{imported}/pykrita/{PLUGIN}/_vendor/") for file in reported["modules"]), reported
    assert reported["pixels"]


@pytest.mark.parametrize(
    "system", [("Windows", "AMD64"), ("Darwin", "arm64"), ("Darwin", "x86_64"), ("Linux", "x86_64")]
)
@pytest.mark.parametrize("python", [(3, 10), (3, 12), (3, 13), (3, 14)])
def test_the_loader_chooses_a_folder_that_the_zip_has(
    system: tuple[str, str], python: tuple[int, int], plugin_zip: Path
) -> None:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("vendoring", plugin_source() / PLUGIN / "vendoring.py")
    assert spec is not None
    assert spec.loader is not None
    vendoring = module_from_spec(spec)
    spec.loader.exec_module(vendoring)
    folder = f"{PLUGIN}/_vendor/{vendoring.zmq_folder(*system, python)}/zmq/__init__.py"
    with zipfile.ZipFile(plugin_zip) as archive:
        assert folder in archive.namelist()
