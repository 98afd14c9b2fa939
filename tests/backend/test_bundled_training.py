"""Training can be stopped and resumed to the bit, and what it exports is what it trained."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffedit_backend.method.network import Network
from diffedit_backend.method.schedule import FlowSchedule
from diffedit_backend.method.text import encode_text
from diffedit_backend.models import load_model
from diffedit_protocol.errors import BadInputError
from diffedit_training import autoencoder
from diffedit_training import denoiser as unet
from diffedit_training.autoencoder import StageRun
from diffedit_training.budget import Budget, learning_rate, load_checkpoint
from diffedit_training.distributed import DistributedGroup, launch
from diffedit_training.evaluate import Parts
from diffedit_training.examples import ExampleStore
from diffedit_training.export import averaged_parts, export, model_card
from diffedit_training.flow import FlowTeacher, NoiseLevels
from diffedit_training.pairs import coverage_and_labels, training_pair
from diffedit_training.record import record
from diffedit_training.scenes.scenes import Scenes, is_held_out
from diffedit_training.tokenizer import learn_merges, new_tokenizer
from diffedit_training.vae import new_vae
from diffusers import AutoencoderKL

ALONE = DistributedGroup(0, 1, torch.device("cpu"))
SETTINGS = unet.TrainingSettings(seed=5, batch=1, fresh=1.0)


class PowerCut(Exception):
    """The machine went off."""


class CutBudget(Budget):
    """A budget that saves after every step and ends in a power cut before the third."""

    def progress(self, step: int) -> float:
        if step == 2:
            raise PowerCut
        return super().progress(step)


def _cut_budget() -> Budget:
    return CutBudget(steps=4, minutes=None, save_every=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A training folder with an autoencoder that knows nothing, and a UNet of four steps."""
    path = tmp_path_factory.mktemp("training")
    torch.manual_seed(0)
    new_vae().save_pretrained(path / "vae")
    unet.train(ALONE, path, Budget(4, None), SETTINGS, resume=False)
    return path


def _same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(_same, a, b))
    return a == b


def _state(path: Path) -> dict[str, object]:
    return {name: value for name, value in load_checkpoint(path).items() if name != "seconds"}


def test_a_unet_run_that_was_cut_off_and_resumed_ends_with_the_same_weights(folder, tmp_path):
    (tmp_path / "vae").symlink_to(folder / "vae")
    with pytest.raises(PowerCut):
        unet.train(ALONE, tmp_path, _cut_budget(), SETTINGS, resume=False)
    assert load_checkpoint(tmp_path / "unet.pt")["step"] == 2
    unet.train(ALONE, tmp_path, Budget(4, None), SETTINGS, resume=True)
    assert _same(_state(tmp_path / "unet.pt"), _state(folder / "unet.pt"))


def test_an_autoencoder_run_that_was_cut_off_and_resumed_ends_with_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(autoencoder, "whiten", lambda vae, pictures: None)  # the end of the stage is not the matter
    monkeypatch.setattr(autoencoder, "psnr", lambda vae, pictures: 0.0)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    autoencoder.train_vae(ALONE, StageRun(whole, Budget(4, None), seed=5, batch=2, resume=False))
    with pytest.raises(PowerCut):
        autoencoder.train_vae(ALONE, StageRun(cut, _cut_budget(), seed=5, batch=2, resume=False))
    autoencoder.train_vae(ALONE, StageRun(cut, Budget(4, None), seed=5, batch=2, resume=True))
    assert _same(_state(whole / "vae.pt"), _state(cut / "vae.pt"))


def test_resuming_where_nothing_was_trained_says_which_file_is_missing(tmp_path):
    with pytest.raises(BadInputError, match=r"There is no checkpoint .*vae\.pt: run the stage that writes it"):
        autoencoder.train_vae(ALONE, StageRun(tmp_path, Budget(1, None), seed=0, batch=1, resume=True))


def test_a_budget_is_steps_or_minutes_and_never_both():
    with pytest.raises(BadInputError, match="steps=3, minutes=2"):
        Budget(3, 2)
    with pytest.raises(BadInputError, match="steps=None, minutes=None"):
        Budget(None, None)
    assert Budget(8, None).progress(2) == 0.25


def test_several_workers_on_a_gpu_are_refused():
    with pytest.raises(BadInputError, match="2 workers on cuda"):
        launch(unet.train, 2, "cuda")


def test_the_learning_rate_warms_up_holds_and_falls():
    def rate(step: int, progress: float) -> float:
        return learning_rate(1.0, step, progress, warmup=10, hold=0.5)

    assert rate(0, 0.0) == pytest.approx(0.1)
    assert rate(100, 0.4) == 1.0
    assert rate(100, 0.75) == pytest.approx(0.5)
    assert rate(100, 1.0) == pytest.approx(0.02)


