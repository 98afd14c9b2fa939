"""The whole command, on a small model with random weights: nothing is found well, everything is measured."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffedit_backend import editing
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.method.mask import feather, grow
from diffedit_backend.models import LoadedModel, load_model
from diffedit_backend.types import Plane
from diffedit_bench.quality import command as quality
from diffedit_bench.quality.cases import bundled_cases
from diffedit_bench.quality.editors import Edited
from diffedit_bench.quality.ours import GivenMaskEditor, MaskOf
from diffedit_bench.quality.roster import KRITAS_FEATHER, KRITAS_GROW, make_editors
from diffedit_bench.speed.models import random_components
from diffedit_protocol.errors import BadInputError
from diffusers import StableDiffusionPipeline
from PIL import Image

EDITORS = "ours,library,copy,true-mask,no-inversion,truth-vae"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    parts = random_components("tiny", torch.float32)
    parts = {name: part for name, part in parts.items() if name != "inverse_scheduler"}
    pipeline = StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(model_folder: Path) -> LoadedModel:
    return load_model(model_folder, "cpu")


def bench(out: Path, model: Path, *more: str) -> Any:
    """Run the command as `diffedit bench quality` does; returns report.json."""
    parser = argparse.ArgumentParser()
    quality.add_arguments(parser)
    assert quality.run(parser.parse_args(["--out", str(out), "--model", str(model), "--device", "cpu", *more])) == 0
    return json.loads((out / "report.json").read_text())


@pytest.mark.slow
def test_a_run_measures_every_editor_and_goes_on_where_it_stopped(tmp_path: Path, model_folder: Path) -> None:
    options = ("--editors", EDITORS, "--ratios", "0.5", "--sheet", "1")
    first = bench(tmp_path, model_folder, "--cases", "1", *options)
    rows = (tmp_path / "rows.jsonl").read_text()
    report = bench(tmp_path, model_folder, "--cases", "2", *options)
    assert (tmp_path / "rows.jsonl").read_text().startswith(rows)
    assert list(report["editors"]) == EDITORS.split(",")
    assert {name: found["cases"] for name, found in report["editors"].items()} == dict.fromkeys(report["editors"], 2)
    assert first["editors"]["ours"]["cases"] == 1
    evaluations = {name: found["evaluations"]["value"] for name, found in report["editors"].items()}
    assert evaluations["library"] == 200
    assert evaluations["copy"] == 0
    assert 0 < evaluations["no-inversion"] < evaluations["ours"] < 200
    exact = {name: found["outside_exact"]["value"] for name, found in report["editors"].items()}
    assert all(share == (0 if name == "library" else 1) for name, share in exact.items())
    assert [point["ratio"] for point in report["curves"]["ours"]] == [0.5, 0.8]
    assert report["judge"]["held_out_accuracy"]["thing"] > 0.9
    for picture in ("editors.png", "curves.png", "sheet-ours.png", "sheet-library.png"):
        Image.open(tmp_path / picture).verify()
    assert "| ours | 2 |" in (tmp_path / "report.md").read_text()
    with pytest.raises(BadInputError, match="seed 0; this one has 1"):
        bench(tmp_path, model_folder, "--seed", "1", *options)


@pytest.mark.slow
def test_pie_bench_runs_from_a_folder_and_says_what_was_not_run(tmp_path: Path, model_folder: Path) -> None:
    source = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    path = "0_random_140/000000000000.png"
    entry = {"image_path": path, "original_prompt": "a [cat]", "editing_prompt": "a [dog]", "editing_type_id": "0"}
    folder, out = tmp_path / "pie", tmp_path / "out"
    (folder / "annotation_images" / path).parent.mkdir(parents=True)
    Image.fromarray(source).save(folder / "annotation_images" / path)
    (folder / "mapping_file.json").write_text(json.dumps({"000000000000": {**entry, "mask": [40, 400]}}))
    report = bench(out, model_folder, "--pie-bench", str(folder), "--editors", "copy,ours,library")
    assert report["columns"] == [
        "structure_distance",
        "psnr_unedit_part",
        "lpips_unedit_part",
        "mse_unedit_part",
        "ssim_unedit_part",
        "clip_similarity_target_image",
        "clip_similarity_target_image_edit_part",
    ]
    copy, library = report["editors"]["copy"], report["editors"]["library"]
    assert copy["mse_unedit_part"]["value"] == 0
    assert copy["masked_psnr"]["value"] == 100
    assert library["psnr_unedit_part"]["value"] > library["masked_psnr"]["value"]
    assert report["kinds"]["random"]["ours"]["cases"] == 1
    text = (out / "report.md").read_text()
    for name in report["missing"]:
        assert report["missing"][name] in text
    assert np.array_equal(np.asarray(Image.open(out / "copy" / "annotation_images" / path)), source)
    with pytest.raises(BadInputError, match="knows no true edits"):
        bench(out, model_folder, "--pie-bench", str(folder), "--editors", "truth")


def test_the_random_mask_has_the_true_ones_area_and_the_whole_picture_has_no_border(model: LoadedModel) -> None:
    cases = bundled_cases(3, 0, 32)
    for name in cases.names:
        case = cases.load(name)
        true, random, whole = (
            editor.edit(case, 0.4) for editor in make_editors(["true-mask", "random-mask", "whole-picture"], model)
        )
        assert np.array_equal(true.mask > 0, case.mask)
        assert np.count_nonzero(random.mask) == np.count_nonzero(true.mask)
        assert whole.mask.all()
        assert not np.array_equal(random.mask, true.mask) or true.mask.all()
        assert np.array_equal(true.delivered[true.mask == 0], case.source[true.mask == 0])


def test_an_editor_gives_the_same_edit_twice(model: LoadedModel) -> None:
    case = bundled_cases(1, 0, 32).load("swap-0000")
    for name in ("ours", "library", "no-inversion"):
        editor = make_editors([name], model)[0]
        first, second = editor.edit(case, 0.5), make_editors([name], model)[0].edit(case, 0.5)
        assert np.array_equal(first.delivered, second.delivered)
        assert np.array_equal(first.mask, second.mask)


def test_editors_that_ask_for_more_have_another_soft_map_or_another_mask_of_the_same(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_ground(soft_map: Plane, selection: Plane | None = None) -> bool:
        """Of some maps and not of others: those of a network of random weights are all high along the border."""
        return bool(soft_map.sum(dtype=int) % 2)

    monkeypatch.setattr(editing, "is_ground", is_ground)
    cases = bundled_cases(8, 0, 32)
    editors = make_editors(("ours", "ours-attention", "ours-grown", "ours-krita"), model)
    wider = grounds = 0
    for name in cases.names:
        ours, recorded, grown, kritas = (editor.edit(cases.load(name), 0.1) for editor in editors)
        assert not np.array_equal(recorded.soft_map, ours.soft_map)
        assert np.array_equal(grown.soft_map, ours.soft_map)
        assert np.array_equal(grown.mask, grow(ours.mask, model.factor // 2))
        assert np.array_equal(kritas.soft_map, ours.soft_map)
        wide, soft = round(KRITAS_GROW * model.factor), round(KRITAS_FEATHER * model.factor)
        widened = ours.mask if is_ground(ours.soft_map) else grow(ours.mask, wide)
        assert np.array_equal(kritas.mask, feather(widened, soft))
        grounds += is_ground(ours.soft_map)
        wider += not np.array_equal(grown.mask, ours.mask)
    assert wider > 0
    assert 0 < grounds < len(cases.names)


def test_editors_without_ours_need_no_word_about_curves(tmp_path: Path, model_folder: Path) -> None:
    assert bench(tmp_path, model_folder, "--cases", "1", "--editors", "copy", "--sheet", "1")["curves"] == {}


def test_what_no_one_can_run_is_refused_before_anything_runs(tmp_path: Path, model_folder: Path) -> None:
    with pytest.raises(BadInputError, match="There is no editor 'theirs'"):
        bench(tmp_path, model_folder, "--editors", "ours,theirs")
    with pytest.raises(BadInputError, match="'library', which is not among the editors"):
        bench(tmp_path, model_folder, "--editors", "ours", "--curves", "library")
    with pytest.raises(BadInputError, match="--cases must be at least 1, not 0"):
        bench(tmp_path, model_folder, "--cases", "0")
    with pytest.raises(SystemExit):
        bench(tmp_path, model_folder, "--ratios", "1.2")
    with pytest.raises(SystemExit):
        bench(tmp_path, model_folder, "--kinds", "wish")
    assert not (tmp_path / "rows.jsonl").exists()


def test_with_the_found_mask_for_a_given_one_an_edit_is_ours(model: LoadedModel) -> None:
    cases = bundled_cases(4, 0, 32)
    engine = DiffEditEngine(model)
    for name in cases.names:
        case = cases.load(name)
        ours = make_editors(["ours"], model)[0].edit(case, 0.3)
        given = GivenMaskEditor("given", engine, found_by(ours)).edit(case, 0.3)
        assert np.array_equal(given.delivered, ours.delivered), name


def found_by(edited: Edited) -> MaskOf:
    return lambda _: edited.mask
