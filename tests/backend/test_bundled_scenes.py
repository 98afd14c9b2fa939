"""The scenes: deterministic, with true masks and captions, and a held-out split that training never sees."""

from __future__ import annotations

import numpy as np
import pytest
from diffedit_training.scenes.art import CLASSES, COLOURS
from diffedit_training.scenes.backgrounds import BACKGROUNDS, PHRASES, background
from diffedit_training.scenes.scene import Scene, Thing, caption, vocabulary
from diffedit_training.scenes.scenes import KINDS, Kind, Scenes, is_held_out


def test_a_seed_gives_the_same_scene_and_pixels_every_time():
    first, second = Scenes(), Scenes()
    for seed in range(12):
        assert first.scene(seed) == second.scene(seed)
        np.testing.assert_array_equal(
            first.render(first.scene(seed)).pixels, second.render(second.scene(seed)).pixels, strict=True
        )
    assert len({first.scene(seed) for seed in range(50)}) == 50


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_a_pair_differs_only_where_it_says_so_and_inside_its_true_mask(kind: Kind, split):
    scenes = Scenes(split=split)
    for seed in range(8):
        pair = scenes.pair(seed, kind)
        differs = (pair.source != pair.target).any(-1)
        assert pair.mask.any()
        assert differs[pair.mask].any()
        assert not differs[~pair.changed].any()
        assert (pair.mask & ~pair.changed).sum() == 0
        assert pair.source_caption != pair.target_caption


def test_the_mask_of_a_thing_is_exactly_what_it_touches():
    scenes = Scenes()
    for seed in range(8):
        pair = scenes.pair(seed, "delete")
        np.testing.assert_array_equal((pair.source != pair.target).any(-1) & ~pair.mask, False)
        touched = (pair.source != pair.target).any(-1).sum() / pair.mask.sum()
        assert touched > 0.95  # a thing may have a pixel of the ground's own colour


def test_a_swap_keeps_place_size_and_everything_else():
    pair = Scenes().pair(3, "swap")
    changed = [(a, b) for a, b in zip(pair.source_scene.things, pair.target_scene.things, strict=True) if a != b]
    assert len(changed) == 1
    old, new = changed[0]
    assert old.name != new.name == pair.subject.name
    assert (old.x, old.y, old.scale, old.degrees, old.mirrored) == (new.x, new.y, new.scale, new.degrees, new.mirrored)
    assert pair.source_scene.ground == pair.target_scene.ground


def test_a_change_of_colour_keeps_the_class():
    for seed in range(6):
        pair = Scenes().pair(seed, "colour")
        assert pair.subject.colour in COLOURS[pair.subject.name]
        assert f"{pair.subject.colour} {pair.subject.name}" in pair.target_caption


def test_training_scenes_and_held_out_pairs_share_no_combination():
    train, heldout = Scenes(), Scenes(split="heldout")
    assert not any(is_held_out(train.scene(seed)) for seed in range(300))
    for kind in KINDS:
        for seed in range(20):
            pair = heldout.pair(seed, kind)
            assert is_held_out(pair.source_scene) or is_held_out(pair.target_scene)
            pair = train.pair(seed, kind)
            assert not is_held_out(pair.source_scene)
            assert not is_held_out(pair.target_scene)


def test_no_class_and_no_ground_is_held_out_altogether():
    scenes = [Scenes().scene(seed) for seed in range(600)]
    assert {thing.name for scene in scenes for thing in scene.things} == set(CLASSES)
    assert {scene.ground for scene in scenes} == set(BACKGROUNDS)


def test_captions_name_every_thing_and_the_ground_in_known_words():
    words = set(vocabulary())
    scenes = Scenes()
    for seed in range(100):
        scene = scenes.scene(seed)
        text = caption(scene.things, scene.ground, seed)
        assert set(text.replace(",", " ").split()) <= words
        assert text.endswith(PHRASES[scene.ground])
        assert all(f"{thing.colour or ''} {thing.name}".strip() in text for thing in scene.things)


def test_a_caption_reads_like_english():
    things = (Thing("apple", 0.3, 0.3, 0.4, "green"), Thing("orange", 0.7, 0.7, 0.4), Thing("car", 0.2, 0.8, 0.3))
    assert caption(things, "sky", 0) == "a green apple, an orange and a car in the sky"
    assert caption((), "grass", 0) == "nothing on grass"


def test_a_scene_is_the_same_picture_at_a_larger_size():
    scene = Scene("water", 4, True, 1.0, (Thing("zebra", 0.45, 0.55, 0.5, mirrored=True),))
    small, large = Scenes(size=128).render(scene), Scenes(size=512).render(scene)
    shrunk = large.pixels.reshape(128, 4, 128, 4, 3).mean((1, 3))
    assert np.abs(shrunk - small.pixels).mean() < 6
    assert (large.masks[0][2::4, 2::4] != small.masks[0]).mean() < 0.02


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_a_ground_has_many_looks_and_is_read_only(name):
    first, second = background(name, 0, 64), background(name, 1, 64)
    assert (first != second).any()
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0, 0] = 1