def test_training_pairs_are_never_held_out_and_differ():
    scenes = Scenes()
    for number in range(150):
        scene, other = training_pair(scenes, number, single=number % 2 == 0)
        assert not is_held_out(scene)
        assert not is_held_out(other)
        assert scene != other


def test_labels_are_shares_that_sum_to_one_and_coverage_is_that_of_the_masks():
    scenes = Scenes()
    for seed in range(6):
        scene = scenes.scene(seed, things=2)
        masks = scenes.render(scene).masks
        coverage, labels = coverage_and_labels(scene, masks)
        assert coverage.shape == (1, 16, 16)
        np.testing.assert_allclose(labels.sum(0), np.ones((8, 8)), rtol=1e-5)
        assert coverage.mean().item() == pytest.approx(masks.any(0).mean(), abs=1e-6)


def test_the_export_loads_again_as_the_averaged_weights_in_half_precision(folder, tmp_path):
    size = export(folder, tmp_path / "weights", "# A card\n", {"machines": ["A desk."], "stages": [], "curves": []})
    assert 0 < size <= 40 * 1024 * 1024
    exported, trained = Parts.load(tmp_path / "weights", "cpu"), averaged_parts(folder)
    for name in ("vae", "unet", "text_encoder"):
        ours, theirs = getattr(trained, name).state_dict(), getattr(exported, name).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key].half().float(), theirs[key].float()) for key in ours)
    assert exported.tokenizer("a red car").input_ids == trained.tokenizer("a red car").input_ids
    assert exported.size == 128
    assert (tmp_path / "weights" / "MODEL_CARD.md").read_text() == "# A card\n"
    assert not any("_name_or_path" in file.read_text() for file in (tmp_path / "weights").rglob("config.json"))


def test_scene_numbers_of_workers_do_not_meet(folder):
    run = unet.Run(unet.Model(averaged_parts(folder).tokenizer), [], torch.optim.SGD([torch.zeros(1)], 0.1), step=40)
    settings, rng = unet.TrainingSettings(0, 6, 2.0), np.random.default_rng(0)
    first, second = (
        set(unet.scene_numbers(run, settings, DistributedGroup(rank, 2, torch.device("cpu")), False, rng))
        for rank in (0, 1)
    )
    assert not first & second


def test_the_tokenizer_gives_the_same_numbers_in_every_process():
    ids = new_tokenizer()("a red car and an apple on grass").input_ids
    assert ids == [213, 42, 196, 142, 94, 107, 123, 187, 160, 214]
    assert learn_merges(["ab", "abc"]) == [("a", "b"), ("a", "b</w>"), ("ab", "c</w>")]


def test_a_run_that_starts_from_an_export_has_its_weights_and_its_record(folder, tmp_path):
    (folder / "machine.txt").write_text("A desk.")
    export(folder, tmp_path / "weights", model_card(folder), record(folder))

    settings = unet.TrainingSettings(seed=6, batch=1, fresh=1.0, start=tmp_path / "weights")
    (tmp_path / "next").mkdir()
    unet.train(ALONE, tmp_path / "next", Budget(0, None), settings, resume=False)
    (tmp_path / "next" / "machine.txt").write_text("Another desk.")

    before, after = averaged_parts(folder), averaged_parts(tmp_path / "next")
    for name in ("vae", "unet", "text_encoder"):
        theirs = getattr(after, name).state_dict()
        assert all(
            torch.equal(value.half().float(), theirs[key]) for key, value in getattr(before, name).state_dict().items()
        )
    runs = record(tmp_path / "next")
    assert runs["machines"] == ["A desk.", "Another desk."]
    assert [(stage["name"], stage["steps"], stage["seed"]) for stage in runs["stages"]] == [
        ("UNet and text encoder", 4, 5),
        ("UNet and text encoder", 0, 6),
    ]
    assert "2. Another desk." in model_card(tmp_path / "next")


FLOW = unet.TrainingSettings(seed=5, batch=1, fresh=1.0, prediction="flow")


