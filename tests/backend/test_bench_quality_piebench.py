"""PIE-Bench from a small folder in its published layout, and its figures beside a second way to compute them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffedit_bench.quality import piebench as published
from diffedit_bench.quality.editors import Edited
from diffedit_bench.quality.metrics import mse, psnr
from diffedit_bench.quality.perceptual import Perceptual, clip_score, load_perceptual, structure_distance
from diffedit_bench.quality.piebench import decode_mask, pie_bench_cases, scored_mask
from diffedit_bench.speed.models import letter_tokenizer
from diffedit_protocol.errors import BadInputError
from numpy.typing import NDArray
from PIL import Image

SIDE = 48


def noise(seed: int, side: int = SIDE) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def entry(path: str, kind: str, mask: list[int]) -> dict[str, Any]:
    return {
        "image_path": path,
        "original_prompt": "a [round] cake",
        "editing_prompt": "a [square] cake",
        "editing_instruction": "make the cake square",
        "editing_type_id": kind,
        "blended_word": "cake cake",
        "mask": mask,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    mapping = {
        "000000000000": entry("0_random_140/000000000000.png", "0", [10 * SIDE + 5, 20, 11 * SIDE + 5, 20]),
        "611000000001": entry("6_change_attribute_color_40/1_artificial/611000000001.png", "6", [0, SIDE * SIDE]),
    }
    for i, found in enumerate(mapping.values()):
        path = tmp_path / "annotation_images" / found["image_path"]
        path.parent.mkdir(parents=True)
        Image.fromarray(noise(i)).save(path)
    (tmp_path / "mapping_file.json").write_text(json.dumps(mapping))
    return tmp_path


def test_cases_are_read_without_brackets_with_their_masks_and_kinds(folder: Path) -> None:
    cases = pie_bench_cases(folder, seed=7)
    first, second = (cases.load(name) for name in cases.names)
    assert (first.name, first.kind, second.kind) == ("000000000000", "random", "change colour")
    assert (first.source_text, first.target_text, first.seed) == ("a round cake", "a square cake", 7)
    assert np.array_equal(first.source, noise(0))
    assert first.mask is not None
    assert second.mask is not None
    rows, columns = np.nonzero(first.mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 11, 5, 24)
    assert second.mask.all()


def test_a_run_ends_with_the_picture_and_a_broken_code_is_refused() -> None:
    assert decode_mask([7, 100], 3, 3).sum() == 2
    with pytest.raises(ValueError, match="3 numbers"):
        decode_mask([0, 1, 2], 3, 3)
    with pytest.raises(ValueError, match="starts at -1"):
        decode_mask([-1, 1], 3, 3)


def test_a_folder_in_another_layout_is_refused_with_what_is_missing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="is not there"):
        pie_bench_cases(tmp_path / "elsewhere", 0)
    mapping = json.loads((folder / "mapping_file.json").read_text())
    (folder / "annotation_images" / mapping["000000000000"]["image_path"]).unlink()
    with pytest.raises(BadInputError, match=r"000000000000\.png is not there"):
        pie_bench_cases(folder, 0).load("000000000000")
    del mapping["000000000000"]["mask"]
    (folder / "mapping_file.json").write_text(json.dumps(mapping))
    with pytest.raises(BadInputError, match="has no 'mask'"):
        pie_bench_cases(folder, 0)


def test_the_border_counts_as_edited_and_the_mask_itself_stays_as_drawn() -> None:
    mask = np.zeros((6, 7), bool)
    assert scored_mask(mask).sum() == 6 * 7 - 4 * 5
    assert not mask.any()


def test_published_psnr_is_the_masked_one_raised_by_the_size_of_the_mask() -> None:
    region = np.zeros((SIDE, SIDE), bool)
    region[:12] = True  # a quarter of the frame is background
    error = mse(noise(0), noise(1), region)
    assert error is not None
    assert published.published_psnr(noise(0), noise(1), region) == pytest.approx(psnr(error) + 10 * np.log10(4))
    assert published.published_mse(noise(0), noise(1), region) == pytest.approx(error / 4)


def test_published_ssim_is_the_formula_over_windows_of_eleven_px() -> None:
    region = np.zeros((SIDE, SIDE), bool)
    region[:, 10:40] = True
    offsets = torch.arange(-5, 6, dtype=torch.float64)
    line = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    window = (line[:, None] * line[None] / line.sum() ** 2).expand(3, 1, 11, 11)

    def mean(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(x, window, groups=3)

    a, b = (torch.from_numpy(published.kept(noise(seed), region)).double().permute(2, 0, 1)[None] for seed in (0, 1))
    covariance, variances = mean(a * b) - mean(a) * mean(b), mean(a * a) + mean(b * b) - mean(a) ** 2 - mean(b) ** 2
    c1, c2 = 0.01**2, 0.03**2
    expected = (
        (2 * mean(a) * mean(b) + c1) * (2 * covariance + c2) / ((mean(a) ** 2 + mean(b) ** 2 + c1) * (variances + c2))
    )
    assert published.published_ssim(noise(0), noise(1), region) == pytest.approx(float(expected.mean()), abs=1e-5)


def test_a_case_without_background_has_no_background_figures(folder: Path) -> None:
    case = pie_bench_cases(folder, 0).load("611000000001")
    edited = Edited(noise(5), np.full((SIDE, SIDE), 255, np.uint8))
    scores = published.score_pie_bench(case, "x", 0.8, edited, Perceptual()).scores
    assert scores["psnr_unedit_part"] is scores["masked_psnr"] is scores["ssim_unedit_part"] is None
    assert scores["iou"] == 1


def test_clip_sees_nothing_but_the_edited_part_and_lpips_nothing_of_it(folder: Path) -> None:
    case = pie_bench_cases(folder, 0).load("000000000000")
    assert case.mask is not None
    mask = scored_mask(case.mask)
    seen: dict[str, Any] = {}

    def clip(picture: NDArray[np.uint8], text: str) -> float:
        seen[text] = picture
        return 1.0

    def lpips(picture: NDArray[np.float32], other: NDArray[np.float32]) -> float:
        seen["lpips"] = other
        return 0.5

    edited = Edited(noise(5), np.where(mask, np.uint8(255), np.uint8(0)))
    scores = published.score_pie_bench(case, "x", 0.8, edited, Perceptual(None, lpips, clip)).scores
    part = seen["a square cake"]  # the edited part is asked last
    assert np.array_equal(part[mask], noise(5)[mask])
    assert not part[~mask].any()
    assert not seen["lpips"][mask].any()
    assert scores["lpips_unedit_part"] == 0.5
    assert scores["structure_distance"] is None


def test_clip_score_is_the_cosine_with_a_text_cut_at_the_models_length() -> None:
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**small, "vocab_size": 60, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    network = CLIPModel(config).eval()

    class Processor:
        tokenizer = letter_tokenizer()

        @staticmethod
        def image_processor(picture: NDArray[np.uint8], return_tensors: str) -> dict[str, torch.Tensor]:
            return {"pixel_values": torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255}

    short, long = "a cake", "a cake with a great many words"
    scores = [clip_score(network, Processor, noise(0, 32), text) for text in (short, long)]
    assert all(0 <= score <= 100 for score in scores)
    ids = Processor.tokenizer([long], return_tensors="pt").input_ids[:, :8]
    with torch.no_grad():
        output = network(input_ids=ids, pixel_values=Processor.image_processor(noise(0, 32), "pt")["pixel_values"])
    assert scores[1] == pytest.approx(max(0.0, 100 * float((output.image_embeds * output.text_embeds).sum())), abs=1e-4)


def test_structure_distance_compares_the_last_layers_keys() -> None:
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=64, patch_size=32
    )
    network = ViTModel(config, add_pooling_layer=False).eval()
    assert structure_distance(network, noise(0, 64), noise(0, 64)) == 0
    found = structure_distance(network, noise(0, 64), noise(1, 64))
    layers = dict(network.named_modules())
    last = next(name for name in reversed(layers) if name.rpartition(".")[2] in ("key", "k_proj"))
    with torch.no_grad():
        layers[last].weight.mul_(-1)
        layers[last].bias.mul_(-1)
    assert structure_distance(network, noise(0, 64), noise(1, 64)) == pytest.approx(found)
    with torch.no_grad():
        layers[last].weight.zero_()
        layers[last].bias.fill_(1)
    assert 0 < found < 4
    assert structure_distance(network, noise(0, 64), noise(1, 64)) == pytest.approx(0, abs=1e-12)


def test_missing_weights_are_named_instead_of_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    found = load_perceptual(torch.device("cpu"), fetch=False)
    assert (found.structure, found.lpips, found.clip) == (None, None, None)
    assert found.missing.keys() == {"structure", "lpips", "clip"}
    assert all(reason.startswith("not run: ") for reason in found.missing.values())
    assert "facebook/dino-vitb8 is not in the hub's cache" in found.missing["structure"]
