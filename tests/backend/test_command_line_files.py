"""`diffedit edit` and `mask` beside the user's files: nothing is lost, whatever is asked for. Edits are squares."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffedit_backend.cli.pictures.editor import Editor
from diffedit_backend.cli.pictures.outputs import is_untouched, read_record
from diffedit_backend.cli.pictures.remote import BusyRemarks
from diffedit_backend.cli.program import main
from diffedit_backend.imaging import results
from diffedit_backend.method.steps import Step
from diffedit_backend.outcome import Edit, EditOutcome, EditWarning
from diffedit_protocol.errors import BadInputError, BusyError, InternalError
from diffedit_protocol.messages import Bounds
from PIL import Image

WORDS = ("--source", "a horse", "--target", "a zebra")


@pytest.fixture(autouse=True)
def painted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Edits without a model: a square of 4 px in the seed's shade. The requests that were made."""
    requests: list[Any] = []

    def edit(self: Editor, request: Any, pixels: Any, *, selection: Any = None, mask: Any = None, **more: Any) -> Any:
        requests.append(request)
        found = np.zeros(pixels.shape[:2], np.uint8)
        found[2:6, 2:6] = 255
        found = found if mask is None else mask
        more["on_step"](Step("editing", 1, 2))
        edits = tuple(
            Edit(request.seed + i, np.full((4, 4, 4), request.seed + i + 9, np.uint8))
            for i in range(request.variations if request.task == "edit" else 0)
        )
        notes = (EditWarning("NEARLY_ALL", "Nearly everything."),)
        soft_map = found if mask is None else None
        return EditOutcome(found, soft_map, 0.5, Bounds(2, 2, 4, 4), edits, 3, {"editing": 0.1}, notes)

    monkeypatch.setattr(Editor, "prepare", lambda self: None)
    monkeypatch.setattr(Editor, "edit", edit)
    return requests


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for index, name in enumerate(("a.png", "b.png")):
        pixels = np.random.default_rng(index).integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def pixels_of(path: Path | str) -> Any:
    with Image.open(path) as image:
        return np.asarray(image)


def wrong_usage(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("edit", "a.png", "a.png"), "picture"),
        (("edit", "a.png", "./sub/../a.png"), "picture"),
        (("edit", "a.png", "link.png", "--overwrite"), "picture"),
        (("edit", "a.png", "hard.png", "--overwrite"), "picture"),
        (("edit", "a.png", "o.png", "--mask-out", "a.png"), "picture"),
        (("edit", "a.png", "o.png", "--mask", "b.png", "--mask-out", "b.png"), "mask"),
        (("edit", "a.png", "o.png", "--selection", "b.png", "--soft-map-out", "b.png"), "selection"),
        (("edit", "o-2.png", "o.png", "--variations", "3", "--overwrite"), "picture"),
        (("edit", "o-s0.5.png", "o.png", "--strength", "0.5,0.8", "--overwrite"), "picture"),
        (("mask", "a.png", "a.png"), "picture"),
        (("mask", "a.png", "b.png", "--selection", "b.png"), "selection"),
        (("mask", "a.png", "o.png", "--soft-map-out", "a.png"), "picture"),
    ],
)
def test_an_output_that_is_an_input_is_refused_before_any_work(
    folder: Path, painted: list[Any], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], kind: str
) -> None:
    (folder / "sub").mkdir()
    (folder / "link.png").symlink_to("a.png")
    os.link("a.png", "hard.png")
    for name in ("o-2.png", "o-s0.5.png"):
        Image.new("RGB", (16, 12)).save(name)
    before = contents(folder)
    assert main((*arguments, *WORDS)) == 1
    assert f"is the {kind} itself, which would be lost. Name another file." in capsys.readouterr().err
    assert (contents(folder), painted) == (before, [])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("edit", "a.png", "o.png", "--mask-out", "o.png"), "'o.png' would be written twice"),
        (("edit", "a.png", "none/o.png"), "There is no folder 'none' for 'o.png'"),
        (("edit", "a.png", "o.png", "--mask-out", "none/m.png"), "There is no folder 'none' for 'm.png'"),
        (("edit", "a.png", "o.xyz"), "'o.xyz' does not end in a picture format"),
        (("edit", "a.png", "o.png", "--mask-out", "m.gif"), "'m.gif' does not end in a picture format"),
        (("mask", "a.png", "m"), "'m' does not end in a picture format"),
        (("edit", "a.png", "b.png"), "'b.png' is there already, and it is no result that this program left like that"),
        (("edit", "a.png", "o.png", "--mask-out", "b.png"), "'b.png' is there already"),
        (("edit", "a.png", "."), "does not end in a picture format"),
        (("edit", "none.png", "o.png"), "There is no file 'none.png'"),
    ],
)
def test_an_output_that_cannot_be_or_would_destroy_something_is_refused_before_any_work(
    folder: Path, painted: list[Any], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    before = contents(folder)
    assert main((*arguments, *WORDS)) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert (contents(folder), painted) == (before, [])


def test_what_this_program_wrote_may_be_written_again_unless_somebody_painted_on_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("edit", "a.png", "o.png", "--mask-out", "m.png", *WORDS)
    assert main(command) == 0
    assert main((*command, "--seed", "3")) == 0
    assert pixels_of("o.png")[3, 3].tolist() == [12, 12, 12]
    with Image.open("o.png") as image:  # with the record, as an editor that keeps texts saves it
        texts = dict(image.text)
        image.load()
        image.putpixel((0, 0), (1, 2, 3))
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("DiffEdit", texts["DiffEdit"])
        image.save("o.png", pnginfo=info)
    assert not is_untouched(Path("o.png"))
    assert main(command) == 1
    assert "'o.png' is there already" in capsys.readouterr().err
    assert pixels_of("o.png")[0, 0].tolist() == [1, 2, 3]
    assert main((*command, "--overwrite")) == 0
    assert is_untouched(Path("o.png"))


def test_a_result_that_fails_to_be_written_leaves_the_earlier_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(("edit", "a.png", "o.png", *WORDS)) == 0
    before = contents(folder)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results.os, "fsync", full)
    assert main(("edit", "a.png", "o.png", *WORDS, "--seed", "5")) == 1
    assert "'o.png' could not be written: No space left on device" in capsys.readouterr().err
    assert contents(folder) == before


