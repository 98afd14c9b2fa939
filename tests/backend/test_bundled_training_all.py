"""The stage "all": one command from nothing to a model that loads and edits, made on the CPU in a few steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffedit_backend.editing import edit_picture
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.models import load_model
from diffedit_backend.outcome import paste
from diffedit_bench.quality.cases import bundled_cases
from diffedit_protocol.errors import BadInputError
from diffedit_protocol.messages import EditRequest
from diffedit_training.budget import load_checkpoint
from diffedit_training.denoiser import BEST, Keeper, Model, Run
from diffedit_training.distributed import DistributedGroup
from diffedit_training.examples import Batch
from diffedit_training.flow import NoiseLevels
from diffedit_training.judge import Judge
from diffedit_training.pairs import coverage_and_labels, training_pair
from diffedit_training.pool import Pool
from diffedit_training.rendering import Recipe, RenderedPairs, Renderers
from diffedit_training.scenes.edition import SECOND
from diffedit_training.scenes.scene import Thing
from diffedit_training.scenes.scenes import Scenes
from diffedit_training.tokenizer import new_tokenizer
from diffedit_training.vae import new_vae

ALONE = DistributedGroup(0, 1, torch.device("cpu"))
SIZE = 64
SOMEWHERE = Thing("owl", 0.5, 0.5, 0.5)
TINY = ("--size", str(SIZE), "--widths", "16,16,32", "--batch", "2", "--pool", "8", "--data-workers", "1")
TINY += ("--judge-scenes", "24", "--score-pairs", "1", "--count", "0")


def _train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "diffedit_training", "--stage", "all", "--folder", str(folder), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=850)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps a stage."""
    folder = tmp_path_factory.mktemp("all")
    done = _train(folder, "--steps", "2", *TINY)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_command_trains_everything_and_the_exported_model_loads_and_edits(trained: Path) -> None:
    model = load_model(str(trained / "exported" / "model"), "cpu")
    assert model.native_size == SIZE
    judge = Judge.load(trained / "exported" / "judge", SECOND)
    (name,) = (cases := bundled_cases(1, 3, model.native_size, judge=judge)).names
    case = cases.load(name)
    assert case.mask is not None
    request = EditRequest(case.source_text, case.target_text, seed=case.seed)
    outcome = edit_picture(DiffEditEngine(model), request, case.source, mask=case.mask.astype(np.uint8) * 255)
    edited = paste(case.source, outcome)
    assert edited.shape == (SIZE, SIZE, 3)
    assert (edited[case.mask] != case.source[case.mask]).any()
    assert judge.thing(edited, SOMEWHERE) in {*SECOND.things, "nothing"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_record_says_what_was_trained_and_how_the_exported_checkpoint_was_chosen(trained: Path) -> None:
    record = json.loads((trained / "exported" / "model" / "training.json").read_text())
    assert (record["edition"], record["picture_size"]) == (2, SIZE)
    assert [(stage["name"], stage["steps"]) for stage in record["stages"]] == [
        ("autoencoder", 2),
        ("UNet and text encoder", 2),
        ("decoder again", 2),
    ]
    assert record["machines"] == [(trained / "machine.txt").read_text()]
    best = load_checkpoint(trained / BEST)
    assert best["score"] == max(row["success"] for row in record["scores"])
    card = (trained / "exported" / "model" / "MODEL_CARD.md").read_text()
    assert "umbrella" in card
    assert f"{SIZE}x{SIZE}" in card
    assert "(16, 16, 32)" in card


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_goes_on_with_the_first_stage_that_is_not_done_and_is_not_begun_again_by_mistake(
    trained: Path,
) -> None:
    before = (trained / "vae.pt").stat().st_mtime_ns, (trained / "unet.pt").stat().st_mtime_ns
    refused = _train(trained, "--steps", "2", *TINY)
    assert refused.returncode != 0
    assert "holds a run already: go on with --resume" in refused.stdout + refused.stderr
    (trained / "decoder.json").unlink()  # as if it had been cut off in its last stage
    (trained / "decoder.pt").unlink()
    done = _train(trained, "--steps", "2", *TINY, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (trained / "decoder.json").is_file()
    assert before == ((trained / "vae.pt").stat().st_mtime_ns, (trained / "unet.pt").stat().st_mtime_ns)


def test_what_other_processes_render_is_what_this_one_renders() -> None:
    recipe = Recipe(SECOND, SIZE, first=40)
    with Renderers(recipe, 1) as renderers:
        pairs = renderers.take(1, wait=True)
        assert pairs is not None
    scenes = Scenes(SIZE, "train", SECOND)
    single = bool(np.random.default_rng((11, 40)).random() < recipe.single)
    for side, scene in enumerate(training_pair(scenes, 40, single)):
        rendered = scenes.render(scene)
        coverage, labels = coverage_and_labels(scene, rendered.masks, SECOND)
        np.testing.assert_array_equal(pairs.pixels[0, side], rendered.pixels)
        np.testing.assert_allclose(pairs.coverage[0, side] / 255, coverage, atol=0.003)
        np.testing.assert_allclose(pairs.labels[0, side] / 255, labels, atol=0.003)
        words = new_tokenizer(SECOND).decode(pairs.token_ids[0, side, 0], skip_special_tokens=True)
        assert all(thing.name in words for thing in scene.things)
    assert renderers.taken == 1
    assert renderers.waited > 0


def test_a_process_that_fails_to_render_ends_the_training_with_its_reason() -> None:
    with (
        Renderers(Recipe(SECOND, SIZE, single=2.0, first=-1), 1) as renderers,  # numbers below 0 are no seeds
        pytest.raises(RuntimeError, match=r"(?s)renders scenes has failed.*ValueError"),
    ):
        renderers.take(1, wait=True)


def _pairs(recipe: Recipe, numbers: range) -> RenderedPairs:
    """Pairs that are told apart by their number, in place of rendered ones."""
    values = {
        name: np.stack([np.full(shape, number, kind) for number in numbers])
        for name, (shape, kind) in recipe.shapes().items()
    }
    return RenderedPairs(**values)


class _Given(Renderers):
    """Renderers that hand out pairs which are there already."""

    def give(self, pairs: RenderedPairs) -> None:
        self.pairs: RenderedPairs | None = pairs

    def take(self, most: int, wait: bool) -> RenderedPairs | None:
        pairs, self.pairs = self.pairs, None
        return pairs


def test_a_pool_keeps_the_newest_pairs_and_gives_the_two_of_a_pair_half_a_batch_apart() -> None:
    recipe = Recipe(SECOND, SIZE)
    pool, renderers = Pool(recipe, 4, ALONE), _Given(recipe, 0)
    torch.manual_seed(0)
    pool.encode_with(new_vae(SIZE).eval())
    for numbers in (range(3), range(3, 6)):
        renderers.give(_pairs(recipe, numbers))
        assert pool.take_in(renderers) == 3
    assert pool.count == 4
    batch = pool.batch(16, uncaptioned=0.0)
    assert batch.latents.shape == (32, 8, SIZE // 8, SIZE // 8)
    assert {int(row[0]) for row in batch.token_ids} <= {2, 3, 4, 5}  # 0 and 1 are the oldest
    torch.testing.assert_close(batch.latents[:16], batch.latents[16:])
    torch.testing.assert_close(batch.labels.sum(1), torch.ones_like(batch.labels[:, 0]))
    without = pool.batch(16, uncaptioned=1.0)
    empty = new_tokenizer(SECOND)("", padding="max_length", max_length=32).input_ids
    assert without.token_ids.tolist() == [empty] * 32
    crops = pool.pictures(5, 32)
    assert crops.shape == (5, 3, 32, 32)
    assert ((crops + 1) * 127.5).round().unique().tolist() == [
        value for value in (2, 3, 4, 5) if (((crops + 1) * 127.5).round() == value).any()
    ]


def _keeper(folder: Path, scores: list[float]) -> Keeper:
    """A keeper whose model is never asked: errors fall at every checkpoint, scores are those given."""
    model = Model(new_tokenizer(SECOND), (16, 16, 32), SIZE, SECOND)
    run = Run(model, [p.detach().clone() for p in model.parameters()], torch.optim.SGD([torch.zeros(1)], 0.1))
    run.scenes, run.size = 2, SIZE
    left = iter(scores)

    class Given:
        def __call__(self, parts: object) -> dict[str, float]:
            return {"success": next(left), "iou": 0.5}

    levels, tokenizer = NoiseLevels.of("v_prediction"), new_tokenizer(SECOND)
    zeros = torch.zeros(2, 8, 8, 8)
    tokens = torch.tensor([tokenizer("an owl", padding="max_length", max_length=32).input_ids] * 2)
    held_out = Batch(zeros, zeros[:, :1], torch.ones(2, 41, 4, 4) / 41, tokens)
    return Keeper(run, ALONE, folder, held_out, levels, new_vae(SIZE), tokenizer, Given)


def test_the_checkpoint_with_the_best_score_is_kept_though_later_ones_have_a_lower_error(tmp_path: Path) -> None:
    keeper = _keeper(tmp_path, [0.5, 0.75, 0.75, 0.25])
    for step in range(4):
        keeper.run.step = step
        keeper.keep(seconds=60.0 * step, scored=True)
    assert load_checkpoint(tmp_path / BEST)["step"] == 2  # of two that are as good, the one that has learned more
    keeper.run.step = 9
    keeper.keep(seconds=600.0, scored=False)
    assert load_checkpoint(tmp_path / BEST)["step"] == 2
    assert load_checkpoint(tmp_path / "unet.pt")["step"] == 9
    history = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert [row["success"] for row in history] == [0.5, 0.75, 0.75, 0.25]


def test_a_judge_that_has_not_been_trained_is_named_with_the_command_that_trains_it(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"no judge of the scenes' edition 2.*--stage judge --scenes 2"):
        Judge.load(tmp_path, SECOND)