def test_a_flow_run_is_resumed_to_the_same_weights_and_exported_as_a_flow_that_loads(folder, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for path in (whole, cut):
        path.mkdir()
        (path / "vae").symlink_to(folder / "vae")
    unet.train(ALONE, whole, Budget(4, None), FLOW, resume=False)
    with pytest.raises(PowerCut):
        unet.train(ALONE, cut, _cut_budget(), FLOW, resume=False)
    with pytest.raises(BadInputError, match="prediction 'flow', not 'v_prediction'"):
        unet.train(ALONE, cut, Budget(4, None), SETTINGS, resume=True)
    unet.train(ALONE, cut, Budget(4, None), FLOW, resume=True)
    assert _same(_state(cut / "unet.pt"), _state(whole / "unet.pt"))
    (cut / "machine.txt").write_text("A machine of this test.")
    card = model_card(cut)
    assert "rectified flow" in card
    export(cut, tmp_path / "exported", card, record(cut))
    loaded = load_model(str(tmp_path / "exported"), "cpu")
    assert loaded.schedule == FlowSchedule()
    level = loaded.schedule.level_at(0.5, 256)
    latents = torch.randn(1, 8, 16, 16)
    reported = Network(loaded).predict(latents, level, [encode_text(loaded, "a cat")])
    ours = averaged_parts(cut)
    with torch.no_grad():
        wanted = ours.unet(latents, 500.0, ours.embed(["a cat"])).sample
    assert torch.allclose(reported, wanted, atol=0.02)  # exported in half precision


def test_a_teacher_of_v_prediction_tells_the_velocity_of_the_flow_that_it_is():
    data, noise = torch.randn(3, 8, 4, 4), torch.randn(3, 8, 4, 4)
    levels = NoiseLevels.of("v_prediction")
    times = torch.tensor([100, 500, 900])
    alpha, sigma = levels.alpha[times].view(-1, 1, 1, 1), levels.sigma[times].view(-1, 1, 1, 1)

    class Exact(torch.nn.Module):
        def forward(self, x, at, states):
            assert torch.allclose(at, times.float(), atol=1e-2)
            assert torch.allclose(x, alpha * data + sigma * noise, atol=1e-3)
            return SimpleNamespace(sample=alpha * noise - sigma * data)

    class Texts(torch.nn.Module):
        def forward(self, ids):
            return SimpleNamespace(last_hidden_state=ids)

    teacher = FlowTeacher(Exact(), Texts())
    s = sigma / (alpha + sigma)
    reported = teacher.corrected(torch.zeros_like(data), (1 - s) * data + s * noise, s, torch.zeros(3, 2))
    assert torch.allclose(reported, noise - data, atol=1e-3)
    drawn = torch.ones_like(data)
    beyond = torch.full((3, 1, 1, 1), 0.99)
    assert torch.equal(_silent(teacher).corrected(drawn, drawn, beyond, torch.zeros(3, 2)), drawn)


def _silent(teacher):
    """The teacher with a network that takes whatever it is given."""
    teacher.unet = lambda x, at, states: SimpleNamespace(sample=x)
    return teacher


def test_the_export_is_of_the_checkpoint_with_the_lowest_held_out_error(folder, tmp_path):
    (tmp_path / "vae").symlink_to(folder / "vae")
    unet.train(ALONE, tmp_path, Budget(1, None), SETTINGS, resume=False)
    best, last = (load_checkpoint(tmp_path / name) for name in (unet.BEST, "unet.pt"))
    assert best["best"] > 0
    assert _same(best["average"], last["average"])
    last["average"] = [torch.zeros_like(part) for part in last["average"]]  # a last checkpoint that got worse
    torch.save(last, tmp_path / "unet.pt")
    exported = list(averaged_parts(tmp_path).unet.parameters())
    kept = best["average"][: len(exported)]
    assert any(part.abs().max() > 0 for part in exported)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(exported, kept, strict=True))


def test_the_held_out_error_is_the_same_twice_and_leaves_the_weights_and_the_random_state(folder):
    model = unet.Model(new_tokenizer())
    run = unet.Run(model, [p.detach() * 0.5 for p in model.parameters()], torch.optim.SGD([torch.zeros(1)], 0.1))
    store = ExampleStore(AutoencoderKL.from_pretrained(folder / "vae"), new_tokenizer(), ALONE)
    batch, levels = unet.held_out_batch(store, 2), unet.NoiseLevels.of("v_prediction")
    before = [p.detach().clone() for p in model.parameters()]
    state = torch.get_rng_state()
    first = unet.held_out_error(run, ALONE, batch, levels)
    assert first == unet.held_out_error(run, ALONE, batch, levels)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_wider_run_is_exported_wide_and_not_resumed_narrow(folder, tmp_path):
    (tmp_path / "vae").symlink_to(folder / "vae")
    wide = unet.TrainingSettings(seed=5, batch=1, fresh=1.0, widths=(32, 32, 48), min_snr=5.0)
    unet.train(ALONE, tmp_path, Budget(1, None), wide, resume=False)
    assert tuple(averaged_parts(tmp_path).unet.config.block_out_channels) == (32, 32, 48)
    with pytest.raises(BadInputError, match=r"widths \(32, 32, 48\), not \(64, 128, 192\): give --widths"):
        unet.train(ALONE, tmp_path, Budget(2, None), SETTINGS, resume=True)


def test_scenes_that_other_processes_render_are_those_that_this_one_renders():
    scenes = Scenes()
    wanted = [scenes.scene(number) for number in range(6)]
    store = ExampleStore(None, None, ALONE, data_workers=1)
    for scene, rendered in zip(wanted, store._rendered(wanted), strict=True):
        assert np.array_equal(scenes.render(scene).pixels, rendered.pixels)
        assert np.array_equal(scenes.render(scene).masks, rendered.masks)
    store.close()