def bulk(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, Any]]]:
    code = main(("edit", *arguments, "--json"))
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("pictures", [".", "*.png", "../{name}/a.png"])
def test_a_folder_edited_into_itself_is_refused(
    folder: Path, painted: list[Any], capsys: pytest.CaptureFixture[str], pictures: str
) -> None:
    before = contents(folder)
    more = ("--csv", "t.csv") if "name" in pictures else ()
    if more:
        (folder / "t.csv").write_text("source,target\na,b\n")
        before = contents(folder)
    assert main(("edit", pictures.format(name=folder.name), ".", *WORDS, *more)) == 1
    assert "The pictures are in '.' themselves" in capsys.readouterr().err
    assert (contents(folder), painted) == (before, [])


def test_a_result_whose_name_leads_to_an_input_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    os.rename("a.png", "in/a.png")
    (folder / "out" / "a.png").symlink_to("../in/a.png")
    before = contents(folder)
    assert main(("edit", "in", "out", *WORDS, "--overwrite")) == 1
    assert "'out/a.png' is the picture itself" in capsys.readouterr().err
    assert contents(folder) == before


def test_every_picture_of_a_folder_gets_a_result_of_its_own_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("in/a.png", "in/a.jpg", "in/a-1.png", "in/A.bmp"):
        (folder / "in").mkdir(exist_ok=True)
        Image.new("RGB", (16, 12), "red").save(name)
    code, reports = bulk("in", "out", *WORDS, capsys=capsys)
    assert code == 0
    results_of = {Path(r["picture"]).name: [Path(p).name for p in r["results"]] for r in reports}
    assert results_of == {
        "a.png": ["a.png"],
        "a.jpg": ["a.jpg.png"],
        "a-1.png": ["a-1.png"],
        "A.bmp": ["A.bmp.png"],
    }
    assert len(os.listdir("out")) == 4


