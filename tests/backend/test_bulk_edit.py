"""`diffedit edit` over many pictures: words from a table, results that tell how they were made, runs that continue."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffedit_backend.cli.pictures.editor import Editor
from diffedit_backend.cli.pictures.outputs import is_untouched, made_with, read_record, write_result
from diffedit_backend.cli.program import main
from diffedit_backend.imaging.files import read_picture
from diffedit_backend.imaging.results import format_for
from model_files import parts, write_folder
from PIL import Image

HEADER = "file,source,target,seed,threshold\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("models") / "tiny", parts("sd2"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path / "in"
    folder.mkdir()
    for index, name in enumerate(("one", "two", "three")):
        pixels = np.random.default_rng(index).integers(0, 255, (32, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def edit(model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """edit(*more) -> (exit code, one dict per picture)."""

    def run(*more: str, source: str = str(folder)) -> tuple[int, list[dict[str, Any]]]:
        common = ["edit", source, str(tmp_path / "out"), "--model", str(model), "--device", "cpu", "--json"]
        code = main([*common, "--quality", "draft", "--strength", "0.4", "--threshold", "0.3", *more])
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def table(folder: Path, text: str) -> str:
    path = folder / "prompts.csv"
    path.write_text(text)
    return str(path)


def test_every_row_of_the_table_becomes_a_result_that_carries_its_parameters(
    edit: Any, folder: Path, tmp_path: Path
) -> None:
    rows = HEADER + 'one.png,a horse,"a zebra, striped",7,0.2\ntwo.png,an apple,a pear,,\n'
    code, reported = edit("--csv", table(folder, rows))
    assert code == 0
    assert [(t["state"], Path(t["picture"]).name) for t in reported] == [("done", "one.png"), ("done", "two.png")]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["one.png", "two.png"]
    record = read_record(tmp_path / "out" / "one.png")
    assert record is not None
    assert record["seed"] == 7
    assert record["threshold"] == 0.2
    assert record["made_by"]["target"] == "a zebra, striped"
    assert record["made_by"]["model"] == "tiny"
    second = read_record(tmp_path / "out" / "two.png")
    assert second is not None
    assert (second["seed"], second["threshold"]) == (0, 0.3)  # empty cells take the command line's


def test_a_result_reads_as_an_ordinary_picture_with_text(edit: Any, folder: Path, tmp_path: Path) -> None:
    edit("--source", "a horse", "--target", "a zebra")
    with Image.open(tmp_path / "out" / "one.png") as image:
        image.load()
        assert image.size == (40, 32)
        assert json.loads(image.text["DiffEdit"])["picture"] == "one.png"


def test_outside_of_the_mask_a_bulk_result_equals_its_picture(edit: Any, folder: Path, tmp_path: Path) -> None:
    mask = np.zeros((32, 40), np.uint8)
    mask[8:20, 8:20] = 255
    Image.fromarray(mask).save(folder.parent / "mask.png")
    rows = "file,source,target,mask\none.png,a horse,a zebra,../mask.png\n"
    code, _ = edit("--csv", table(folder, rows))
    assert code == 0
    before, after = (np.asarray(Image.open(f / "one.png")) for f in (folder, tmp_path / "out"))
    assert np.array_equal(before[mask == 0], after[mask == 0])
    assert not np.array_equal(before, after)


def test_another_precision_makes_the_results_anew(edit: Any) -> None:
    words = ("--source", "a horse", "--target", "a zebra")
    for precision, state in ((), "done"), (("--precision", "bf16"), "done"), (("--precision", "bf16"), "skipped"):
        assert {t["state"] for t in edit(*words, *precision)[1]} == {state}


def test_a_second_run_skips_what_is_done_and_makes_what_is_missing_or_changed(
    edit: Any, folder: Path, tmp_path: Path
) -> None:
    words = ("--source", "a horse", "--target", "a zebra")
    assert [t["state"] for t in edit(*words)[1]] == ["done"] * 3
    kept = (tmp_path / "out" / "two.png").stat().st_mtime_ns
    assert [t["state"] for t in edit(*words)[1]] == ["skipped"] * 3
    (tmp_path / "out" / "one.png").unlink()
    Image.fromarray(np.full((32, 40, 3), 9, np.uint8)).save(folder / "three.png")
    states = {Path(t["picture"]).stem: t["state"] for t in edit(*words)[1]}
    assert states == {"one": "done", "two": "skipped", "three": "done"}
    assert (tmp_path / "out" / "two.png").stat().st_mtime_ns == kept
    assert [t["state"] for t in edit(*words, "--seed", "5")[1]] == ["done"] * 3


def test_an_interrupted_run_has_exit_code_130_leaves_no_half_result_and_goes_on_where_it_was(
    edit: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--source", "a horse", "--target", "a zebra")
    real, asked = Editor.edit, []

    def interrupted(self: Editor, *args: Any, **more: Any) -> Any:
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(self, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Editor, "edit", interrupted)
        code, reported = edit(*words)
    assert (code, [t["state"] for t in reported]) == (130, ["done"])
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["one.png"]
    code, reported = edit(*words)
    assert (code, [t["state"] for t in reported]) == (0, ["skipped", "done", "done"])


def test_on_a_terminal_a_bar_tells_how_many_are_done_and_goes_away(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--source", "a horse", "--target", "a zebra", "--quality", "draft", "--threshold", "0.3"]
    command = ["edit", str(folder), str(tmp_path / "out"), "--model", str(model), "--device", "cpu", *words]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(command) == 0
    shown = capsys.readouterr().err
    assert f"{'█' * 8}{'░' * 16} 1/3 three.png: editing " in shown
    assert f"{'█' * 16}{'░' * 8} 2/3 two.png: editing " in shown
    assert shown.endswith("\r\x1b[K")


def test_one_picture_that_fails_costs_exit_code_1_and_no_other_picture(edit: Any, folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    code, reported = edit("--source", "a horse", "--target", "a zebra")
    assert code == 1
    states = {Path(t["picture"]).stem: t["state"] for t in reported}
    assert states == {"broken": "failed", "one": "done", "three": "done", "two": "done"}
    assert "broken.png" in next(t["sentence"] for t in reported if t["state"] == "failed")


def test_a_glob_takes_the_pictures_that_it_matches(edit: Any, folder: Path) -> None:
    _, reported = edit("--source", "a horse", "--target", "a zebra", source=str(folder / "t*.png"))
    assert [Path(t["picture"]).stem for t in reported] == ["three", "two"]


def test_several_rows_for_one_picture_get_results_of_their_own(edit: Any, folder: Path, tmp_path: Path) -> None:
    edit("--csv", table(folder, "file,source,target\none.png,a horse,a zebra\none.png,a horse,a dog\n"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["one-row2.png", "one.png"]


def test_a_table_without_files_applies_to_every_picture(edit: Any, folder: Path) -> None:
    _, reported = edit("--csv", table(folder, "source,target\na horse,a zebra\n"))
    assert len(reported) == 3


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("file,word\none.png,x\n", "unknown column 'word'"),
        ("", "is empty. Its first line names the columns"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_before_anything_is_edited(
    rows: str, sentence: str, folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["edit", str(folder), str(tmp_path / "out"), "--model", str(model), "--csv", table(folder, rows)]
    assert main(command) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("four.png,a,b,,\n", "Line 2 of 'prompts.csv' names 'four.png', which is not among the pictures"),
        ("one.png,a,b,x,\n", "Line 2 of 'prompts.csv': seed must be a number, not 'x'"),
        ("one.png,a,b,,2\n", "threshold must be between 0 and 1"),
        ("one.png,a,,,\n", "Line 2 of 'prompts.csv' gives no target for 'one.png'"),
        ("one.png,a,b,,,c\n", "more cells than columns. Put texts with commas into quotes"),
    ],
)
def test_a_faulty_row_is_named_by_line_at_once_and_the_others_are_edited(
    row: str, sentence: str, edit: Any, folder: Path, tmp_path: Path
) -> None:
    code, reported = edit("--csv", table(folder, HEADER + row + "two.png,a horse,a zebra,,\n"))
    assert (code, [t["state"] for t in reported]) == (1, ["failed", "done"])
    assert sentence in reported[0]["sentence"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["two.png"]


def test_an_empty_folder_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["edit", str(tmp_path / "empty"), str(tmp_path / "out"), "--source", "a", "--target", "b"]) == 1
    assert "There is no picture in" in capsys.readouterr().err


def test_wrong_usage_has_exit_code_2(folder: Path, tmp_path: Path) -> None:
    for words in ([str(folder / "one.png"), "x.png", "--source", "a"], [str(folder), "x", "--mask-out", "m.png"]):
        with pytest.raises(SystemExit) as ended:
            main(["edit", *words])
        assert ended.value.code == 2


def test_the_console_script_ends_with_the_documented_codes(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "diffedit_backend.cli", "edit", str(folder / "none.png"), str(tmp_path / "o.png")]
    words = ["--source", "a horse", "--target", "a zebra"]
    assert subprocess.run([*command, *words], capture_output=True).returncode == 1
    assert subprocess.run(command, capture_output=True).returncode == 2


def test_a_single_edit_carries_its_parameters_and_answers_in_json_too(
    folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--source", "a horse", "--target", "a zebra", "--quality", "draft", "--threshold", "0.3", "--json"]
    result = tmp_path / "zebra.png"
    assert main(["edit", str(folder / "one.png"), str(result), "--model", str(model), "--device", "cpu", *words]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert (reported["state"], reported["results"]) == ("done", [str(result)])
    record = read_record(result)
    assert record is not None
    assert record["made_by"]["target"] == reported["parameters"]["target"] == "a zebra"


def test_a_record_comes_back_and_leaves_the_pixels_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(0, 255, (8, 9, 4), np.uint8)
    Image.fromarray(pixels).save(path)
    file = read_picture(path)
    write_result(path, format_for(path, file), file, file.samples, {"words": "früher – später", "seed": 3})
    record = read_record(path)
    assert record is not None
    assert (record["words"], record["seed"]) == ("früher – später", 3)
    assert np.array_equal(np.asarray(Image.open(path)), pixels)
    assert is_untouched(path)


@pytest.mark.parametrize("content", [b"", b"a text", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_has_no_record(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert read_record(tmp_path / "a.png") is None
    assert not is_untouched(tmp_path / "a.png")


def test_a_connection_line_is_not_written_into_results() -> None:
    reported = made_with(Namespace(connect="diffedit://secret-key@box:7860", model=None))
    assert "secret" not in json.dumps(reported)
