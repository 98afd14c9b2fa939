"""LoRAs and textual inversions, in the formats that they are shared in, chosen for each edit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffedit_backend.editing import edit_picture
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.method.text import encode_text, words_beyond
from diffedit_backend.models import LoadedModel, ModelOptions, load_model, lora, with_adapters
from diffedit_backend.models.adapters import release_adapters, with_written_adapters
from diffedit_backend.models.catalogue import adapter_files
from diffedit_protocol.errors import BadInputError, ModelError
from diffedit_protocol.messages import Adapter, EditRequest
from model_files import FAMILIES, SECOND_WIDTH, WIDTH, parts, write_folder
from original_layout import unet_key
from safetensors.torch import save_file

REQUEST = EditRequest("a horse", "a zebra", quality="draft", strength=0.5, threshold=0.3)
RANK, ALPHA = 2, 4.0
ENCODERS = ("text_encoder", "text_encoder_2")


@pytest.fixture(autouse=True)
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.set_num_threads(1)
    monkeypatch.setenv("DIFFEDIT_HOME", str(tmp_path))
    folder = tmp_path / "adapters"
    folder.mkdir()
    return folder


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    return load_model(write_folder(tmp_path / "model", parts("sd1")), "cpu")


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], LoadedModel]:
    return lambda family: load_model(write_folder(tmp_path / family, parts(family)), "cpu")


@pytest.fixture
def picture() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(3).integers(0, 255, (32, 32, 3), np.uint8)


def lora_layers(network: Any, ends: tuple[str, ...]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Down and up matrices for every linear layer whose name ends so."""
    g = torch.Generator().manual_seed(5)
    return {
        name: (
            0.3 * torch.randn(RANK, module.in_features, generator=g),
            0.3 * torch.randn(module.out_features, RANK, generator=g),
        )
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and name.endswith(ends)
    }


def unet_layers(model: LoadedModel) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    return lora_layers(model.denoiser, ("to_q", "to_v"))


def text_layers(encoder: Any) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    return lora_layers(encoder, ("q_proj", "k_proj", "v_proj", "out_proj"))


def text_parts(model: LoadedModel) -> list[tuple[str, dict[str, tuple[torch.Tensor, torch.Tensor]]]]:
    """The layers of each text encoder, by diffusers' name of it."""
    return [(name, text_layers(encoder)) for name, encoder in zip(ENCODERS, model.text_encoders, strict=False)]


def as_diffusers(model: LoadedModel) -> dict[str, torch.Tensor]:
    """`unet.….lora_A.weight`, alpha folded into the up matrix as that format has none of its own."""
    tensors = {}
    for prefix, layers in (("unet", unet_layers(model)), *text_parts(model)):
        for name, (down, up) in layers.items():
            tensors[f"{prefix}.{name}.lora_A.weight"] = down
            tensors[f"{prefix}.{name}.lora_B.weight"] = up * ALPHA / RANK
    return tensors


def as_old_diffusers(model: LoadedModel) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, (down, up) in unet_layers(model).items():
        tensors[f"unet.{name}.lora.down.weight"] = down
        tensors[f"unet.{name}.lora.up.weight"] = up * ALPHA / RANK
    for prefix, layers in text_parts(model):
        for name, (down, up) in layers.items():
            tensors[f"{prefix}.{name}.lora_linear_layer.down.weight"] = down
            tensors[f"{prefix}.{name}.lora_linear_layer.up.weight"] = up * ALPHA / RANK
    return tensors


def as_kohya(model: LoadedModel) -> dict[str, torch.Tensor]:
    """`lora_unet_…lora_down.weight` with an alpha for every layer; for XL the UNet's blocks by their original names."""
    tensors = {}
    names = ("te1", "te2") if model.is_xl else ("te",)
    layers = model.denoiser.config.layers_per_block
    for name, pair in unet_layers(model).items():
        tensors |= _kohya("unet", unet_key(name, layers) if model.is_xl else name, pair)
    for te, (_, texts) in zip(names, text_parts(model), strict=True):
        for name, pair in texts.items():
            tensors |= _kohya(te, f"text_model.{name.removeprefix('text_model.')}", pair)
    return tensors


