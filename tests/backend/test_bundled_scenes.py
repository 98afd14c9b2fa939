"""The scenes: deterministic, with true masks and captions, and a held-out split that training never sees."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from diffedit_training.scenes.art import CLASSES, COLOURS
from diffedit_training.scenes.backgrounds import BACKGROUNDS, PHRASES, background
from diffedit_training.scenes.captions import caption, vocabulary
from diffedit_training.scenes.edition import FIRST, SECOND, SECOND_FOLDER, edition
from diffedit_training.scenes.scene import Scene, Thing
from diffedit_training.scenes.scenes import KINDS, Kind, Scenes, is_held_out
from diffedit_training.scenes.second.art import artwork, paintable
from diffedit_training.scenes.second.styles import STYLES
from PIL import Image


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


# What the benchmarks' figures were measured on; a change of these is a change of every figure.
FIRST_EDITION_SCENES = "e48b1030b916aa2ba0610657be0b5039bbea907d25de2464bff4e588a251b833"
FIRST_EDITION_MEANS = (
    243.257,
    228.298,
    91.357,
    141.005,
    180.751,
    224.000,
)  # of the first channel of held-out scenes 0 to 5


def test_the_scenes_of_the_first_edition_are_those_that_all_figures_were_measured_on():
    told = hashlib.sha256()
    for split in ("train", "heldout"):
        scenes = Scenes(split=split)
        drawn = [scenes.scene(number) for number in range(60)]
        pairs = [scenes.pair(700_000_000 + number, kind) for kind in KINDS for number in range(4)]
        drawn += [scene for pair in pairs for scene in (pair.source_scene, pair.target_scene)]
        for scene in drawn:
            things = [(t.name, t.x, t.y, t.scale, t.colour, t.degrees, t.mirrored) for t in scene.things]
            told.update(repr((scene.ground, scene.texture, scene.mirrored, scene.light, things)).encode())
        told.update("".join(pair.source_caption + pair.target_caption for pair in pairs).encode())
    assert told.hexdigest() == FIRST_EDITION_SCENES
    heldout = Scenes(split="heldout")
    means = [heldout.render(heldout.scene(number)).pixels[..., 0].mean() for number in range(6)]
    assert means == pytest.approx(FIRST_EDITION_MEANS, abs=0.02)


def _second(size: int = 128, split: str = "train") -> Scenes:
    return Scenes(size=size, split=split, edition=SECOND)


def test_the_second_edition_has_40_things_in_several_drawings_and_names_their_sources():
    assert len(SECOND.things) == 40
    assert set(FIRST.things) <= set(SECOND.things)
    assert min(SECOND.drawings.values()) >= 5
    known = (SECOND_FOLDER / "SOURCE.md").read_text()
    for kind in ("drawings", "grounds"):
        sources = json.loads((SECOND_FOLDER / f"{kind}.json").read_text())
        files = {f"{name}-{i}.webp" for name, listed in sources.items() for i in range(len(listed))}
        assert files == {file.name for file in (SECOND_FOLDER / kind).iterdir()}
        assert all(f"`{source.partition(':')[0]}`" in known for listed in sources.values() for source in listed)


def test_the_art_of_the_second_edition_is_cut_out_and_small():
    size = sum(file.stat().st_size for file in SECOND_FOLDER.rglob("*") if file.is_file())
    assert size < 6 * 1024 * 1024
    for file in (SECOND_FOLDER / "drawings").iterdir():
        with Image.open(file) as drawing:
            alpha = np.asarray(drawing.convert("RGBA").getchannel("A"))
        assert 88 <= max(alpha.shape) <= 256, file.name
        assert 0.05 < (alpha > 128).mean() < 0.97, file.name  # neither empty nor a picture with its ground
        corners = alpha[:: alpha.shape[0] - 1, :: alpha.shape[1] - 1]
        assert (corners < 128).sum() >= 2, file.name


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_of_the_second_edition_differs_only_where_it_says_so(kind: Kind):
    scenes = _second(split="heldout")
    for seed in range(10):
        pair = scenes.pair(seed, kind)
        differs = (pair.source != pair.target).any(-1)
        assert differs[pair.mask].any()
        assert not differs[~pair.changed].any()
        assert not (pair.mask & ~pair.changed).any()
        assert pair.source_caption != pair.target_caption
        assert is_held_out(pair.source_scene, SECOND) or is_held_out(pair.target_scene, SECOND)


@pytest.mark.parametrize("style", STYLES)
def test_no_way_of_painting_lets_a_thing_change_what_is_outside_of_its_mask(style: str):
    scenes = _second()
    for seed in range(4):
        scene = replace(scenes.scene(seed, things=2), style=style)
        whole, without = scenes.render(scene), scenes.render(replace(scene, things=scene.things[:1]))
        differs = (whole.pixels != without.pixels).any(-1)
        assert not differs[~whole.masks[1]].any()
        assert differs[whole.masks[1]].mean() > 0.8


def test_a_seed_of_the_second_edition_gives_the_same_picture_every_time_also_in_another_process():
    first, second = _second(), pickle.loads(pickle.dumps(_second()))
    assert second.edition is SECOND
    for seed in range(8):
        assert first.scene(seed) == second.scene(seed)
        one, other = first.render(first.scene(seed)), second.render(second.scene(seed))
        np.testing.assert_array_equal(one.pixels, other.pixels, strict=True)


def test_all_things_grounds_and_drawings_of_the_second_edition_are_shown_in_training():
    scenes = [_second().scene(seed) for seed in range(3000)]
    assert {scene.ground for scene in scenes} == set(SECOND.grounds)
    things = [thing for scene in scenes for thing in scene.things]
    assert {(t.name, t.drawing) for t in things} == {
        (n, i) for n, count in SECOND.drawings.items() for i in range(count)
    }
    assert not any(is_held_out(scene, SECOND) for scene in scenes)


def test_a_colour_of_the_second_edition_is_that_of_most_of_the_thing():
    for name, colours in SECOND.colours.items():
        assert len(paintable(name)) >= 3, name
        for colour in colours:
            for drawing in range(len(paintable(name))):
                art = artwork(name, colour, drawing)
                hsv = np.asarray(art.convert("RGB").convert("HSV"), np.int32)[np.asarray(art.getchannel("A")) > 128]
                vivid = hsv[hsv[:, 1] > 70, 0] * 360 // 256
                near = np.abs((vivid - SECOND.hues[colour] + 180) % 360 - 180) < 40
                assert near.sum() / len(hsv) > 0.28, (name, colour, drawing)


def test_a_scene_of_the_second_edition_is_the_same_picture_at_a_larger_size():
    for style in STYLES:
        for ground in ("wood", "grass", "green"):
            scene = Scene(ground, 5, True, 1.0, (Thing("owl", 0.45, 0.55, 0.5, mirrored=True, drawing=2),), style)
            small, large = _second(128).render(scene), _second(256).render(scene)
            shrunk = large.pixels.reshape(128, 2, 128, 2, 3).mean((1, 3))
            assert np.abs(shrunk - small.pixels).mean() < 8, (style, ground)
            assert (large.masks[0][1::2, 1::2] != small.masks[0]).mean() < 0.02


def test_captions_of_the_second_edition_are_made_of_its_words():
    words, scenes = set(vocabulary(SECOND)), _second()
    for seed in range(100):
        scene = scenes.scene(seed)
        assert set(caption(scene.things, scene.ground, seed).replace(",", " ").split()) <= words
    assert set(vocabulary()) <= words


def test_an_edition_that_there_is_not_is_named():
    with pytest.raises(ValueError, match="no edition 3 of the scenes; there are 1, 2"):
        edition(3)
