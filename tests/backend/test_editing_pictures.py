"""One edit of one picture, from pixels to pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffedit_backend.editing import edit_picture, paste
from diffedit_backend.imaging.area import bounds_of
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.method.mask import final_mask, grow
from diffedit_backend.method.retries import RetriedEdit
from diffedit_backend.method.settings import settings_for
from diffedit_backend.method.steps import EditCancelled
from diffedit_protocol.errors import BadInputError, NothingFoundError, OutOfMemoryError
from diffedit_protocol.messages import EditRequest
from PIL import Image
from test_engine_stages import SmallDevice
from tiny_models import tiny_model, with_denoiser

REQUEST = EditRequest(source="a horse", target="a zebra", quality="draft", preview=False)


@pytest.fixture(scope="module")
def engine():
    return DiffEditEngine(tiny_model())


@pytest.fixture
def seen(monkeypatch):
    """The target is seen in every result, so that none is begun anew: a network of random weights sees anything."""
    monkeypatch.setattr(RetriedEdit, "target_lead", lambda self, latents, noises=None: torch.full((len(latents),), 1e9))


def picture_of(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, channels), dtype=np.uint8)
    return np.array(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def square(width: int, height: int, box: tuple[int, int, int, int], value: int = 255) -> np.ndarray:
    plane = np.zeros((height, width), np.uint8)
    left, top, right, bottom = box
    plane[top:bottom, left:right] = value
    return plane


@pytest.mark.parametrize(("width", "height"), [(32, 32), (64, 48), (33, 91), (8, 8), (301, 40), (700, 500)])
@pytest.mark.parametrize("channels", [3, 4])
def test_outside_of_the_mask_a_picture_of_any_size_stays_equal_bit_for_bit(engine, width, height, channels):
    picture = picture_of(width, height, channels)
    outcome = edit_picture(engine, REQUEST, picture)
    result = paste(picture, outcome)
    assert outcome.mask.shape == outcome.soft_map.shape == (height, width)
    assert outcome.bounds == bounds_of(outcome.mask)
    assert np.array_equal(result[outcome.mask == 0], picture[outcome.mask == 0])
    assert (result[outcome.mask == 255] != picture[outcome.mask == 255]).any()
    assert outcome.edits[0].pixels.shape == (outcome.bounds.height, outcome.bounds.width, 4)


def test_an_edit_s_alpha_is_the_mask_times_the_picture_s(engine):
    picture = picture_of(60, 50, 4)
    picture[..., 3] = np.linspace(0, 255, 60).astype(np.uint8)
    mask = square(60, 50, (10, 5, 50, 40), 200)
    outcome = edit_picture(engine, REQUEST, picture, mask=mask)
    alpha = outcome.edits[0].pixels[..., 3].astype(int)
    assert np.abs(alpha - np.rint(200 / 255 * picture[5:40, 10:50, 3])).max() <= 1
    assert np.array_equal(paste(picture, outcome)[..., 3], picture[..., 3])


def test_a_mask_of_the_caller_is_used_as_it_is_without_a_search(engine):
    picture, mask = picture_of(64, 64), square(64, 64, (20, 20, 44, 44), 180)
    outcome = edit_picture(engine, REQUEST, picture, mask=mask)
    assert np.array_equal(outcome.mask, mask)
    assert outcome.soft_map is None
    assert "finding" not in outcome.seconds


def test_the_mask_follows_its_formula_from_the_soft_map_that_travels(engine):
    picture = picture_of(64, 48)
    selection = square(64, 48, (4, 4, 60, 44), 220)
    request = replace(REQUEST, task="mask", threshold=0.4, grow=3, feather=2)
    outcome = edit_picture(engine, request, picture, selection=selection)
    assert np.array_equal(outcome.mask, final_mask(outcome.soft_map, 0.4, 3, 2, selection))
    assert outcome.edits == ()


@pytest.mark.parametrize("kind", ["thing", "ground"])
def test_an_automatic_grow_widens_the_mask_of_a_thing_and_leaves_that_of_a_ground(engine, kind):
    picture, found = picture_of(64, 48), square(64, 48, (20, 14, 40, 30))
    found = found if kind == "thing" else 255 - found
    asked = replace(REQUEST, task="mask", threshold=0.5, grow=4, segment="replace")
    chosen = edit_picture(engine, asked, picture, segmentation=found)
    automatic = edit_picture(engine, replace(asked, automatic_grow=True), picture, segmentation=found)
    assert automatic.ground == chosen.ground == (kind == "ground")
    assert np.array_equal(chosen.mask, grow(found, 4))
    assert np.array_equal(automatic.mask, grow(found, 0 if kind == "ground" else 4))
    given = edit_picture(engine, replace(asked, automatic_grow=True), picture, mask=found)
    assert np.array_equal(given.mask, found)
    assert not given.ground


def test_without_a_threshold_the_one_that_was_chosen_is_reported(engine):
    picture = picture_of(64, 48)
    found = edit_picture(engine, replace(REQUEST, task="mask"), picture)
    again = edit_picture(engine, replace(REQUEST, task="mask", threshold=found.threshold), picture)
    assert 0.25 < found.threshold < 0.75
    assert np.array_equal(again.mask, found.mask)
    reference = edit_picture(engine, replace(REQUEST, task="mask", method="reference"), picture)
    assert reference.threshold == 0.5


def test_a_selection_limits_the_mask_with_its_soft_edge(engine):
    picture, selection = picture_of(200, 160), square(200, 160, (30, 20, 80, 70), 128)
    outcome = edit_picture(engine, REQUEST, picture, selection=selection)
    assert outcome.mask.max() <= 128
    assert not outcome.mask[selection == 0].any()
    assert np.array_equal(paste(picture, outcome)[selection == 0], picture[selection == 0])


def test_a_small_selection_in_a_large_picture_is_worked_on_at_full_resolution(engine):
    """A thing of 24 px is 1 cell of the whole picture, and the model's whole size in the crop."""
    picture, selection = picture_of(800, 800), square(800, 800, (400, 300, 424, 324))
    small = picture[291:332, 391:432]
    outcome = edit_picture(engine, REQUEST, picture, mask=selection)
    alone = edit_picture(engine, REQUEST, small, mask=selection[291:332, 391:432])
    difference = np.abs(outcome.edits[0].pixels.astype(int) - alone.edits[0].pixels)
    assert difference.mean() < 2