def _kohya(kind: str, name: str, pair: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
    key = f"lora_{kind}_{name.replace('.', '_')}"
    return {
        f"{key}.lora_down.weight": pair[0],
        f"{key}.lora_up.weight": pair[1],
        f"{key}.alpha": torch.tensor(ALPHA),
    }


def as_peft(model: LoadedModel) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, (down, up) in unet_layers(model).items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = down
        tensors[f"base_model.model.{name}.lora_B.weight"] = up * ALPHA / RANK
    return tensors


def write(file: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, file)


@torch.inference_mode()
def answers(model: LoadedModel, text: str = "a zebra") -> torch.Tensor:
    """What text encoders and UNet make of one input."""
    from diffedit_backend.method.network import Network

    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    return Network(model).predict(x, model.schedule.level(500), [encode_text(model, text)])


def by_hand(model: LoadedModel, weight: float, *, text: bool) -> None:
    """Add the LoRA's product to the layers themselves: what the adapter must amount to."""
    encoders = [(encoder, text_layers(encoder)) for encoder in model.text_encoders]
    for network, layers in ((model.denoiser, unet_layers(model)), *encoders):
        if network is model.denoiser or text:
            modules = dict(network.named_modules())
            for name, (down, up) in layers.items():
                modules[name].weight += weight * ALPHA / RANK * (up @ down)


FORMATS = {"diffusers": as_diffusers, "old diffusers": as_old_diffusers, "kohya": as_kohya, "peft": as_peft}


@pytest.mark.parametrize("layout", FORMATS)
def test_a_lora_in_each_format_amounts_to_its_matrices_added_to_the_layers(
    layout: str, adapters: Path, load: Callable[[str], LoadedModel]
) -> None:
    model, reference = load("sd1"), load("sd1")
    write(adapters / "paint.safetensors", FORMATS[layout](model))
    before = answers(model)
    by_hand(reference, 0.7, text=layout != "peft")  # peft's own format holds one network only
    got = answers(with_adapters(model, [Adapter("paint", 0.7)]))
    assert torch.allclose(got, answers(reference), atol=1e-4)
    assert not torch.allclose(got, before, atol=1e-2)


@pytest.mark.parametrize("layout", ["diffusers", "old diffusers", "kohya"])
def test_a_lora_of_sdxl_reaches_its_unet_and_both_text_encoders(
    layout: str, adapters: Path, load: Callable[[str], LoadedModel]
) -> None:
    model, reference = load("xl"), load("xl")
    write(adapters / "paint.safetensors", FORMATS[layout](model))
    by_hand(reference, 1.0, text=True)
    assert torch.allclose(answers(with_adapters(model, [Adapter("paint")])), answers(reference), atol=1e-4)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_with_a_lora_of_each_format_differs_from_one_without_and_leaves_no_trace(
    family: str, layout: str, adapters: Path, load: Callable[[str], LoadedModel], picture: Any
) -> None:
    model = load(family)
    write(adapters / "paint.safetensors", FORMATS[layout](model))
    engine = DiffEditEngine(model)
    whole = np.full(picture.shape[:2], 255, np.uint8)

    def edit(*chosen: Adapter) -> Any:
        return edit_picture(engine, replace(REQUEST, adapters=chosen), picture, mask=whole).edits[0].pixels

    plain, painted = edit(), edit(Adapter("paint", 0.8))
    assert not np.array_equal(plain, painted)
    engine.cache.clear()
    assert np.array_equal(edit(), plain)
    assert np.array_equal(edit(Adapter("paint", 0.8)), painted)


@pytest.mark.parametrize("family", ["sd1", "xl"])
def test_a_lora_in_half_precision_as_they_are_published_works_on_a_model_in_bf16(
    family: str, adapters: Path, tmp_path: Path, picture: Any
) -> None:
    model = load_model(write_folder(tmp_path / family, parts(family)), ModelOptions("cpu", "bf16"))
    write(adapters / "paint.safetensors", {name: tensor.half() for name, tensor in as_kohya(model).items()})
    request = replace(REQUEST, adapters=(Adapter("paint", 0.8),))
    engine, whole = DiffEditEngine(model), np.full(picture.shape[:2], 255, np.uint8)
    plain = edit_picture(engine, REQUEST, picture, mask=whole).edits[0].pixels
    assert not np.array_equal(edit_picture(engine, request, picture, mask=whole).edits[0].pixels, plain)
    assert np.array_equal(edit_picture(DiffEditEngine(model), REQUEST, picture, mask=whole).edits[0].pixels, plain)


def test_two_loras_add_up_and_each_goes_when_it_is_no_longer_chosen(adapters: Path, model: LoadedModel) -> None:
    write(adapters / "one.safetensors", as_peft(model))
    halves = {name: tensor * (0.5 if "lora_B" in name else 1) for name, tensor in as_peft(model).items()}
    write(adapters / "half.safetensors", halves)
    before = answers(model)
    once = answers(with_adapters(model, [Adapter("one", 1.5)]))
    both = answers(with_adapters(model, [Adapter("one"), Adapter("half")]))  # 1 + 0.5 of the same matrices
    assert torch.allclose(once, both, atol=1e-4)
    assert torch.equal(answers(with_adapters(model, [])), before)


def test_results_with_and_without_an_adapter_are_kept_apart_in_the_cache(adapters: Path, model: LoadedModel) -> None:
    write(adapters / "paint.safetensors", as_peft(model))
    keys = {
        with_adapters(model, chosen).key
        for chosen in ([], [Adapter("paint")], [Adapter("paint", 0.5)], [Adapter("paint", -1.0)])
    }
    assert len(keys) == 4


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_a_lora_of_another_kind_of_model_is_refused_and_leaves_no_trace(
    layout: str, adapters: Path, load: Callable[[str], LoadedModel]
) -> None:
    write(adapters / "paint.safetensors", FORMATS[layout](load("xl")))
    model = load("sd1")
    before = answers(model)
    with pytest.raises(ModelError, match="The LoRA 'paint' does not fit the model 'sd1'"):
        with_adapters(model, [Adapter("paint")])
    assert torch.equal(answers(with_adapters(model, [])), before)


def test_an_adapter_that_is_not_there_is_refused_with_those_that_are(adapters: Path, model: LoadedModel) -> None:
    write(adapters / "oils.safetensors", as_peft(model))
    with pytest.raises(ModelError, match=r"no adapter 'inks'\. There are: oils\."):
        with_adapters(model, [Adapter("inks")])


def test_an_adapter_that_is_not_there_among_many_is_refused_with_a_few_of_those_that_are(
    adapters: Path, model: LoadedModel
) -> None:
    for number in range(300):
        (adapters / f"oils-{number:03}.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"no adapter 'inks'\. There are: oils-000, .* and 288 more\.") as caught:
        with_adapters(model, [Adapter("inks")])
    assert len(caught.value.sentence) < 250


def test_a_pickled_adapter_is_refused_with_the_way_out(adapters: Path, model: LoadedModel) -> None:
    torch.save({}, adapters / "inks.pt")
    with pytest.raises(ModelError, match=r"'inks\.pt' is a pickle.*Take its \.safetensors version"):
        with_adapters(model, [Adapter("inks")])


def test_a_damaged_adapter_is_refused(adapters: Path, model: LoadedModel) -> None:
    (adapters / "inks.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"'inks\.safetensors' is damaged"):
        with_adapters(model, [Adapter("inks")])


def test_an_adapter_may_lie_in_a_folder_of_its_name(adapters: Path, model: LoadedModel) -> None:
    (adapters / "inks").mkdir()
    write(adapters / "inks" / "pytorch_lora_weights.safetensors", as_peft(model))
    assert not torch.equal(answers(with_adapters(model, [Adapter("inks")])), answers(with_adapters(model, [])))


def inversion(model: LoadedModel, layout: str, letter: str = "z") -> dict[str, torch.Tensor]:
    """A textual inversion whose two vectors are the embeddings of one letter (with the end-of-word mark) twice."""
    rows = []
    for tokenizer, encoder in zip(model.tokenizers, model.text_encoders, strict=True):
        index = tokenizer.convert_tokens_to_ids(f"{letter}</w>")
        rows.append(encoder.get_input_embeddings().weight[index].detach().repeat(2, 1))
    if layout == "diffusers":
        return {"<thing>": rows[0]}
    if layout == "web":
        return {"emb_params": rows[0]}
    return {"clip_l": rows[0], "clip_g": rows[1]}


@pytest.mark.parametrize(("layout", "family"), [("diffusers", "sd1"), ("web", "sd1"), ("web", "sd2"), ("xl", "xl")])
def test_a_learned_word_is_heard_as_the_embeddings_that_it_stands_for(
    layout: str, family: str, adapters: Path, load: Callable[[str], LoadedModel]
) -> None:
    model = load(family)
    write(adapters / "thing.safetensors", inversion(model, layout))
    taught = with_adapters(model, [Adapter("thing")])
    for word in ("<thing>", "thing") if layout == "diffusers" else ("thing", "Thing"):
        recorded, expanded = encode_text(taught, f"a {word} b"), encode_text(model, "a z z b")
        assert torch.equal(recorded.tokens, expanded.tokens)
        assert recorded.pooled is None or torch.equal(recorded.pooled, expanded.pooled)
    assert not torch.equal(encode_text(model, "a thing b").tokens, encode_text(taught, "a thing b").tokens)


def test_a_learned_word_weighs_what_the_edit_says(adapters: Path, model: LoadedModel) -> None:
    write(adapters / "thing.safetensors", inversion(model, "web"))
    whole, half = (encode_text(with_adapters(model, [Adapter("thing", w)]), "thing").tokens for w in (1.0, 0.5))
    assert not torch.equal(whole, half)
    doubled = {name: 0.5 * tensor for name, tensor in inversion(model, "web").items()}
    write(adapters / "soft.safetensors", doubled)
    assert torch.equal(encode_text(with_adapters(model, [Adapter("soft")]), "soft").tokens, half)


@pytest.mark.parametrize(("layout", "family"), [("diffusers", "sd1"), ("web", "sd2"), ("xl", "xl")])
def test_an_edit_with_a_learned_word_ends_in_a_result_and_the_word_is_forgotten_after_it(
    layout: str, family: str, adapters: Path, load: Callable[[str], LoadedModel], picture: Any
) -> None:
    model = load(family)
    write(adapters / "thing.safetensors", inversion(model, layout))
    engine = DiffEditEngine(model)
    word = "<thing>" if layout == "diffusers" else "thing"
    request = EditRequest("a horse", f"a {word}", quality="draft", threshold=0.3, adapters=(Adapter("thing"),))
    outcome = edit_picture(engine, request, picture)
    assert outcome.edits
    assert not any(note.code == "WORD_UNUSED" for note in outcome.warnings)
    assert len(model.tokenizers[0]) == model.text_encoders[0].config.vocab_size
    assert not model.text_encoders[0].get_input_embeddings()._forward_hooks


def test_a_learned_word_that_no_text_says_is_reported(adapters: Path, model: LoadedModel, picture: Any) -> None:
    write(adapters / "thing.safetensors", inversion(model, "diffusers"))
    request = EditRequest("a horse", "a zebra", quality="draft", threshold=0.3, adapters=(Adapter("thing"),))
    notes = edit_picture(DiffEditEngine(model), request, picture).warnings
    assert [n.sentence for n in notes if n.code == "WORD_UNUSED"] == [
        "No text says '<thing>' or 'thing', so what was learned for it is not used."
    ]


def test_a_textual_inversion_of_another_kind_of_model_is_refused_with_both_widths(
    adapters: Path, load: Callable[[str], LoadedModel]
) -> None:
    write(adapters / "thing.safetensors", inversion(load("xl"), "xl"))
    with pytest.raises(ModelError, match=rf"have {WIDTH} and {SECOND_WIDTH} numbers, those of 'sd1' {WIDTH}"):
        with_adapters(load("sd1"), [Adapter("thing")])


def test_the_end_of_a_text_beyond_the_models_room_counts_a_learned_words_vectors(
    adapters: Path, model: LoadedModel
) -> None:
    write(adapters / "thing.safetensors", {"emb_params": torch.zeros(70, WIDTH)})
    taught = with_adapters(model, [Adapter("thing")])
    assert words_beyond(model, "thing a b c d e f g") == ""
    assert words_beyond(taught, "thing a b c d e f g").endswith("g</w>")


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("lora_unet_mid_block_x.hada_w1_a", "LyCORIS LoHa"),
        ("lora_unet_mid_block_x.lokr_w1", "LyCORIS LoKr"),
        ("lora_unet_mid_block_x.oft_blocks", "LyCORIS OFT"),
        ("lora_unet_mid_block_x.on_input", "LyCORIS IA3"),
        ("lora_unet_mid_block_x.diff", "LyCORIS full"),
    ],
)
def test_an_adapter_of_lycoris_is_refused_by_its_name_and_listed_so(
    key: str, kind: str, adapters: Path, model: LoadedModel
) -> None:
    write(adapters / "inks.safetensors", {key: torch.zeros(2, 2)})
    with pytest.raises(ModelError, match=f"The adapter 'inks' is a {kind}, which is not supported. Take a LoRA"):
        with_adapters(model, [Adapter("inks")])
    assert [entry.kind for entry in adapter_files.adapters()] == [f"{kind} (not supported)"]


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("first_stage_model.decoder.conv_in.weight", r"autoencoder \(VAE\)"),
        ("controlnet_cond_embedding.conv_in.weight", "ControlNet"),
    ],
)
def test_what_is_no_adapter_is_refused_by_its_name(key: str, kind: str, adapters: Path, model: LoadedModel) -> None:
    write(adapters / "inks.safetensors", {key: torch.zeros(2, 2), "other": torch.zeros(1)})
    with pytest.raises(ModelError, match=f"neither a LoRA nor a textual inversion: it is of the kind {kind}"):
        with_adapters(model, [Adapter("inks")])


