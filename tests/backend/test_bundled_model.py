"""The weights in the package load as what they claim to be, within the limit of size; the judge knows its scenes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffedit_backend.bundled import samples, samples_folder, weights_folder
from diffedit_training.judge import Judge, shown_colour
from diffedit_training.scenes.art import CLASSES
from diffedit_training.scenes.captions import vocabulary
from diffedit_training.scenes.scenes import KINDS, Scenes
from diffusers import StableDiffusionPipeline
from PIL import Image
from transformers import CLIPTokenizerFast

LIMIT = 40 * 1024 * 1024


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    tokenizer = CLIPTokenizerFast.from_pretrained(weights_folder(), subfolder="tokenizer")
    loaded = StableDiffusionPipeline.from_pretrained(weights_folder(), tokenizer=tokenizer).to(torch.float32)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def test_all_parts_together_are_at_most_40_megabytes_of_safetensors():
    files = [file for file in weights_folder().rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= LIMIT
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".md"}
    assert (weights_folder() / "MODEL_CARD.md").is_file()


def test_no_config_names_a_folder_of_the_machine_that_trained_it():
    for config in weights_folder().rglob("*.json"):
        assert "/" not in str(json.loads(config.read_text()).get("_name_or_path", ""))


def test_the_weights_load_in_the_librarys_pipeline_and_draw(pipeline):
    picture = pipeline("a horse on grass", num_inference_steps=2, output_type="np").images[0]
    assert picture.shape == (128, 128, 3)
    assert np.isfinite(picture).all()
    assert picture.std() > 0.02


def test_the_scheduler_says_which_prediction_it_is(pipeline):
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.vae.config.scaling_factor == 1.0


def test_every_word_of_the_scenes_is_one_token_and_comes_back(pipeline):
    tokenizer = pipeline.tokenizer
    for word in vocabulary():
        ids = tokenizer(word).input_ids
        assert len(ids) == 3, word
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == word


def test_unknown_words_become_letters_within_the_vocabulary(pipeline):
    tokenizer = pipeline.tokenizer
    ids = tokenizer("a giraffe, ÄÖ 42 on grass").input_ids
    assert max(ids) < pipeline.text_encoder.config.vocab_size
    assert tokenizer.model_max_length == pipeline.text_encoder.config.max_position_embeddings


def test_latents_have_mean_0_and_standard_deviation_1_in_every_channel(pipeline):
    scenes = Scenes()
    pictures = np.stack([scenes.render(scenes.scene(seed)).pixels for seed in range(64)])
    with torch.no_grad():
        latents = pipeline.vae.encode(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1).latent_dist.mode()
    assert latents.mean((0, 2, 3)).abs().max() < 0.25
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 0.25


def test_the_judge_is_right_on_true_edits_and_does_not_take_the_source_for_one():
    judge, scenes = Judge.load(), Scenes(split="heldout")
    for kind in KINDS:
        pairs = [scenes.pair(700 + seed, kind) for seed in range(12)]
        assert np.mean([judge.success(pair, pair.target) for pair in pairs]) >= 0.9, kind
        assert np.mean([judge.success(pair, pair.source) for pair in pairs]) <= 0.1, kind


def test_the_judge_is_as_often_right_on_held_out_scenes_as_its_file_says():
    judge, scenes, right = Judge.load(), Scenes(split="heldout"), {"thing": [], "colour": [], "ground": []}
    for seed in range(60):
        scene = scenes.scene(900 + seed)
        pixels = scenes.render(scene).pixels
        right["ground"].append(judge.ground(pixels) == scene.ground)
        for thing in scene.things:
            right["thing"].append(judge.thing(pixels, thing) == thing.name)
            if shown_colour(thing) is not None:
                right["colour"].append(judge.colour(pixels, thing) == shown_colour(thing))
    stated = Judge.figures()
    assert set(stated) == set(right)
    for name, answers in right.items():
        # Of n answers, as many may be wrong as chance allows (three standard deviations), and one more.
        wrong = (1 - stated[name]) * len(answers)
        assert answers.count(False) <= wrong + 3 * wrong**0.5 + 1, name


def test_the_samples_are_there_at_512_pixels_with_words_that_the_model_knows():
    words = set(vocabulary())
    assert len(samples()) >= 3
    for sample in samples():
        with Image.open(samples_folder() / sample.file) as image:
            assert image.size == (512, 512)
        for text in (sample.source, sample.target):
            assert set(text.split()) <= words
        assert sample.source != sample.target
    assert any(name in sample.target for name in CLASSES for sample in samples())