@pytest.mark.parametrize(
    ("names", "variations", "collide"),
    [
        (("a.jpg", "a.jpg.png"), "1", {"a.jpg", "a.jpg.png"}),
        (("a.png", "a-v2.png"), "2", {"a.png", "a-v2.png"}),
        (("a.png", "A.png", "b.png"), "1", {"a.png", "A.png"}),
    ],
)
def test_pictures_whose_results_would_have_one_name_fail_and_the_others_are_edited(
    folder: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, ...], variations: str, collide: set[str]
) -> None:
    (folder / "in").mkdir()
    for name in names:
        Image.new("RGB", (16, 12)).save(folder / "in" / name)
    code, reports = bulk("in", "out", *WORDS, "--variations", variations, capsys=capsys)
    failed = {Path(r["picture"]).name for r in reports if r["state"] == "failed"}
    assert (code, failed, len(reports)) == (1, collide, len(names))
    assert all("would both be written to" in r["sentence"] for r in reports if r["state"] == "failed")


def test_a_glob_over_folders_gives_its_results_in_such_folders(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("x/a.png", "y/a.png"):
        (folder / name).parent.mkdir()
        Image.new("RGB", (16, 12), "red").save(name)
    for state in ("done", "skipped"):
        code, reports = bulk("*/a.png", "out", *WORDS, capsys=capsys)
        assert (code, [r["state"] for r in reports]) == (0, [state] * 2)
    assert {str(p) for p in Path("out").rglob("*.png")} == {"out/x/a.png", "out/y/a.png"}


def test_a_second_row_for_a_picture_does_not_rename_the_first_ones_result(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["file,source,target", "a.png,a,b", "a.png,a,c"]
    for count in (2, 3):
        Path("t.csv").write_text("\n".join(rows[:count]))
        assert bulk("*.png", "out", "--csv", "t.csv", capsys=capsys)[0] == 0
    assert sorted(os.listdir("out")) == ["a-row2.png", "a.png"]


def test_hidden_files_are_no_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("._a.png").write_bytes(b"\0\x05\x16\x07 macOS writes such")
    Path(".hidden").mkdir()
    Image.new("RGB", (16, 12)).save(".hidden/a.png")
    for pictures in (".", "*.png", "**/*.png"):
        _, reports = bulk(pictures, f"out{len(pictures)}", *WORDS, capsys=capsys)
        assert {Path(r["picture"]).name for r in reports if "out" not in r["picture"]} == {"a.png", "b.png"}


def test_results_below_the_pictures_are_not_edited_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        code, reports = bulk("**/*.png", "out", *WORDS, capsys=capsys)
        assert (code, {r["picture"] for r in reports}) == (0, {"a.png", "b.png"})


def test_a_bulk_result_that_was_painted_on_is_skipped_or_kept_but_never_replaced_unasked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bulk("*.png", "out", *WORDS, capsys=capsys)
    painted_on = pixels_of("out/a.png").copy()
    painted_on[0, 0] = (9, 8, 7)
    Image.fromarray(painted_on).save("out/a.png")  # elsewhere: the record is lost
    for more in ((), ("--seed", "5")):
        code, reports = bulk("*.png", "out", *WORDS, *more, capsys=capsys)
        assert (code, reports[0]["state"]) == (1, "failed")
        assert "it is no result that this program left like that" in reports[0]["sentence"]
        assert np.array_equal(pixels_of("out/a.png"), painted_on)
    assert bulk("*.png", "out", *WORDS, "--overwrite", capsys=capsys)[0] == 0
    assert not np.array_equal(pixels_of("out/a.png"), painted_on)


def test_whatever_a_row_raises_ends_that_row_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Editor.edit
    faults: list[Exception] = [RuntimeError("shapes"), OSError(5, "Input/output error"), BadInputError("Too small.")]

    def edit(self: Editor, *args: Any, **more: Any) -> Any:
        if faults:
            raise faults.pop()
        return real(self, *args, **more)

    monkeypatch.setattr(Editor, "edit", edit)
    for name in "cd":
        Image.new("RGB", (16, 12)).save(f"{name}.png")
    code, reports = bulk("*.png", "out", *WORDS, capsys=capsys)
    assert (code, [r["state"] for r in reports]) == (1, ["failed", "failed", "failed", "done"])
    assert [r["sentence"] for r in reports[:3]] == [
        "Too small.",
        "'a.png': Input/output error.".replace("a.png", "b.png"),
        "A fault of this program: RuntimeError: shapes",
    ]
    assert [r["code"] for r in reports[:3]] == ["BAD_INPUT", "BAD_INPUT", InternalError.code]


def test_a_results_folder_that_cannot_be_made_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("edit", "*.png", "a.png/out", *WORDS)) == 1
    assert "The folder 'a.png/out' cannot be made" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_spreadsheets_are_read_whatever_parts_cells_and_codes_letters(
    folder: Path, painted: list[Any], capsys: pytest.CaptureFixture[str], delimiter: str, encoding: str
) -> None:
    rows = [
        ("file", " Source", "target ", "threshold", ""),
        ("", "", "", "", ""),
        ("a.png", "früher", "spä,t;e\tr", "0,5", ""),
    ]
    text = "\r\n".join(delimiter.join(f'"{cell}"' if set(cell) & set(",;\t") else cell for cell in row) for row in rows)
    Path("t.csv").write_bytes((text + "\r\n").encode(encoding))
    code, reports = bulk("*.png", "out", "--csv", "t.csv", capsys=capsys)
    assert code == 0, reports
    assert [(r.source, r.target, r.threshold) for r in painted] == [("früher", "spä,t;e\tr", 0.5)]


def test_excels_line_that_names_the_delimiter_is_passed_over(
    folder: Path, painted: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("t.csv").write_text("sep=;\nfile;source;target\na.png;a;b\na.png;a;b;c\n")
    code, reports = bulk("*.png", "out", "--csv", "t.csv", capsys=capsys)
    assert (code, [r["state"] for r in reports]) == (1, ["failed", "done"])
    assert reports[0]["sentence"].startswith("Line 4 of 't.csv' has more cells")


def test_a_table_that_is_no_text_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.csv").write_bytes(b"\xff\xfe\0")
    assert main(("edit", "*.png", "out", "--csv", "t.csv")) == 1
    assert "is no text in UTF-8, UTF-16 or code page 1252" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--strength", "2"),
        ("--strength", "0"),
        ("--strength", "nan"),
        ("--threshold", "1"),
        ("--threshold", "nan"),
        ("--attention", "-0.1"),
        ("--guidance", "inf"),
        ("--grow", "9999"),
        ("--feather", "-1"),
        ("--seed", "-1"),
        ("--seed", "4294967296"),
        ("--variations", "17"),
        ("--variations", "1.5"),
        ("--suggest", "0"),
        ("--adapter", "style=lots"),
        ("--vae-tiles", "3"),
    ],
    ids=" ".join,
)
def test_a_bad_number_is_wrong_usage_with_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, str]
) -> None:
    wrong_usage("edit", "a.png", "o.png", *WORDS, *arguments)
    assert f"argument {arguments[0]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--workers", "0"),
        ("serve", "--threads", "-1"),
        ("serve", "--queue", "0"),
        ("serve", "--keep", "0"),
        ("serve", "--disk", "nan"),
        ("serve", "--grace", "-1"),
        ("serve", "--cache", "x"),
        ("serve", "--models-memory", "0"),
        ("serve", "--step-timeout", "inf"),
        ("serve", "--ray-patience", "-1"),
        ("describe", "--count", "0", "a.png"),
        ("describe", "--seed", "-1", "a.png"),
        ("suggest", "--count", "0", "a horse"),
        ("suggest", "--seed", "1.5", "a horse"),
    ],
    ids=" ".join,
)
def test_a_bad_number_is_wrong_usage_of_every_command(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    wrong_usage(*arguments)
    assert f"argument {arguments[1]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--mask", "b.png", "--soft-map-out", "s.png"), "--soft-map-out is for a mask that is searched, but --mask"),
        (("--mask", "b.png", "--threshold", "0.4"), "--threshold is for a mask that is searched"),
        (("--mask", "b.png", "--grow", "4"), "--grow is for a mask that is searched"),
        (("--connect", "--device", "cpu"), "--device is for edits in this process"),
        (("--connect", "--precision", "fp16"), "--precision is for edits in this process"),
        (("--connect", "--offload", "model"), "--offload is for edits in this process"),
        (("--connect", "--vae-tiles", "2"), "--vae-tiles is for edits in this process"),
        (("--connect", "--no-safety-checker"), "--no-safety-checker is for edits in this process"),
        (("--connect", "--inversion", "a"), "--inversion is for edits in this process"),
        (("--suggester", "t5"), "--suggester is the language model of --suggest"),
        (("--connect", "diffedit://box:1/AAAA/SECRET"), "a connection line holds a secret key"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_would_go_unheeded_or_be_seen_is_wrong_usage(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    wrong_usage("edit", "a.png", "o.png", *WORDS, *arguments)
    error = capsys.readouterr().err
    assert sentence in error
    assert "SECRET" not in error


def test_json_tells_failures_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (("edit", "none.png", "o.png"), ("mask", "none.png", "o.png")):
        assert main((*command, *WORDS, "--json")) == 1
        report = json.loads(capsys.readouterr().out)
        assert (report["state"], report["code"], report["results"]) == ("failed", "BAD_INPUT", [])
        assert report["sentence"] == "There is no file 'none.png'."


def test_json_tells_the_failures_of_other_commands_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIFFEDIT_HOME", str(folder / "home"))
    assert main(("status", "--json")) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["state"], report["code"]) == ("failed", "LINK")
    assert "No backend is running on this machine" in report["sentence"]


def test_json_tells_what_ends_a_batch_before_its_first_picture(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, reports = bulk("*.png", ".", *WORDS, capsys=capsys)
    assert (code, [r["state"] for r in reports], reports[0]["picture"]) == (1, ["failed"], "*.png")


def test_json_reports_a_library_that_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(self: Editor, *args: Any, **more: Any) -> Any:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(Editor, "edit", missing)
    assert main(("edit", "a.png", "o.png", *WORDS, "--json")) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["state"], report["code"], report["picture"]) == ("failed", "NOT_INSTALLED", "a.png")


def test_mask_writes_json_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("mask", "a.png", "m.png", *WORDS, "--json", "--soft-map-out", "s.png")) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["state"], sorted(report["results"])) == ("done", ["m.png", "s.png"])
    assert read_record(Path("m.png")) is not None


