"""Texts of several wordings: what the network is conditioned on is their mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffedit_backend.editing import edit_picture
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.method.text import encode_text, words_beyond
from diffedit_backend.method.wordings import joined, leaves_things_out, wordings
from diffedit_protocol.errors import BadInputError, NothingFoundError
from diffedit_protocol.messages import EditRequest
from tiny_models import tiny_model

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
REQUEST = EditRequest("a horse", "a zebra | an ass", quality="draft", strength=0.5, threshold=0.3, preview=False)


@pytest.mark.parametrize("family", ["sd1", "sd2", "xl"])
def test_the_embedding_of_several_wordings_is_the_mean_of_theirs(family: str) -> None:
    model = tiny_model(family)
    parts = [encode_text(model, text) for text in ("a horse", "a mare", "")]
    mean = encode_text(model, "a horse | a mare")
    assert torch.allclose(mean.tokens, (parts[0].tokens + parts[1].tokens) / 2)
    assert not torch.allclose(mean.tokens, parts[0].tokens)
    if family == "xl":
        assert torch.allclose(mean.pooled, (parts[0].pooled + parts[1].pooled) / 2)
    else:
        assert mean.pooled is None


def test_only_a_line_between_blanks_parts_wordings_and_blank_ones_do_not_count() -> None:
    assert wordings("a | b |c") == ["a", "b |c"]
    assert wordings(" | a |  | b | ") == ["a", "b"]
    assert wordings(" as it is|was ") == [" as it is|was "]
    assert wordings(" | ") == wordings("") == [""]


def test_wordings_are_joined_each_once_and_as_many_as_there_is_room_for() -> None:
    assert joined(["a horse", "a  horse", "", "a | b", "a mare"], 100) == "a horse | a b | a mare"
    assert joined(["a horse", "a very long wording", "a mare"], 18) == "a horse | a mare"
    assert wordings(joined(["a horse", "a mare"], 100)) == ["a horse", "a mare"]


def test_every_wording_is_cut_on_its_own_and_its_end_is_known() -> None:
    model = tiny_model()
    assert words_beyond(model, "abcdefghij | klmnopqrst") == ""
    assert words_beyond(model, "abcdefghijklmnopqrst | abc | abcdefghijklmnopq") == "opqrst | opq"


def test_an_edit_takes_several_wordings_and_differs_from_that_of_either() -> None:
    engine = DiffEditEngine(tiny_model())
    results = [
        edit_picture(engine, replace(REQUEST, target=target), PIXELS, mask=np.full((32, 32), 255, np.uint8))
        for target in ("a zebra", "an ass", "a zebra | an ass", "an ass | a zebra")
    ]
    pixels = [outcome.edits[0].pixels for outcome in results]
    assert not np.array_equal(pixels[2], pixels[0])
    assert not np.array_equal(pixels[2], pixels[1])
    assert np.abs(pixels[2].astype(int) - pixels[3]).max() <= 1  # rounding of the mean


def test_what_was_not_found_is_named_by_the_first_wordings() -> None:
    """To a tokenizer of letters, punctuation says nothing."""
    request = replace(REQUEST, source="a horse | a mare", target="a horse! | a mare!", task="mask")
    with pytest.raises(NothingFoundError, match="between 'a horse' and 'a horse!'"):
        edit_picture(DiffEditEngine(tiny_model()), request, PIXELS)


def test_a_target_of_blank_wordings_and_attention_to_several_are_refused() -> None:
    engine = DiffEditEngine(tiny_model())
    with pytest.raises(BadInputError, match="the second text is empty"):
        edit_picture(engine, replace(REQUEST, target=" | "), PIXELS)
    with pytest.raises(BadInputError, match="a text here has several wordings"):
        edit_picture(engine, replace(REQUEST, attention=0.5), PIXELS)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a cat and a dog on sand", "a dog on sand"),
        ("a cat and a dog on sand", "a cat on sand"),
        ("a cat, a dog and a horse on grass", "a cat and a horse on grass"),
        ("a photo of a red car on sand", "a photo of nothing on sand"),
        ("A man wearing a hat in a park", "a man in a park"),
        ("a man with a hat", "a man"),
        ("a cat on grass", "on grass"),
        ("a cat", "nothing"),
    ],
)
def test_a_target_that_is_the_source_without_a_thing_leaves_things_out(source: str, target: str) -> None:
    assert leaves_things_out(source, target)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a red car on sand", "a car on sand"),
        ("a car on sand", "a bus on sand"),
        ("a zebra and a horse on grass", "a horse and a zebra on grass"),
        ("a cat on grass", "a cat"),
        ("a cat on grass", "an empty meadow"),
        ("a cat", "a big cat"),
        ("a cat", "a cat"),
        ("", "a cat"),
        ("", ""),
    ],
)
def test_a_target_that_describes_less_or_says_something_else_leaves_nothing_out(source: str, target: str) -> None:
    assert not leaves_things_out(source, target)