@pytest.mark.parametrize(
    "changes", [{"threshold": 0.3}, {"grow": 5}, {"grow": -1}, {"feather": 4}], ids=lambda c: next(iter(c))
)
def test_moving_threshold_grow_or_feather_costs_no_network_evaluation(engine, changes):
    picture = picture_of(64, 48, seed=5)
    mask_only = replace(REQUEST, task="mask", threshold=0.5)
    edit_picture(engine, mask_only, picture)
    assert edit_picture(engine, replace(mask_only, **changes), picture).evaluations == 0


def test_a_second_edit_with_another_threshold_costs_the_denoising_only(engine, seen):
    picture = picture_of(64, 48, seed=6)
    first = edit_picture(engine, replace(REQUEST, threshold=0.5), picture)
    second = edit_picture(engine, replace(REQUEST, threshold=0.6), picture)
    assert (first.evaluations, second.evaluations) == (2 * 2 + 4 + 13, 13)


def test_variations_have_their_own_seeds_and_share_the_rest(engine, seen):
    picture = picture_of(64, 48, seed=7)
    outcome = edit_picture(engine, replace(REQUEST, seed=41, variations=3), picture)
    assert [edit.seed for edit in outcome.edits] == [41, 42, 43]
    assert not np.array_equal(outcome.edits[0].pixels, outcome.edits[1].pixels)
    alone = edit_picture(engine, replace(REQUEST, seed=42), picture)
    assert np.abs(alone.edits[0].pixels.astype(int) - outcome.edits[1].pixels).max() <= 1
    assert outcome.evaluations == 2 * 2 + 4 + 3 * 13


def test_a_method_without_chance_says_that_more_seeds_bring_nothing(engine):
    outcome = edit_picture(engine, replace(REQUEST, method="paper", variations=3), picture_of(40, 40))
    assert len(outcome.edits) == 1
    assert "ONE_RESULT" in [note.code for note in outcome.warnings]


def test_transparent_places_do_not_change_what_is_seen(engine):
    """What a transparent pixel holds is nobody's business: black or noise, the result is the same."""
    picture = picture_of(64, 64, 4)
    picture[..., 3] = square(64, 64, (16, 16, 48, 48))
    other = picture.copy()
    other[picture[..., 3] == 0] = 0
    first, second = (edit_picture(engine, REQUEST, p) for p in (picture, other))
    assert np.array_equal(first.mask, second.mask)
    assert np.array_equal(first.edits[0].pixels, second.edits[0].pixels)