@pytest.mark.parametrize(
    "extra",
    [
        {"unet.nowhere.attn9.to_q.lora_A.weight": (RANK, 16), "unet.nowhere.attn9.to_q.lora_B.weight": (16, RANK)},
        {"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.dora_scale": (1, 16)},
        {"bundle_emb.toy.string_to_param.*": (2, WIDTH)},
    ],
    ids=["a layer that the model lacks", "DoRA", "a bundled embedding"],
)
def test_tensors_of_a_lora_that_fit_no_layer_are_told_and_the_others_work(
    extra: dict[str, tuple[int, int]], adapters: Path, load: Callable[[str], LoadedModel], picture: Any
) -> None:
    model, reference = load("sd1"), load("sd1")
    layout = as_kohya if any(key.startswith("lora_unet") for key in extra) else as_diffusers
    whole = layout(model)
    write(adapters / "paint.safetensors", whole | {key: torch.ones(shape) for key, shape in extra.items()})
    by_hand(reference, 1.0, text=True)
    assert torch.allclose(answers(with_adapters(model, [Adapter("paint")])), answers(reference), atol=1e-4)
    request = replace(REQUEST, adapters=(Adapter("paint"),))
    notes = edit_picture(DiffEditEngine(model), request, picture).warnings
    (shown,) = [note.sentence for note in notes if "fit no layer" in note.sentence]
    assert f"{len(extra)} of the {len(whole) + len(extra)} tensors of the LoRA 'paint' fit no layer" in shown
    assert "fit no layer" not in " ".join(
        note.sentence for note in edit_picture(DiffEditEngine(model), REQUEST, picture).warnings
    )


