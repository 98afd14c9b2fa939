"""The backend's wheel that the plugin's zip carries."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from diffedit_backend.krita import plugin_zip
from diffedit_backend.krita.plugin_zip import backend_wheel
from diffedit_protocol.errors import BadInputError


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return backend_wheel(tmp_path_factory.mktemp("first"))


def test_the_same_sources_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    again = backend_wheel(tmp_path)
    assert built.name == again.name
    assert hashlib.sha256(built.read_bytes()).digest() == hashlib.sha256(again.read_bytes()).digest()


def test_what_an_installed_wheel_is_packed_into_installs_as_the_first_did(built: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    _install(built, site)
    packed = tmp_path / "packed"
    script = (
        "import sys; from pathlib import Path; from diffedit_backend.krita.plugin_zip import backend_wheel; "
        "print(backend_wheel(Path(sys.argv[1])))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {script}", str(packed)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    wheel = Path(answer.stdout.strip())
    assert wheel.name == built.name
    assert set(ZipFile(wheel).namelist()) == set(ZipFile(built).namelist())
    _install(wheel, tmp_path / "second")
    for file in site.rglob("*.py"):
        assert (tmp_path / "second" / file.relative_to(site)).read_bytes() == file.read_bytes()


def test_an_installation_without_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_zip, "_CHECKOUT", tmp_path)
    monkeypatch.setattr(plugin_zip, "DISTRIBUTION", "a-name-that-nobody-took")
    with pytest.raises(BadInputError, match="is not installed here"):
        backend_wheel(tmp_path)


def _install(wheel: Path, target: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
