"""`pip install krita-diffedit` without [backend]: what the client alone can do, and what it says of the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from diffedit_backend.bundled import samples, samples_folder
from diffedit_backend.cli.program import EXTRAS, main

ROOT = Path(__file__).parents[2]
PICTURE = str(samples_folder() / "horse.png")
WORDS = ("--source", "a horse on grass", "--target", "a zebra on grass")

# A finder before all others: the modules of the extras are not there, as in an environment without them.
ABSENT = f"""
import sys
from importlib.abc import MetaPathFinder


class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(EXTRAS)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def run(tmp_path):
    """Runs the command line in an interpreter that finds nothing of the extras, its child processes included."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(ABSENT)
    path = os.pathsep.join(map(str, (tmp_path / "site", ROOT / "protocol", ROOT / "backend")))
    environment = os.environ | {"PYTHONPATH": path, "DIFFEDIT_HOME": str(tmp_path / "home")}
    environment.pop("COVERAGE_PROCESS_START", None)

    def run(*arguments):
        command = [sys.executable, "-m", "diffedit_backend.cli", *arguments]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ("edit", PICTURE, "out.png", *WORDS),
        ("mask", PICTURE, "out.png", *WORDS),
        ("serve", "--device", "cpu"),
        ("describe", PICTURE),
        ("suggest", "a horse"),
        ("bench", "speed", "--out", "speed"),
        ("bench", "load", "--out", "load"),
        ("bench", "wire", "--out", "wire"),
        ("bench", "quality", "--out", "quality"),
        ("train-bundled", "--stage", "unet", "--steps", "1"),
    ],
    ids=" ".join,
)
def test_what_needs_the_backends_libraries_says_which_and_how_to_get_them(run, arguments):
    answer = run(*arguments)
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert "pip install 'krita-diffedit[backend" in answer.stderr


def test_an_edit_without_the_extra_names_the_running_backend_as_a_way(run):
    assert "let a running backend do it: --connect" in run("edit", PICTURE, "out.png", *WORDS).stderr


@pytest.mark.parametrize(
    "arguments", [("models",), ("clients",), ("samples", "pictures"), ("invite", "a", "--host", "b:1")]
)
def test_the_client_alone_can_do_what_needs_no_model(run, arguments):
    answer = run(*arguments)
    assert answer.returncode == 0, answer.stderr


def test_the_doctor_tells_what_is_missing_and_why_its_backend_did_not_start(run):
    answer = run("doctor")
    assert answer.returncode == 1
    assert "The backend did not start. diffedit: This needs " in answer.stderr


def test_a_command_that_needs_a_backend_tells_in_a_terminals_words_that_none_runs(run):
    answer = run("status")
    assert answer.returncode == 1
    assert answer.stderr == (
        "diffedit: No backend is running on this machine. Start one with 'diffedit serve', "
        "or name another by --connect FILE.\n"
    )


def test_a_module_of_the_package_itself_that_is_lost_is_a_fault_and_not_a_missing_extra(monkeypatch):
    def lost(args):
        raise ModuleNotFoundError("No module named 'diffedit_backend.nothing'", name="diffedit_backend.nothing")

    monkeypatch.setattr("diffedit_backend.cli.models.run", lost)
    with pytest.raises(ModuleNotFoundError):
        main(["models"])


def test_samples_are_written_with_a_table_of_their_words_and_nothing_is_written_over(run, tmp_path):
    answer = run("samples", "pictures")
    assert "pictures/horse.png  a horse on grass → a zebra on grass" in answer.stdout
    table = (tmp_path / "pictures" / "prompts.csv").read_text(encoding="utf-8").splitlines()
    assert table[0] == "file,source,target"
    assert table[1:] == [f"{sample.file},{sample.source},{sample.target}" for sample in samples()]
    for sample in samples():
        assert (tmp_path / "pictures" / sample.file).read_bytes() == (samples_folder() / sample.file).read_bytes()
    again = run("samples", "pictures")
    assert again.returncode == 1
    assert "is there already and is not written over" in again.stderr
    (tmp_path / "file").touch()
    assert "is no folder. Choose another name." in run("samples", "file").stderr
