"""Where the changed words look: heard in the evaluations of the difference map, and weighed into the soft map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffedit_backend.editing import edit_picture
from diffedit_backend.method.attention_map import AttentionRecord, changed_tokens, words_map
from diffedit_backend.method.engine import DiffEditEngine, Subject
from diffedit_backend.method.settings import FAST
from diffedit_backend.models import load_model
from diffedit_protocol.errors import SchemaError
from diffedit_protocol.messages import EditRequest
from diffedit_training.scenes.scenes import Scenes
from test_engine_stages import QUICK
from tiny_models import NATIVE, tiny_model

LISTENING = replace(QUICK, attention=0.5)
PIXELS = np.random.default_rng(0).integers(0, 256, (NATIVE, NATIVE, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["sd1", "sd2", "xl"])
def test_listening_costs_no_evaluation_and_leaves_the_difference_equal_bit_for_bit(kind):
    model, subject = tiny_model(kind), Subject.of(PIXELS)
    listening, deaf = DiffEditEngine(model), DiffEditEngine(model)
    difference = listening.difference(subject, "a horse", "a zebra", LISTENING)
    before = listening.evaluations
    weights = listening.attention(subject, "a horse", "a zebra", LISTENING)
    assert listening.evaluations == before == 2 * QUICK.maps
    assert torch.equal(difference, deaf.difference(subject, "a horse", "a zebra", QUICK))
    assert deaf.attention(subject, "a horse", "a zebra", QUICK) is None
    assert weights.shape == difference.shape
    assert 0 <= weights.min() < 0.5
    assert weights.max() == 1


def test_no_hook_stays_behind_in_the_network():
    model = tiny_model()
    DiffEditEngine(model).difference(Subject.of(PIXELS), "a horse", "a zebra", LISTENING)
    assert not any(layer._forward_hooks for layer in model.denoiser.modules())


def test_the_attention_of_all_tokens_sums_to_one_in_every_cell():
    engine, subject = DiffEditEngine(tiny_model()), Subject.of(PIXELS)
    recorded = engine.predictions(subject, "a horse", LISTENING, LISTENING.first_look).attention
    assert torch.allclose(recorded.sum(0), torch.ones(recorded.shape[1:]), atol=1e-4)


def test_the_words_of_a_thing_look_at_the_thing():
    model = load_model("bundled", "cpu")
    engine, scenes = DiffEditEngine(model), Scenes(size=model.native_size, split="heldout")
    settings = replace(FAST, attention=0.5)
    inside, outside = [], []
    for seed in range(5):
        pair = scenes.pair(300_000_000 + seed, "swap")
        weights = engine.attention(Subject.of(pair.source), pair.source_caption, pair.target_caption, settings)
        cells = torch.from_numpy(pair.mask).float()[None, None]
        there = torch.nn.functional.adaptive_avg_pool2d(cells, tuple(weights.shape))[0, 0] > 0.5
        inside.append(float(weights[there].mean()))
        outside.append(float(weights[~there].mean()))
    assert all(there > elsewhere for there, elsewhere in zip(inside, outside, strict=True))
    assert np.mean(inside) > np.mean(outside) + 0.25


def test_an_edit_may_ask_for_the_attention_and_gets_another_soft_map_at_the_same_cost():
    request = EditRequest("a horse", "a zebra", task="mask", threshold=0.5)
    plain = edit_picture(DiffEditEngine(tiny_model()), request, PIXELS)
    recorded = edit_picture(DiffEditEngine(tiny_model()), replace(request, attention=0.9), PIXELS)
    assert recorded.evaluations == plain.evaluations
    assert not np.array_equal(recorded.soft_map, plain.soft_map)


def test_a_share_of_attention_beyond_one_is_refused_with_its_value():
    with pytest.raises(SchemaError, match=r"must be 0 to 1, or empty for the method's, not 1\.5"):
        EditRequest("a horse", "a zebra", attention=1.5)


def test_the_share_travels_only_where_it_is_asked_for():
    request = EditRequest("a horse", "a zebra", attention=0.5)
    assert request.to_wire()["attention"] == 0.5
    assert EditRequest.from_wire(request.to_wire()) == request
    assert "attention" not in EditRequest("a horse", "a zebra").to_wire()


def test_changed_tokens_are_those_that_the_other_text_does_not_match():
    assert changed_tokens([1, 5, 6, 2, 2], [1, 5, 7, 2, 2]) == ([2], [2])
    assert changed_tokens([1, 5, 2], [1, 9, 5, 2]) == ([], [1])
    assert changed_tokens([1, 5, 2], [1, 5, 2]) == ([], [])


def test_a_layer_of_any_size_falls_on_the_cells_that_it_looks_at():
    record = AttentionRecord((8, 16))
    probabilities = torch.zeros(2, 4 * 8, 3)
    probabilities[:, 0, 1] = 1  # the top left corner of a layer of half the size
    record.add(probabilities)
    weights = words_map(record.maps, [1])
    assert weights.shape == (8, 16)
    assert weights[0, 0] == 1
    assert not weights[4:, 8:].any()


def test_a_network_without_attention_says_so():
    with pytest.raises(ValueError, match="no cross-attention layer of a known shape"):
        _ = AttentionRecord((8, 8)).maps