def test_previews_show_the_whole_picture_with_its_outside_as_it_is(engine, seen):
    steps = []
    picture, mask = picture_of(128, 96), square(128, 96, (80, 50, 100, 70))
    edit_picture(engine, replace(REQUEST, preview=True), picture, mask=mask, on_step=steps.append)
    previews = [step.preview for step in steps if step.preview is not None]
    assert len(previews) == 8
    assert previews[0].shape == (96, 128, 3)
    assert np.array_equal(previews[-1][:40, :60], picture[:40, :60])


def test_what_a_listener_raises_ends_the_edit(engine):
    def stop(_):
        raise EditCancelled

    with pytest.raises(EditCancelled):
        edit_picture(engine, REQUEST, picture_of(40, 40, seed=9), on_step=stop)


def test_a_text_that_is_too_long_is_reported(engine):
    outcome = edit_picture(engine, replace(REQUEST, target="a zebra that stands in the sun"), picture_of(40, 40))
    assert [note.code for note in outcome.warnings].count("TEXT_CUT") == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"target": " A  Horse"}, "Both texts are the same, so there is nothing to change."),
        ({"target": "  "}, "Say what there should be"),
    ],
)
def test_texts_that_ask_for_nothing_are_refused_in_words(engine, changes, says):
    with pytest.raises(BadInputError, match=says):
        edit_picture(engine, replace(REQUEST, **changes), picture_of(40, 40))


def test_a_picture_of_one_pixel_is_refused_with_its_size(engine):
    with pytest.raises(BadInputError, match="1 × 1 px"):
        edit_picture(engine, REQUEST, picture_of(1, 1))


def test_an_empty_layer_is_refused(engine):
    picture = picture_of(40, 40, 4)
    picture[..., 3] = 0
    with pytest.raises(BadInputError, match="every pixel is transparent"):
        edit_picture(engine, REQUEST, picture)


@pytest.mark.parametrize("name", ["selection", "mask"])
def test_a_plane_of_another_size_or_without_anything_is_refused(engine, name):
    with pytest.raises(BadInputError, match="30 × 40 px but the picture 40 × 40 px"):
        edit_picture(engine, REQUEST, picture_of(40, 40), **{name: np.full((40, 30), 255, np.uint8)})
    with pytest.raises(BadInputError, match=f"The {name} is empty"):
        edit_picture(engine, REQUEST, picture_of(40, 40), **{name: np.zeros((40, 40), np.uint8)})


def test_a_mask_outside_of_the_selection_is_refused(engine):
    left, right = square(40, 40, (0, 0, 10, 40)), square(40, 40, (30, 0, 40, 40))
    with pytest.raises(BadInputError, match="outside of the selection"):
        edit_picture(engine, REQUEST, picture_of(40, 40), selection=left, mask=right)


def test_a_picture_is_inverted_under_its_own_text_where_one_is_given(engine):
    picture, mask = picture_of(32, 32), square(32, 32, (8, 8, 24, 24))

    def pixels(method: str, inversion: str | None) -> bytes:
        request = replace(REQUEST, method=method, strength=0.5)
        outcome = edit_picture(engine, request, picture, mask=mask, inversion=inversion)
        return outcome.edits[0].pixels.tobytes()

    assert pixels("paper", "") == pixels("paper", None)
    assert pixels("paper", "a horse on grass") != pixels("paper", None)
    assert pixels("reference", "a horse") == pixels("reference", None)
    assert pixels("reference", "") != pixels("reference", None)
    cut = edit_picture(engine, REQUEST, picture, mask=mask, inversion="abcdefghijklmnopqrst")
    assert [note.code for note in cut.warnings] == ["TEXT_CUT"]


def test_texts_that_mean_the_same_to_the_model_find_nothing(engine):
    """To a tokenizer of letters, punctuation says nothing."""
    with pytest.raises(NothingFoundError, match="No region differs clearly between 'a horse' and 'a horse!'"):
        edit_picture(engine, replace(REQUEST, target="a horse!"), picture_of(40, 40))


def test_out_of_memory_is_said_with_the_picture_s_size_and_the_way_out():
    model = tiny_model()
    engine = DiffEditEngine(with_denoiser(model, SmallDevice(model.denoiser, capacity=0)))
    with pytest.raises(OutOfMemoryError, match=r"ran out of memory at 50 × 40\. A selection, or the draft quality"):
        edit_picture(engine, REQUEST, picture_of(50, 40))


