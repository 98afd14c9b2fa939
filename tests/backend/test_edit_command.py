"""`diffedit edit` and `diffedit mask` on files, with the bundled model, as a person types them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffedit_backend.bundled import samples_folder
from diffedit_backend.cli.pictures.outputs import read_record
from diffedit_backend.cli.program import main
from PIL import Image

TEXTS = ["--source", "a horse on grass", "--target", "a zebra on grass", "--quality", "draft"]


@pytest.fixture(autouse=True)
def the_thread_count_is_put_back():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def horse():
    return samples_folder() / "horse.png"


def opened(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_an_inversion_text_is_heard_and_recorded_and_refused_over_a_link(horse, tmp_path, capsys):
    plain, own = tmp_path / "plain.png", tmp_path / "own.png"
    assert main(["edit", str(horse), str(plain), *TEXTS]) == 0
    assert main(["edit", str(horse), str(own), *TEXTS, "--inversion", "a brown horse on grass"]) == 0
    assert not np.array_equal(opened(plain), opened(own))
    assert read_record(own)["made_by"]["inversion"] == "a brown horse on grass"
    assert "inversion" not in read_record(plain)["made_by"]
    with pytest.raises(SystemExit) as ended:
        main(["edit", str(horse), str(own), *TEXTS, "--inversion", "a horse", "--connect"])
    assert ended.value.code == 2
    assert "--inversion is for edits in this process" in capsys.readouterr().err


def test_an_edit_changes_the_horse_and_nothing_else(horse, tmp_path, capsys):
    out, mask = tmp_path / "out.png", tmp_path / "mask.png"
    assert main(["edit", str(horse), str(out), *TEXTS, "--mask-out", str(mask), "--seed", "7"]) == 0
    before, after, found = opened(horse), opened(out), opened(mask)
    assert found.shape == before.shape[:2]
    assert 0.02 < (found > 0).mean() < 0.6
    assert np.array_equal(after[found == 0], before[found == 0])
    assert np.abs(after[found == 255].astype(int) - before[found == 255]).mean() > 10
    assert "seed 7" in capsys.readouterr().out


def test_a_mask_that_was_found_can_be_handed_to_an_edit(horse, tmp_path):
    mask, out, used = (tmp_path / f"{name}.png" for name in ("mask", "out", "used"))
    assert main(["mask", str(horse), str(mask), *TEXTS]) == 0
    assert main(["edit", str(horse), str(out), *TEXTS, "--mask", str(mask), "--mask-out", str(used)]) == 0
    assert np.array_equal(opened(used), opened(mask))


def test_variations_are_written_beside_each_other(horse, tmp_path):
    assert main(["edit", str(horse), str(tmp_path / "out.png"), *TEXTS, "--variations", "2"]) == 0
    first, second = opened(tmp_path / "out-1.png"), opened(tmp_path / "out-2.png")
    assert not np.array_equal(first, second)


def test_several_strengths_in_one_run_share_all_but_the_edit(horse, tmp_path, capsys):
    assert main(["edit", str(horse), str(tmp_path / "out.png"), *TEXTS, "--strength", "0.5,0.8"]) == 0
    assert not np.array_equal(opened(tmp_path / "out-s0.5.png"), opened(tmp_path / "out-s0.8.png"))
    assert read_record(tmp_path / "out-s0.5.png")["made_by"]["strength"] == 0.5
    reported = [line for line in capsys.readouterr().out.splitlines() if "evaluations" in line]
    # Draft: 10 steps and 2 maps. The higher one first: 4 for the maps, 4 inverting 8 levels, 13 editing, 4 looking;
    # then 5 levels, 3 of which ask what guidance leads away from.
    assert [" 25 evaluations" in reported[0], " 8 evaluations" in reported[1]] == [True, True]


def test_a_grey_picture_stays_grey_and_that_is_reported(horse, tmp_path, capsys):
    with Image.open(horse) as image:
        image.convert("L").save(tmp_path / "grey.png")
    assert main(["edit", str(tmp_path / "grey.png"), str(tmp_path / "out.png"), *TEXTS, "--threshold", "0.3"]) == 0
    assert opened(tmp_path / "out.png").ndim == 2
    assert "grey" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--source", "a horse", "--target", "a horse"], "Both texts are the same"),
        (["--source", "a horse", "--target", "a zebra", "--model", "nowhere"], "There is no model 'nowhere'"),
        (["--source", "a horse", "--target", "a zebra", "--device", "cuda:7"], "is not available here"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_code_1(horse, tmp_path, capsys, arguments, says):
    assert main(["edit", str(horse), str(tmp_path / "out.png"), *arguments]) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


def test_a_file_of_no_bytes_is_refused_before_a_model_is_loaded(tmp_path, capsys):
    (tmp_path / "empty.png").touch()
    assert main(["edit", str(tmp_path / "empty.png"), str(tmp_path / "out.png"), *TEXTS]) == 1
    assert "0 bytes" in capsys.readouterr().err
