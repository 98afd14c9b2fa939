"""The installation of the backend from inside Krita, without Krita: real uv, a small index on loopback, stand-ins.

torch, diffusers, transformers and the backend are stand-ins of the same names: the real ones are too large for every
run. `tests/krita/test_install_from_krita.py` goes the whole way with the widgets.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from diffedit.backend import installer as installing
from diffedit.backend.accelerators import NEEDS, Needs, accelerators_of, detect
from diffedit.backend.install_errors import sentence_for
from diffedit.backend.installation import Installation, program_in, python_in
from diffedit.backend.installer import (
    InstallCancelled,
    Installer,
    InstallError,
    InstallPlan,
    InstallProgress,
    find_python,
    torch_build,
)
from diffedit.backend.package_index import IndexFile, IndexUnreachableError, WrongHashError, download, files_of
from small_index import SmallIndex, fetch_uv, write_backend, write_libraries, write_wheel


@pytest.fixture(scope="session")
def uv_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real wheel of uv for this machine, from the package index that pip is set up for."""
    return fetch_uv(tmp_path_factory.mktemp("uv"), installing.UV_VERSION)


@pytest.fixture
def index(tmp_path: Path, uv_wheel: Path) -> Iterator[SmallIndex]:
    """An index with uv and the stand-ins."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / uv_wheel.name).hardlink_to(uv_wheel) if uv_wheel.stat().st_dev == wheels.stat().st_dev else shutil.copy(
        uv_wheel, wheels
    )
    write_libraries(wheels)
    with SmallIndex(wheels).running() as running:
        yield running


@pytest.fixture(autouse=True)
def no_proxy_and_small_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is asked directly, and a stand-in needs little room."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    # And pip reads no settings of this machine: they may name other indexes, or bounds for torch.
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(NEEDS, "cpu", Needs(1, 1))


class Run:
    """One installer with what it reported."""

    def __init__(self, plan: InstallPlan) -> None:
        self.progress: list[InstallProgress] = []
        self.lines: list[str] = []
        self.installer = Installer(plan, self.progress.append, self.lines.append)

    def __call__(self) -> Path:
        return self.installer.run()


@pytest.fixture
def plan(tmp_path: Path, index: SmallIndex) -> Callable[..., InstallPlan]:
    """A plan for version 1.0 in a folder with blanks, umlauts, CJK and a quote in its name."""
    place = Installation(tmp_path / "Zoë's Dateien 馬" / "backend")
    carried = tmp_path / "zip of the plugin"
    carried.mkdir()

    def make(version: str = "1.0", **others: object) -> InstallPlan:
        values = {"index_url": index.url, "torch_index_url": index.url, **others}
        return InstallPlan(place, version, write_backend(carried, version), "cpu", **values)

    return make


def test_one_run_leaves_a_backend_that_starts_whatever_the_folder_is_called(plan) -> None:
    run = Run(plan())
    program = run()
    place = plan().installation
    assert program == place.program()
    answer = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout == "diffedit 1.0\n"
    assert (place.version(), place.accelerator()) == ("1.0", "cpu")
    assert place.size() > 1_000_000
    sentences = [progress.sentence for progress in run.progress]
    assert sentences[0].startswith("Fetching the installer")
    assert sentences[-1].startswith("Trying the new backend")
    assert max(progress.share or 0.0 for progress in run.progress) == 1.0
    assert place.log.read_text(encoding="utf-8").splitlines() == run.lines


def test_a_newer_version_is_made_beside_and_the_old_one_goes_after_a_good_start(plan) -> None:
    Run(plan())()
    place = plan().installation
    old = place.current()
    Run(plan("1.1"))()
    assert old is not None
    assert program_in(old).is_file()
    assert place.version() == "1.1"
    assert place.delete_old() == 1
    assert not old.exists()
    assert place.program() is not None


def test_a_damaged_backend_is_repaired_by_installing_again(plan) -> None:
    Run(plan())()
    place = plan().installation
    damaged = place.current()
    assert damaged is not None
    program_in(damaged).unlink()
    assert place.program() is None
    program = Run(plan())()
    assert program.is_file()
    assert place.current() != damaged


def test_cancelled_in_the_middle_it_goes_on_where_it_was(plan, index: SmallIndex) -> None:
    run = Run(plan())
    index.gate.clear()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            run()
        except InstallCancelled as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert index.waiting.wait(120)
    run.installer.cancel()
    index.gate.set()
    thread.join(240)
    assert len(failed) == 1
    assert plan().installation.current() is None
    assert Run(plan())().is_file()


def test_cancelled_while_packages_come_the_same_environment_is_gone_on_with(plan, index: SmallIndex) -> None:
    place = plan().installation
    index_without_packages = set(index.wheels.glob("torch-*.whl"))
    for wheel in index_without_packages:
        wheel.rename(wheel.with_suffix(".away"))
    with pytest.raises(InstallError, match="does not have a package"):
        Run(plan())()
    unfinished = list(place.environments.iterdir())
    for wheel in index_without_packages:
        wheel.with_suffix(".away").rename(wheel)
    uv_asked = sum("uv-" in path for path in index.asked)
    Run(plan())()
    assert [place.current()] == unfinished
    assert sum("uv-" in path for path in index.asked) == uv_asked, "uv was fetched a second time"


def test_an_index_that_dies_in_the_middle_is_said_and_the_next_try_succeeds(plan, index: SmallIndex) -> None:
    index.cut_after = 100_000
    with pytest.raises(InstallError, match=r"cannot be reached.*continues where it stopped"):
        Run(plan())()
    partial = next(plan().installation.tools.glob("*.part"))
    assert partial.stat().st_size == 100_000
    index.cut_after = None
    assert Run(plan())().is_file()


def test_an_index_that_dies_while_packages_come_is_said_and_the_next_try_succeeds(
    plan, index: SmallIndex, monkeypatch
) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    torch = next(index.wheels.glob("torch-*.whl"))
    torch.rename(torch.with_suffix(".away"))
    with pytest.raises(InstallError, match="does not have a package"):
        Run(plan())()  # uv is there now, the packages are not
    torch.with_suffix(".away").rename(torch)
    index.cut_after = 100
    with pytest.raises(InstallError, match=r"cannot be reached.*continues where it stopped"):
        Run(plan())()
    assert plan().installation.current() is None
    index.cut_after = None
    assert Run(plan())().is_file()


def test_a_wrong_hash_is_refused_and_the_file_deleted(plan, index: SmallIndex) -> None:
    wheel = next(index.wheels.glob("uv-*.whl"))
    data = bytearray(wheel.read_bytes())
    wheel.unlink()  # the fixture's file is a link
    data[1000] ^= 1
    wheel.write_bytes(bytes(data))
    with pytest.raises(InstallError, match="differs from the published one"):
        Run(plan())()
    assert not list(plan().installation.tools.glob("*.whl*"))


def test_an_index_that_is_not_there_is_reported(plan) -> None:
    with pytest.raises(InstallError, match=r"'http://127\.0\.0\.1:1/simple' cannot be reached"):
        Run(plan(index_url="http://127.0.0.1:1/simple"))()


def test_without_uv_a_python_of_the_machine_makes_the_environment(plan, index: SmallIndex) -> None:
    next(index.wheels.glob("uv-*.whl")).unlink()
    run = Run(plan())
    program = run()
    assert subprocess.run([str(program), "--version"], capture_output=True, text=True).stdout == "diffedit 1.0\n"
    assert any("-m venv" in line for line in run.lines)


def test_where_there_is_no_python_and_uv_cannot_fetch_one_that_is_reported(plan, tmp_path: Path, monkeypatch) -> None:
    nothing = tmp_path / "no programs"
    nothing.mkdir()
    monkeypatch.setenv("PATH", str(nothing))
    monkeypatch.delenv("UV_PYTHON", raising=False)
    monkeypatch.setenv("UV_PYTHON_INSTALL_MIRROR", "http://127.0.0.1:1/python-build-standalone")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(InstallError, match=r"no Python 3\.10 to 3\.13 on this machine"):
        Run(plan())()
    assert plan().installation.current() is None


def test_without_uv_and_without_python_the_artist_is_told_what_to_install(plan, index: SmallIndex, monkeypatch) -> None:
    next(index.wheels.glob("uv-*.whl")).unlink()
    monkeypatch.setattr(installing, "find_python", lambda: "")
    with pytest.raises(InstallError, match=r"Install Python from python\.org"):
        Run(plan())()


def test_too_little_room_is_said_before_anything_is_fetched(plan, index: SmallIndex, monkeypatch) -> None:
    monkeypatch.setitem(NEEDS, "cpu", Needs(1, 1 << 60))
    with pytest.raises(InstallError, match=r"GB free; about .* are needed"):
        Run(plan())()
    assert index.asked == []


def test_a_folder_that_cannot_be_written_is_reported(plan, tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    with pytest.raises(InstallError, match="cannot be written"):
        Run(InstallPlan(Installation(blocked / "backend"), "1.0", blocked, "cpu"))()


def test_a_plugin_without_its_backend_is_reported(plan, tmp_path: Path) -> None:
    broken = InstallPlan(Installation(tmp_path / "b"), "1.0", tmp_path / "none.whl", "cpu")
    with pytest.raises(InstallError, match="does not contain the backend"):
        Run(broken)()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="a small disk is a tmpfs, which root mounts")
def test_a_full_disk_is_said_in_the_middle_and_nothing_is_put_in_use(plan, index: SmallIndex, tmp_path: Path) -> None:
    small = tmp_path / "small disk"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(small)], check=True)
    try:
        place = Installation(small / "backend")
        full = InstallPlan(place, "1.0", plan().wheel, "cpu", index.url, index.url)
        with pytest.raises(InstallError, match="disk is full"):
            Run(full)()
        assert place.current() is None
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_removal_takes_everything_of_it_and_says_its_size_before(plan) -> None:
    Run(plan())()
    place = plan().installation
    read_only = place.environments / "read only"
    read_only.write_text("")
    read_only.chmod(0o444)
    assert place.size() > 0
    place.remove()
    assert not place.folder.exists()
    assert place.current() is None
    assert place.size() == 0


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("error: Failed to extract archive\n  Caused by: No space left on device (os error 28)", "The disk is full"),
        ("Hash mismatch for `torch==2.9.0`", "differs from the published one"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "differs from the published one"),
        ("HTTP 407 Proxy Authentication Required", "proxy refused"),
        ("invalid peer certificate: UnknownIssuer", "certificate"),
        ("The process cannot access the file because it is being used by another process. (os error 32)", "virus"),
        ("failed to create directory: Read-only file system (os error 30)", "cannot be written"),
        ("error sending request for url (https://pypi.org/simple/torch/)\n dns error", "cannot be reached"),
        ("× No solution found when resolving dependencies:", "does not have a package"),
        (
            "Failed to download `https://github.com/astral-sh/python-build-standalone/x`\n dns error",
            "no Python 3.10 to",
        ),
        ("error: No interpreter found for Python >=3.10, <3.14 in search path", "no Python 3.10 to"),
        (
            "error: No solution found\n torch==9.0 has an invalid package format\n read from zip file",
            "cannot be reached",
        ),
        ("Segmentation fault", "The installation failed: Segmentation fault"),
    ],
)
def test_what_an_installer_prints_becomes_a_sentence(output: str, says: str) -> None:
    assert says in sentence_for(output, Path("/data/backend"), "https://name:secret@mirror/simple")
    assert "secret" not in sentence_for(output, Path("/data/backend"), "https://name:secret@mirror/simple")


def test_what_is_offered_fits_the_system() -> None:
    assert accelerators_of("linux", "x86_64") == ("cpu", "cuda", "rocm", "xpu")
    assert accelerators_of("darwin", "arm64") == ("mps", "cpu")
    assert accelerators_of("darwin", "x86_64") == ("cpu",)
    assert accelerators_of("win32", "AMD64") == ("cpu", "cuda", "xpu")
    assert accelerators_of("freebsd", "amd64") == ("cpu",)
    assert detect("darwin", "arm64") == "mps"
    assert detect("darwin", "x86_64") == "cpu"


@pytest.mark.parametrize(
    ("driver", "cards", "build"),
    [
        ("13.1", "8.9", "cu130"),
        ("13.0", "7.5", "cu130"),
        ("12.8", "12.0", "cu128"),
        ("12.4", "8.6", "cu126"),
        ("13.0", "6.1", "cu126"),
        ("13.0", "7.0", "cu126"),
        ("13.0", "6.1\n8.6", "cu130"),
        ("12.8", "", "cu128"),
    ],
)
def test_the_build_of_torch_follows_driver_and_card(
    driver: str, cards: str, build: str, tmp_path: Path, monkeypatch
) -> None:
    program = tmp_path / "nvidia-smi"
    told = f"echo '{cards}'" if cards else "echo 'Field is not a valid field to query.'; exit 2"
    table = f"echo '| NVIDIA-SMI 555.1   CUDA Version: {driver}  |'"
    program.write_text(f'#!/bin/sh\ncase "$*" in *compute_cap*) {told};; *) {table};; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert detect("linux", "x86_64") == "cuda"
    assert torch_build("cuda") == build


def test_builds_of_torch_for_other_than_nvidia_cards_have_one_name_each() -> None:
    assert [torch_build(kind) for kind in ("cpu", "rocm", "xpu")] == ["cpu", "rocm7.2", "xpu"]


def test_a_mac_with_an_intel_processor_is_told_that_torch_has_nothing_for_it(
    plan, index: SmallIndex, monkeypatch
) -> None:
    monkeypatch.setattr(installing.sys, "platform", "darwin")
    monkeypatch.setattr(installing.platform, "machine", lambda: "x86_64")
    with pytest.raises(InstallError, match=r"Intel processor.*Join another machine"):
        Run(plan())()
    assert index.asked == []


@pytest.mark.parametrize("with_uv", [True, False], ids=["uv", "pip"])
def test_torch_comes_from_its_own_index_even_where_the_package_index_has_a_newer_one(
    plan, index: SmallIndex, tmp_path: Path, with_uv: bool
) -> None:
    if not with_uv:
        next(index.wheels.glob("uv-*.whl")).unlink()
    own = tmp_path / "wheels of torch"
    own.mkdir()
    write_wheel(own, "torch", "8.0", {"torch/__init__.py": '__version__ = "8.0+rocm"\n'})
    with SmallIndex(own).running() as of_torch:
        program = Run(plan(torch_index_url=of_torch.url))()
    command = [str(python_in(program.parents[1])), "-c", "import torch; print(torch.__version__)"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "8.0+rocm\n"


def test_a_mirror_serves_torch_too_unless_torch_has_a_mirror_of_its_own(tmp_path: Path) -> None:
    place, wheel = Installation(tmp_path), tmp_path / "w.whl"
    assert InstallPlan(place, "1", wheel, "cpu").torch_index() == "https://download.pytorch.org/whl/cpu"
    assert InstallPlan(place, "1", wheel, "mps").torch_index() == ""
    assert InstallPlan(place, "1", wheel, "cpu", "http://mirror").torch_index() == ""
    assert InstallPlan(place, "1", wheel, "cpu", "http://mirror", "http://torch").torch_index() == "http://torch"


def test_the_python_that_is_found_has_venv_and_a_version_that_was_tried() -> None:
    python = find_python()
    code = "import sys, venv, ensurepip; print(sys.version_info[:2])"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    assert (3, 10) <= tuple(map(int, found.strip("()\n").split(","))) < (3, 14)


def test_an_unfinished_download_asks_for_the_rest_only(index: SmallIndex, tmp_path: Path) -> None:
    file = next(file for file in files_of("torch", index.url))
    whole = (index.wheels / file.name).read_bytes()
    target = tmp_path / file.name
    target.with_name(file.name + ".part").write_bytes(whole[:50])
    received: list[int] = []
    assert download(file, target, file.sha256, lambda count, _: received.append(count), lambda: False)
    assert target.read_bytes() == whole
    assert received[-1] == len(whole)
    assert not download(file, tmp_path / "other", file.sha256, lambda *_: None, lambda: True)


def test_a_page_that_is_no_index_is_refused(index: SmallIndex) -> None:
    assert files_of("nothing-of-that-name", index.url) == ()
    index.status = 503
    with pytest.raises(IndexUnreachableError, match="HTTP 503"):
        files_of("torch", index.url)


def test_a_file_of_another_hash_is_not_kept(index: SmallIndex) -> None:
    (index.wheels / "x.whl").write_bytes(b"x")
    file = IndexFile("x.whl", index.url.replace("/simple", "/files/x.whl"), "")
    with pytest.raises(WrongHashError):
        download(file, index.wheels / "y", "0" * 64, lambda *_: None, lambda: False)
    assert not list(index.wheels.glob("y*"))


def test_python_in_an_environment_is_its_own(tmp_path: Path) -> None:
    assert python_in(tmp_path).parent == program_in(tmp_path).parent
