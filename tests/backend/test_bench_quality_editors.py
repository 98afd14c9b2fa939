"""The benchmark's rows of other inversions, of an edit without one, and of another mask: each is what its name says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from diffedit_backend.method.engine import DiffEditEngine, LatentEdit, Subject
from diffedit_backend.method.settings import ALIGN, FAST, MethodSettings
from diffedit_bench.quality.cases import bundled_cases
from diffedit_bench.quality.ours import BEST_ATTENTION, ProductMaskEngine, SwitchedEngine
from diffedit_bench.quality.roster import SWITCHES, make_editors
from tiny_models import NATIVE, tiny_model

SETTINGS = replace(FAST, steps=6, maps=2, eta=0.0)
SUBJECT = Subject.of(np.random.default_rng(5).integers(0, 256, (NATIVE, NATIVE, 3), dtype=np.uint8))
SOURCE, TARGET = "a horse", "a zebra"
RATIO = 0.8


def mask_of(engine: DiffEditEngine) -> torch.Tensor:
    cells = NATIVE // engine.model.factor
    mask = torch.zeros(cells, cells)
    mask[3:12, 4:13] = 1
    return mask


def edited(engine: DiffEditEngine, settings: MethodSettings = SETTINGS) -> tuple[torch.Tensor, int]:
    """The latents of an edit, and the evaluations that inversion and edit took."""
    before = engine.evaluations
    trajectory = engine.trajectory(SUBJECT, SOURCE, RATIO, settings)
    edit = LatentEdit(SUBJECT, TARGET, mask_of(engine), RATIO, 2.0, settings, source=SOURCE)
    latents = engine.edit(edit, trajectory)
    return latents, engine.evaluations - before


def test_each_switch_edits_as_the_engine_does_with_that_setting_and_not_as_it_does_without() -> None:
    model = tiny_model("sd2")
    plain, _ = edited(DiffEditEngine(model))
    for name, switch in SWITCHES.items():
        ours, cost = edited(SwitchedEngine(model, **switch))
        asked, cost_of_asked = edited(DiffEditEngine(model), replace(SETTINGS, **switch))
        assert torch.equal(ours, asked), name
        assert cost == cost_of_asked, name
        assert not torch.allclose(ours, plain, atol=1e-3), name


def test_uni_inv_costs_one_evaluation_more_than_an_inversion_of_every_level_and_alignment_none() -> None:
    model = tiny_model("sd2")
    _, plain = edited(DiffEditEngine(model), replace(SETTINGS, inversion_every=1))
    costs = {name: edited(SwitchedEngine(model, **switch))[1] - plain for name, switch in SWITCHES.items()}
    assert costs == {"ours-uni": 1, "ours-aligned": 0}


def test_an_aligned_edit_under_the_inversions_own_text_gives_the_picture_back() -> None:
    engine = SwitchedEngine(tiny_model("sd2"), **SWITCHES["ours-aligned"])
    trajectory = engine.trajectory(SUBJECT, SOURCE, RATIO, SETTINGS)
    back = engine.edit(LatentEdit(SUBJECT, "", mask_of(engine), RATIO, 1.0, SETTINGS), trajectory)
    assert torch.allclose(back, engine.encode(SUBJECT), atol=1e-4)


def test_the_product_mask_is_the_difference_where_the_changed_words_are_looked_at_and_nothing_elsewhere() -> None:
    plain, product = (kind(tiny_model()) for kind in (DiffEditEngine, ProductMaskEngine))
    difference = plain.difference(SUBJECT, SOURCE, TARGET, SETTINGS)
    found = product.difference(SUBJECT, SOURCE, TARGET, SETTINGS)
    attention = plain.attention(SUBJECT, SOURCE, TARGET, replace(SETTINGS, attention=1.0))
    assert attention is not None
    best = attention >= attention.quantile(BEST_ATTENTION)
    assert 0.25 < float(best.float().mean()) < 0.35
    assert torch.allclose(found[best], difference[best], atol=1e-5)
    assert (found[~best] == 0).all()
    assert product.evaluations == 2 * SETTINGS.maps


def test_the_row_without_inversion_takes_three_evaluations_a_step() -> None:
    model = tiny_model("sd2")
    (editor,) = make_editors(["ours-align"], model)
    editor._asked["threshold"] = 0.3  # of random weights' map some is above it
    case = replace(bundled_cases(1, 0, NATIVE).load("swap-0000"), source_text=SOURCE, target_text=TARGET)
    found = editor.edit(case, RATIO)
    assert found.evaluations == 2 * ALIGN.maps + 3 * round(RATIO * ALIGN.steps)
    assert np.array_equal(found.delivered[found.mask == 0], case.source[found.mask == 0])
    assert not np.array_equal(found.delivered, case.source)