class Stream(io.TextIOWrapper):
    """A standard stream with bytes below it, as the interpreter's are."""

    def __init__(self, content: bytes = b"", encoding: str = "utf-8", terminal: bool = False) -> None:
        super().__init__(io.BytesIO(content), encoding=encoding, write_through=True)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def content(self) -> bytes:
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue()


def test_a_picture_comes_from_standard_input_and_its_result_goes_to_standard_output(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = Stream(), Stream()
    monkeypatch.setattr(sys, "stdin", Stream(Path("a.png").read_bytes()))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert main(("edit", "-", "-", *WORDS)) == 0
    with Image.open(io.BytesIO(out.content)) as image:
        edited = np.asarray(image)
    before = pixels_of("a.png")
    assert (edited[3, 3] == 9).all()
    assert np.array_equal(edited[7:], before[7:])
    assert b"evaluations" in err.content


@pytest.mark.parametrize(
    "arguments",
    [
        ("edit", "-", "o.png", "--mask", "-"),
        ("edit", "a.png", "-", "--json"),
        ("edit", "a.png", "-", "--variations", "2"),
        ("edit", "*.png", "-"),
        ("mask", "-", "m.png", "--selection", "-"),
        ("mask", "a.png", "-", "--json"),
    ],
    ids=" ".join,
)
def test_one_stream_holds_one_thing(folder: Path, arguments: tuple[str, ...]) -> None:
    wrong_usage(*arguments, *WORDS)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_output_that_the_terminal_cannot_encode_does_not_stop_the_edit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, json_too: tuple[str, ...]
) -> None:
    out = Stream(encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", Stream(encoding=encoding, terminal=True))
    os.rename("a.png", "café – 猫.png")
    assert main(("edit", "café – 猫.png", "o.png", *WORDS, *json_too)) == 0
    if json_too:
        assert json.loads(out.content.decode(encoding))["picture"] == "café – 猫.png"
    assert main(("edit", "*.png", "out", *WORDS, *json_too)) == 0


@pytest.mark.parametrize("fails", [False, True])
def test_the_line_of_progress_is_cleared_however_the_edit_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    err = Stream(terminal=True)
    monkeypatch.setattr(sys, "stderr", err)
    if fails:
        real = Editor.edit

        def edit(self: Editor, *args: Any, **more: Any) -> Any:
            real(self, *args, **more)
            raise BadInputError("Too late.")

        monkeypatch.setattr(Editor, "edit", edit)
    assert main(("edit", "a.png", "o.png", *WORDS)) == int(fails)
    shown = err.content.decode()
    assert "\rediting 1/2" in shown
    assert shown.rpartition("editing")[2].partition("\x1b[K")[2].startswith("\r\x1b[K")


def test_a_pipe_that_nobody_reads_ends_the_program_in_silence(folder: Path) -> None:
    command = f"{sys.executable} -m diffedit_backend.cli models; exit $?"
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(["sh", "-c", command], stdout=writer, stderr=subprocess.PIPE, text=True, env=environment())
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (141, "")


def environment() -> dict[str, str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": paths}


def test_a_broken_pipe_is_silent_with_exit_code_141(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(args: Any) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("diffedit_backend.cli.models.run", broken)
    monkeypatch.setattr("diffedit_backend.cli.program.abandon_output", lambda: None)
    assert main(("models",)) == 141
    assert capfd.readouterr().err == ""


def test_a_fault_of_the_system_is_a_sentence_with_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(args: Any) -> int:
        raise PermissionError(13, "Permission denied", "/somewhere")

    monkeypatch.setattr("diffedit_backend.cli.models.run", refused)
    assert main(("models", "--json")) == 1
    printed = capsys.readouterr()
    assert printed.err == "diffedit: '/somewhere': Permission denied.\n"
    assert json.loads(printed.out)["state"] == "failed"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_what_the_shell_evaluates(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("completion", shell)) == 0
    assert "diffedit" in capsys.readouterr().out


def test_commands_options_and_choices_are_completed(folder: Path) -> None:
    def completed(line: str) -> set[str]:
        asked = {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_STDOUT_FILENAME": "answer",
            "COMP_LINE": line,
            "_ARGCOMPLETE_IFS": "\n",
        }
        more = environment() | asked | {"COMP_POINT": str(len(line)), "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
        subprocess.run([sys.executable, "-m", "diffedit_backend.cli"], env=more, capture_output=True, check=True)
        return set(Path("answer").read_text().split("\n"))

    assert completed("diffedit e") == {"edit"}
    assert "--overwrite" in completed("diffedit edit a.png b.png --ov")
    assert completed("diffedit edit a.png b.png --quality d") == {"draft"}


def connect_to(source: str) -> str:
    from diffedit_backend.cli.arguments import connection_of

    return connection_of(source).endpoint


def test_a_connection_line_comes_from_a_file_the_environment_or_standard_input(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from diffedit_protocol.connection import Connection, KeyPair

    invited = Connection.invite("tcp://gpu1:5599", KeyPair.generate().public, "anna")
    Path("line").touch(0o600)
    Path("line").write_text(f"{invited.to_line()}\n")
    assert connect_to("line") == "tcp://gpu1:5599"
    assert capsys.readouterr().err == ""
    Path("line").chmod(0o644)
    connect_to("line")
    assert "Others may read 'line', which holds a secret key: chmod 600 'line'" in capsys.readouterr().err
    invited.save(folder / "kept.json")  # as the plugin keeps it
    assert connect_to("kept.json") == "tcp://gpu1:5599"
    monkeypatch.setenv("DIFFEDIT_CONNECT", invited.to_line())
    assert connect_to("") == "tcp://gpu1:5599"
    monkeypatch.setattr(sys, "stdin", Stream(invited.to_line().encode()))
    assert connect_to("-") == "tcp://gpu1:5599"
    with pytest.raises(BadInputError, match="--connect names the file 'none', which cannot be read: No such file"):
        connect_to("none")


def test_a_backend_that_is_full_is_remarked_once_for_each_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    remarks = BusyRemarks()
    for error in (BusyError("The backend's queue is full: 4 jobs wait."), BusyError("You have 16 unfinished jobs.")):
        for seconds in (12.3, 12.2):
            remarks(error, seconds)
    assert capsys.readouterr().err.splitlines() == [
        "diffedit: The backend's queue is full: 4 jobs wait. Trying again in 12 s.",
        "diffedit: You have 16 unfinished jobs. Trying again in 12 s.",
    ]


def test_over_a_connection_the_model_travels_in_the_request(
    folder: Path, painted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("edit", "a.png", "o.png", *WORDS, "--model", "sd15", "--connect")
    assert main(arguments) == 0
    assert main(("edit", "*.png", "out", *WORDS, "--model", "sd15", "--connect")) == 0
    assert main(("edit", "a.png", "o.png", *WORDS, "--connect")) == 0
    assert [request.model for request in painted] == ["sd15", "sd15", "sd15", "sd15", ""]
    record = read_record(Path("out/a.png"))
    assert record is not None
    assert record["made_by"]["model"] == "sd15"
