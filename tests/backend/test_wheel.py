"""The wheel: what `pip install` brings, and that the client and the command line of it run without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.wheel import WheelBuilder

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (built,) = WheelBuilder(str(CHECKOUT)).build(directory=str(tmp_path_factory.mktemp("dist")), versions=["standard"])
    return Path(built)


def test_the_wheel_holds_both_packages_with_their_types_the_plugin_and_the_bundled_model(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    for needed in (
        "diffedit_protocol/py.typed",
        "diffedit_backend/py.typed",
        "diffedit_backend/krita_plugin/diffedit.desktop",
        "diffedit_backend/krita_plugin/diffedit.action",
        "diffedit_backend/krita_plugin/diffedit/__init__.py",
        "diffedit_backend/bundled/weights/unet/diffusion_pytorch_model.safetensors",
    ):
        assert needed in names
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"diffedit_protocol", "diffedit_backend"}
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests/")]


def test_the_wheel_asks_for_no_torch_but_by_its_extras_and_carries_its_licence(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (file,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(file).decode())
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in archive.namelist())
    asked = metadata.get_all("Requires-Dist") or []
    plain = {line.split(">")[0] for line in asked if "extra ==" not in line}
    assert plain == {"msgpack", "pyzmq", "numpy", "pillow", "argcomplete", "filelock", "safetensors"}
    assert {"backend", "weighting", "matting", "ray"} <= set(metadata.get_all("Provides-Extra") or [])
    assert any(line.startswith("torch>=") and "backend" in line for line in asked)
    assert "Typing :: Typed" in (metadata.get_all("Classifier") or [])


def test_the_command_line_of_the_wheel_runs_without_torch_and_installs_its_plugin(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path / "home")}
    environment |= {"XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
    script = (
        "import sys; sys.modules['torch'] = None; import diffedit_backend; "
        "assert diffedit_backend.__file__.startswith(sys.argv[1]); "
        "from diffedit_backend.cli import main; sys.exit(main(sys.argv[2:]))"
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, str(tmp_path / "site"), *arguments]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    installed = run("install-plugin")
    assert (installed.returncode, installed.stderr) == (0, "")
    plugin = tmp_path / "home" / ".local/share/krita/pykrita/diffedit"
    assert (plugin / "__init__.py").is_file()
    listed = run("models")
    assert listed.returncode == 0
    assert "bundled" in listed.stdout
    assert run("uninstall-plugin").returncode == 0
    assert not plugin.exists()


@pytest.fixture(scope="module")
def development_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    builder = WheelBuilder(str(CHECKOUT / "backend" / "development"))
    (built,) = builder.build(directory=str(tmp_path_factory.mktemp("dist")), versions=["standard"])
    return Path(built)


def test_benchmarks_training_and_the_driver_of_krita_are_a_wheel_of_their_own_that_adds_their_commands(
    wheel: Path, development_wheel: Path, tmp_path: Path
) -> None:
    names = ZipFile(development_wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    packages = {top for top in tops if not top.endswith(".dist-info")}
    assert packages == {"diffedit_bench", "diffedit_training", "diffedit_krita_driver"}
    assert "diffedit_training/judge_weights/judge.safetensors" in names
    assert "diffedit_training/scenes/artwork/LICENSE" in names
    assert not [name for name in names if "__pycache__" in name]

    def help_with(*wheels: Path) -> str:
        site = tmp_path / str(len(wheels))
        for archive in wheels:
            ZipFile(archive).extractall(site)
        script = (
            "import os, sys; sys.modules['torch'] = None; "
            "sys.path[:] = [p for p in sys.path if not os.path.isdir(os.path.join(p, 'diffedit_bench'))]; "
            "sys.path.insert(0, sys.argv[1]); import diffedit_backend; "
            "assert diffedit_backend.__file__.startswith(sys.argv[1]); "
            "from diffedit_backend.cli import main; sys.exit(main(['--help']))"
        )
        command = [sys.executable, "-P", "-c", script, str(site)]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    def commands(text: str) -> set[str]:
        return {line.split()[0] for line in text.splitlines() if line.startswith("    ") and line.split()}

    beside = {"bench", "demo", "train-bundled"}
    assert not beside & commands(help_with(wheel))
    assert beside <= commands(help_with(wheel, development_wheel))