def test_loras_that_were_tried_and_left_are_unloaded_least_recently_used_first(
    adapters: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = as_diffusers(model)
    size = sum(tensor.nbytes for tensor in tensors.values())
    monkeypatch.setattr(lora, "KEPT_BYTES", 2 * size)
    names = [f"paint{n}" for n in range(6)]
    for name in names:
        write(adapters / f"{name}.safetensors", tensors)
    before = answers(model)
    alone = answers(with_adapters(model, [Adapter("paint0")]))
    for name in names:
        with_adapters(model, [Adapter(name)])
        assert lora.held_bytes(model) <= 3 * size
    with_adapters(model, [Adapter("paint3")])  # still there: used again, so that paint4 is the oldest now
    with_adapters(model, [Adapter("paint0")])
    assert lora.held_bytes(model) == 3 * size
    held = len(model.denoiser.peft_config)
    assert held == 3
    assert torch.equal(answers(with_adapters(model, [Adapter("paint0")])), alone)
    release_adapters(with_adapters(model, []))
    assert lora.held_bytes(model) == 0
    assert torch.equal(answers(model), before)
    assert torch.equal(answers(with_adapters(model, [Adapter("paint5")])), alone)


def test_adapters_that_a_text_names_are_those_of_the_request(adapters: Path, model: LoadedModel, picture: Any) -> None:
    write(adapters / "paint.safetensors", as_diffusers(model))
    write(adapters / "thing.safetensors", inversion(model, "web"))
    engine = DiffEditEngine(model)
    chosen = replace(REQUEST, target="a thing zebra", adapters=(Adapter("paint", 0.7), Adapter("thing")))
    written = replace(REQUEST, target="a embedding:thing <lora:paint:0.7> zebra")
    assert with_written_adapters(written) == chosen
    expected, got = (edit_picture(engine, request, picture) for request in (chosen, written))
    assert np.array_equal(expected.edits[0].pixels, got.edits[0].pixels)


@pytest.mark.parametrize(
    ("text", "words", "weight"),
    [
        ("a <lora:paint> zebra", "a zebra", 1.0),
        ("<LORA:paint:-0.5>a zebra", "a zebra", -0.5),
        ("a zebra <lora:paint:0.5:0.9>", "a zebra", 0.5),
        ("a <lyco:paint:1> zebra", "a zebra", 1.0),
    ],
)
def test_the_notation_of_the_web_user_interfaces_is_read(text: str, words: str, weight: float) -> None:
    read = with_written_adapters(replace(REQUEST, target=text))
    assert (read.target, read.adapters) == (words, (Adapter("paint", weight),))


def test_an_adapter_that_is_chosen_and_written_keeps_the_chosen_weight() -> None:
    request = replace(REQUEST, source="a <lora:paint:0.2> horse", adapters=(Adapter("paint", 0.9),))
    assert with_written_adapters(request).adapters == (Adapter("paint", 0.9),)


@pytest.mark.parametrize("text", ["a <toy> zebra", "embedding:unknown", "a zebra", "x <lora> y"])
def test_a_text_that_names_no_adapter_stays_as_it_is(text: str) -> None:
    request = replace(REQUEST, target=text)
    assert with_written_adapters(request) is request


@pytest.mark.parametrize(("text", "says"), [("<lora:a:strong>", "is no number"), ("<lora:a:40>", "is 40; weights go")])
def test_an_impossible_weight_of_a_written_adapter_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        with_written_adapters(replace(REQUEST, target=text))
