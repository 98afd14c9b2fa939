"""Words that count more or less, by compel, on models that are loaded from files."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffedit_backend.editing import edit_picture
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.method.stable_diffusion import token_ids
from diffedit_backend.method.text import encode_text, words_beyond
from diffedit_backend.method.weighting import weights_in
from diffedit_backend.models import LoadedModel, load_model, with_adapters
from diffedit_protocol.errors import BadInputError, ModelError
from diffedit_protocol.messages import Adapter, EditRequest
from model_files import FAMILIES, WIDTH, parts, write_folder
from safetensors.torch import save_file

TEXT, WEIGHTED = "a zebra on grass", "a (zebra)1.5 on grass"
NO_WEIGHTS = ("size (m)2", ":)1", "(born 1990)5", ":) 1.5", "(at 12:30)", "(1:2)", "a ] b [")
ZEBRA = slice(2, 7)  # places of its letters, behind the token of the beginning and the "a"
PIXELS = np.random.default_rng(3).integers(0, 255, (32, 32, 3), np.uint8)


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(write_folder(tmp_path_factory.mktemp("model") / request.param, parts(request.param)), "cpu")


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(write_folder(tmp_path_factory.mktemp("sd1") / "model", parts("sd1")), "cpu")


def plainly_encoded(model: LoadedModel, text: str) -> torch.Tensor:
    """The (L, D) embeddings as the networks give them, with nothing of the project between."""
    rows = []
    for tokenizer, encoder in zip(model.tokenizers, model.text_encoders, strict=True):
        ids = tokenizer(text, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        with torch.inference_mode():
            output = encoder(ids, output_hidden_states=True)
        rows.append(output.hidden_states[-2][0] if model.is_xl else output.last_hidden_state[0])
    return torch.cat(rows, dim=-1)


@pytest.mark.parametrize(
    "text",
    [TEXT, "a (toy) zebra", "f(x)-plane", "a zebra++", r"\(c\)2 zebra", "(c) 2", "a, b", *NO_WEIGHTS],
)
def test_a_text_without_weights_is_encoded_bit_for_bit_as_the_networks_do(model: LoadedModel, text: str) -> None:
    assert weights_in(text) is None
    assert torch.equal(encode_text(model, text).tokens, plainly_encoded(model, text))


def test_more_weight_moves_the_words_embeddings_away_from_those_of_no_text_and_no_others(model: LoadedModel) -> None:
    plain, empty = plainly_encoded(model, TEXT), plainly_encoded(model, "")
    expected = plain.clone()
    expected[ZEBRA] = empty[ZEBRA] + 1.5 * (plain[ZEBRA] - empty[ZEBRA])
    condition = encode_text(model, WEIGHTED)
    assert condition.tokens.dtype == model.dtype
    assert torch.allclose(condition.tokens, expected, atol=1e-5)
    assert not torch.allclose(condition.tokens, plain, atol=1e-3)
    pooled = encode_text(model, TEXT).pooled
    if model.is_xl:
        assert torch.equal(condition.pooled, pooled)
    else:
        assert condition.pooled is pooled is None


def test_the_lower_the_weight_the_further_from_the_text_and_weight_one_changes_nothing(model: LoadedModel) -> None:
    plain = plainly_encoded(model, TEXT)
    far = [float((encode_text(model, f"a (zebra){w} on grass").tokens - plain).norm()) for w in ("1.0", 0.8, 0.5, 0.1)]
    assert far[0] < 1e-4
    assert far[0] < far[1] < far[2] < far[3]


def test_weights_are_read_in_brackets_in_brackets_and_by_signs() -> None:
    weighted = weights_in("a (big (red)1.2 zebra)1.5 (on grass)-")
    assert weighted is not None
    assert weighted.fragments == ("a", "big", "red", "zebra", "on grass")
    assert weighted.weights == pytest.approx((1, 1.5, 1.8, 1.5, 0.9))
    assert weighted.unweighted == "a big red zebra on grass"


@pytest.mark.parametrize(
    ("text", "fragments", "weights"),
    [
        ("a (zebra:1.3) on grass", ("a", "zebra", "on grass"), (1, 1.3, 1)),
        ("a [zebra] on grass", ("a", "zebra", "on grass"), (1, 1 / 1.1, 1)),
        ("((zebra:1.2) herd:1.5)", ("zebra", "herd"), (1.8, 1.5)),
        ("a (zebra:.5), (m)2", ("a", "zebra", ", (m)2"), (1, 0.5, 1)),
        ("[(zebra)1.1]", ("zebra",), (1,)),
        ("(zebra: 1.25 )", ("zebra",), (1.25,)),
    ],
)
def test_weights_are_read_as_the_web_user_interfaces_write_them(
    text: str, fragments: tuple[str, ...], weights: tuple[float, ...]
) -> None:
    weighted = weights_in(text)
    assert weighted is not None
    assert weighted.fragments == fragments
    assert weighted.weights == pytest.approx(weights, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a (zebra)2.5", "weight of 'zebra' is 2.5; weights go from 0 to 2"),
        ("a (zebra:3)", "weight of 'zebra' is 3"),
        ("a ((zebra)1.6 herd)1.6", "weight of 'zebra' is 2.56"),
        ("a (zebra:-1)", r"is -1; weights go from 0 to 2"),
        ("a [cow:zebra:0.5]", r"changes its words from step to step, '\[cow:zebra:0\.5\]'"),
        ("a [cow|zebra]", "changes its words from step to step"),
    ],
)
def test_weights_out_of_bounds_and_texts_that_change_are_refused_with_their_words(text: str, says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        weights_in(text)


def test_every_wording_has_its_own_weights(sd1: LoadedModel) -> None:
    mean = encode_text(sd1, f"{WEIGHTED} | a mare").tokens
    assert torch.allclose(mean, (encode_text(sd1, WEIGHTED).tokens + encode_text(sd1, "a mare").tokens) / 2)


def test_weights_are_no_words_where_tokens_are_counted(sd1: LoadedModel) -> None:
    assert token_ids(sd1, WEIGHTED) == token_ids(sd1, TEXT)
    letters = "a" * 75
    assert words_beyond(sd1, f"({letters})1.3") == ""
    assert words_beyond(sd1, f"({letters} bc)1.3") == "bc"
    assert encode_text(sd1, f"({letters} bc)0.5").tokens.shape == (77, WIDTH)


def test_a_learned_word_is_weighed_as_any_other(
    sd1: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFEDIT_HOME", str(tmp_path))
    (tmp_path / "adapters").mkdir()
    vectors = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(5))
    save_file({"<toy>": vectors}, tmp_path / "adapters" / "toy.safetensors")
    model = with_adapters(sd1, [Adapter("toy")])
    plain, empty = encode_text(model, "a <toy> horse").tokens, encode_text(model, "").tokens
    expected = plain.clone()
    expected[2:4] = empty[2:4] + 1.4 * (plain[2:4] - empty[2:4])
    assert torch.allclose(encode_text(model, "a (<toy>)1.4 horse").tokens, expected, atol=1e-5)
    assert not torch.allclose(plain, encode_text(sd1, "a <toy> horse").tokens, atol=1e-3)


def test_weighted_words_change_the_edit(model: LoadedModel) -> None:
    engine = DiffEditEngine(model)
    request = EditRequest("a horse", TEXT, quality="draft", strength=0.5, preview=False)
    mask = np.full((32, 32), 255, np.uint8)
    plain = edit_picture(engine, request, PIXELS, mask=mask)
    weighted = edit_picture(engine, replace(request, target=WEIGHTED), PIXELS, mask=mask)
    assert not np.array_equal(plain.edits[0].pixels, weighted.edits[0].pixels)
    assert not [note for note in weighted.warnings if note.code == "TEXT_CUT"]


@pytest.mark.parametrize("text", ["(cat).blend(1)1.2", "()1.3", '("a (cat)1.2", "b").and()', 'cat.swap("(dog)1.2")'])
def test_other_notations_of_compel_are_refused_with_the_one_that_is_read(sd1: LoadedModel, text: str) -> None:
    with pytest.raises(BadInputError, match=r"cannot be read\. Write words in brackets and a number"):
        encode_text(sd1, text)


def test_without_compel_weights_are_refused_with_what_to_install_and_plain_texts_work(
    sd1: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing: Any = None
    for name in [name for name in sys.modules if name.split(".")[0] == "compel"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "compel", missing)
    with pytest.raises(ModelError, match=r"compel is not installed.*krita-diffedit\[weighting\]"):
        encode_text(sd1, WEIGHTED)
    assert torch.equal(encode_text(sd1, TEXT).tokens, plainly_encoded(sd1, TEXT))