def test_a_picture_of_a_hundred_megapixels_is_edited(engine):
    picture = np.zeros((10_000, 10_000, 3), np.uint8)
    picture[3000:7000, 2000:8000] = (200, 120, 40)
    mask = square(10_000, 10_000, (4000, 4000, 4400, 4300))
    outcome = edit_picture(engine, REQUEST, picture, mask=mask)
    assert outcome.edits[0].pixels.shape == (300, 400, 4)


def test_the_reference_takes_the_librarys_guidance_for_edit_and_inversion_and_a_wish_goes_before_it(monkeypatch, seen):
    seen = []
    edit = DiffEditEngine.edit

    def spy(self, *args, **kwargs):
        seen.append(args[0].guidance)
        return edit(self, *args, **kwargs)

    monkeypatch.setattr(DiffEditEngine, "edit", spy)
    engine = DiffEditEngine(replace(tiny_model(), guidance=3.0))
    for asked in ({"method": "reference"}, {"method": "reference", "guidance": 2.0}, {"method": "fast"}):
        edit_picture(engine, replace(REQUEST, **asked), picture_of(32, 32), mask=square(32, 32, (8, 8, 24, 24)))
    assert seen == [7.5, 2.0, 3.0]
    assert settings_for("reference", "normal").inversion_guidance == 7.5


def test_an_edit_that_leaves_a_thing_out_knows_nothing_of_what_stood_in_the_mask(engine, seen):
    request = replace(REQUEST, source="a cat and a dog on sand", target="a dog on sand")
    mask = square(64, 64, (20, 20, 44, 44))
    one = picture_of(64, 64)
    other = one.copy()
    other[22:42, 22:42] = picture_of(20, 20, seed=5)
    swapped = replace(request, target="a cat and a horse on sand")

    def differs(asked: EditRequest) -> float:
        pictures = [edit_picture(engine, asked, picture, mask=mask).edits[0].pixels for picture in (one, other)]
        return float(np.abs(pictures[0].astype(int) - pictures[1]).mean())

    assert differs(request) < 0.5 * differs(swapped)


def test_an_edit_that_leaves_a_thing_out_costs_fewer_evaluations(engine):
    picture, mask = picture_of(32, 32), square(32, 32, (8, 8, 24, 24))
    request = replace(REQUEST, source="a cat and a dog", target="a cat and a horse")
    counted = []
    for target in ("a cat and a horse", "a cat"):
        engine.cache.clear()
        counted.append(edit_picture(engine, replace(request, target=target), picture, mask=mask).evaluations)
    assert 0 < counted[1] < counted[0]


def test_blend_is_what_the_request_wishes_and_else_the_methods_own(engine):
    picture, mask = picture_of(64, 64), square(64, 64, (8, 8, 56, 56))

    def edited(method: str, blend: bool | None) -> np.ndarray:
        request = replace(REQUEST, method=method, blend=blend)
        return edit_picture(engine, request, picture, mask=mask).edits[0].pixels

    assert not np.array_equal(edited("fast", True), edited("fast", False))
    assert np.array_equal(edited("fast", None), edited("fast", True))
    assert np.array_equal(edited("paper", None), edited("paper", False))


@pytest.mark.parametrize(("width", "height"), [(300, 2600), (2600, 300)])
def test_a_strip_of_which_the_model_would_see_a_few_px_asks_for_a_selection(engine, width, height):
    picture = picture_of(width, height)
    with pytest.raises(BadInputError, match=r"worked on at .* px, too few to show anything\. Select the part"):
        edit_picture(engine, REQUEST, picture)
    along = square(width, height, (0, 0, width, height))
    with pytest.raises(BadInputError, match="too few to show anything"):
        edit_picture(engine, REQUEST, picture, selection=along)
    part = square(width, height, (20, 20, 280, 280))
    outcome = edit_picture(engine, REQUEST, picture, selection=part)
    assert not outcome.mask[part == 0].any()
    assert "STRIP" not in [note.code for note in outcome.warnings]


def test_a_long_picture_is_edited_with_a_word_on_the_size_that_it_is_worked_on_at(engine):
    notes = edit_picture(engine, REQUEST, picture_of(1200, 200)).warnings
    size = 2 * engine.model.native_size, round(2 * engine.model.native_size / 6)
    assert [n.sentence for n in notes if n.code == "STRIP"] == [
        f"So long a picture is worked on at {size[0]} × {size[1]} px; a selection gives finer edits."
    ]
    assert "STRIP" not in [n.code for n in edit_picture(engine, REQUEST, picture_of(700, 200)).warnings]
    assert "STRIP" not in [n.code for n in edit_picture(engine, REQUEST, picture_of(60, 10)).warnings]
