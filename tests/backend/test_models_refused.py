"""What cannot be edited with is refused by what it is, and `diffedit models` lists it with the very same sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffedit_backend.method.text import encode_text
from diffedit_backend.models import ModelOptions, load_model
from diffedit_backend.models.catalogue.families import few_steps_by_name
from diffedit_backend.models.catalogue.listing import entry_of, models
from diffedit_protocol.errors import ModelError
from diffusers import (
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    TCDScheduler,
    UNet2DConditionModel,
)
from model_files import change_settings, copy_of, parts, write_folder, write_single_file
from PIL import Image
from safetensors.torch import load_file, save_file


@pytest.fixture(autouse=True)
def away_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("DIFFEDIT_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A faultless folder `m`, and beside it a faultless single file `one.safetensors` with its settings."""
    place = tmp_path_factory.mktemp("whole")
    write_folder(place / "m", parts("sd1"))
    write_single_file(place / "one.safetensors", parts("sd1"), "sd1")
    return place


def refusal(place: Path) -> str:
    """The sentence that a load ends with, after checking that the list of models says the same."""
    with pytest.raises(ModelError) as refused:
        load_model(place, "cpu")
    assert entry_of(str(place), place).fault == refused.value.sentence
    return refused.value.sentence


def index_of(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "model_index.json").read_text(encoding="utf-8")))


def write_index(folder: Path, **entries: object) -> None:
    (folder / "model_index.json").write_text(json.dumps(index_of(folder) | entries), encoding="utf-8")


@dataclass(frozen=True)
class Fault:
    """What is done to a faultless folder, and what must be in the sentence."""

    change: Callable[[Path], object]
    says: str


FOLDERS = {
    "a damaged model_index.json": Fault(
        lambda folder: (folder / "model_index.json").write_text('{"unet": ['), "model_index.json is damaged: "
    ),
    "a model_index.json that is a list": Fault(
        lambda folder: (folder / "model_index.json").write_text("[]"), "it holds a list, not an object"
    ),
    "a typo in diffedit.json": Fault(
        lambda folder: (folder / "diffedit.json").write_text('{"guidance": 5,}'), "diffedit.json is damaged: "
    ),
    "an unknown entry in diffedit.json": Fault(
        lambda folder: (folder / "diffedit.json").write_text('{"guidence": 5}'), "Did you mean 'guidance'?"
    ),
    "an impossible entry in diffedit.json": Fault(
        lambda folder: (folder / "diffedit.json").write_text('{"guidance": "high"}'),
        "says that 'guidance' is 'high'; it must be a number above 0",
    ),
    "too few steps in diffedit.json": Fault(
        lambda folder: (folder / "diffedit.json").write_text('{"steps": 3}'),
        "says that 'steps' is 3; it must be a whole number from 4 to 100",
    ),
    "no tokenizer": Fault(lambda folder: shutil.rmtree(folder / "tokenizer"), "lacks its tokenizer"),
    "no scheduler": Fault(lambda folder: shutil.rmtree(folder / "scheduler"), "lacks scheduler/scheduler_config.json"),
    "no autoencoder": Fault(lambda folder: shutil.rmtree(folder / "vae"), "vae/config.json is missing"),
    "no text encoder": Fault(
        lambda folder: shutil.rmtree(folder / "text_encoder"), "text_encoder/config.json is missing"
    ),
    "damaged settings of a part": Fault(
        lambda folder: (folder / "unet" / "config.json").write_text("{"), "config.json is damaged"
    ),
    "a byte order mark before the settings of a part": Fault(
        lambda folder: (folder / "unet" / "config.json").write_bytes(
            b"\xef\xbb\xbf" + (folder / "unet" / "config.json").read_bytes()
        ),
        "config.json begins with a byte order mark",
    ),
    "a text encoder that is none": Fault(
        lambda folder: write_index(folder, text_encoder=["transformers", "T5EncoderModel"]),
        "reads words with a T5EncoderModel",
    ),
    "a flow model": Fault(
        lambda folder: write_index(
            folder, _class_name="FluxPipeline", unet=None, transformer=["diffusers", "FluxTransformer2DModel"]
        ),
        "is a FluxPipeline with a transformer, which is not supported",
    ),
    "a refiner": Fault(
        lambda folder: write_index(
            folder,
            _class_name="StableDiffusionXLImg2ImgPipeline",
            text_encoder=[None, None],
            text_encoder_2=["transformers", "CLIPTextModelWithProjection"],
        ),
        "is a refiner of XL",
    ),
    "a ControlNet beside the model": Fault(
        lambda folder: write_index(
            folder, _class_name="StableDiffusionControlNetPipeline", controlnet=["diffusers", "ControlNetModel"]
        ),
        "with a ControlNet, which needs a guiding picture",
    ),
    "an inpainting model": Fault(
        lambda folder: change_settings(folder, "unet", in_channels=9),
        "is an inpainting model: its UNet takes 9 channels",
    ),
    "a model of 8 channels": Fault(
        lambda folder: change_settings(folder, "unet", in_channels=8), "is an image-conditioned model (InstructPix2Pix"
    ),
    "a ControlNet alone": Fault(
        lambda folder: (
            (folder / "model_index.json").unlink(),
            (folder / "config.json").write_text('{"_class_name": "ControlNetModel"}'),
        ),
        "holds a ControlNetModel alone",
    ),
    "a file that is cut off": Fault(
        lambda folder: (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(
            (folder / "vae" / "diffusion_pytorch_model.safetensors").read_bytes()[:-40]
        ),
        "is incomplete: it ends before its last weights",
    ),
    "pieces that are missing": Fault(
        lambda folder: (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(
            folder / "unet" / "diffusion_pytorch_model-00001-of-00002.safetensors"
        ),
        "pieces of its weights are missing",
    ),
    "pickled weights": Fault(
        lambda folder: (folder / "vae" / "diffusion_pytorch_model.safetensors").rename(
            folder / "vae" / "diffusion_pytorch_model.bin"
        ),
        "The vae of",
    ),
}


@pytest.mark.parametrize("fault", FOLDERS)
def test_a_folder_with_a_fault_is_refused_and_listed_in_the_same_words(fault: str, whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole / "m", tmp_path / "m")
    FOLDERS[fault].change(folder)
    assert FOLDERS[fault].says in refusal(folder)


def without(file: Path, *prefixes: str) -> None:
    save_file({name: value for name, value in load_file(file).items() if not name.startswith(prefixes)}, file)


def with_first_layer_of(file: Path, channels: int) -> None:
    tensors = load_file(file)
    name = "model.diffusion_model.input_blocks.0.0.weight"
    tensors[name] = tensors[name].repeat(1, 3, 1, 1)[:, :channels].contiguous()
    save_file(tensors, file)


def holding(*names: str) -> Callable[[Path], object]:
    return lambda file: save_file({name: torch.zeros(2, 2) for name in names}, file)


FILES = {
    "no autoencoder": Fault(lambda file: without(file, "first_stage_model."), "lacks its autoencoder (VAE)"),
    "no text encoder": Fault(lambda file: without(file, "cond_stage_model."), "lacks its text encoder"),
    "the UNet only": Fault(
        lambda file: without(file, "cond_stage_model.", "first_stage_model."),
        "lacks its autoencoder (VAE) and its text encoder",
    ),
    "an inpainting model": Fault(lambda file: with_first_layer_of(file, 9), "is an inpainting model"),
    "a model of 8 channels": Fault(lambda file: with_first_layer_of(file, 8), "takes 8 channels"),
    "a file that is cut off": Fault(lambda file: file.write_bytes(file.read_bytes()[:-40]), "is incomplete"),
    "an empty file": Fault(lambda file: file.write_bytes(b""), "is empty. Download it again"),
    "a pointer of Git LFS": Fault(
        lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "pointer of Git LFS"
    ),
    "a page that asks for a login": Fault(lambda file: file.write_text("<!DOCTYPE html><html>"), "is a web page"),
    "FLUX.1": Fault(holding("double_blocks.0.img_attn.norm.key_norm.scale"), "of the kind FLUX.1"),
    "FLUX.1 as ComfyUI writes it": Fault(
        holding("model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale"), "of the kind FLUX.1"
    ),
    "a refiner": Fault(
        holding(
            "model.diffusion_model.out.2.weight",
            "first_stage_model.x",
            "conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias",
        ),
        "is a refiner of XL",
    ),
    "a LoRA": Fault(holding("lora_unet_mid_block_x.lora_down.weight"), "a LoRA. Put it into the adapters folder"),
    "a LoHa": Fault(holding("lora_unet_mid_block_x.hada_w1_a"), "a LyCORIS LoHa"),
    "a textual inversion": Fault(holding("emb_params"), "a textual inversion. Put it into the adapters folder"),
    "a ControlNet": Fault(holding("control_model.time_embed.0.weight"), "but a ControlNet"),
    "an autoencoder": Fault(holding("decoder.conv_in.weight", "encoder.conv_in.weight"), "an autoencoder (VAE)"),
    "a text encoder": Fault(holding("text_model.embeddings.position_embedding.weight"), "a text encoder"),
    "something else": Fault(holding("x"), "an other network"),
}


@pytest.mark.parametrize("fault", FILES)
def test_a_single_file_with_a_fault_is_refused_and_listed_in_the_same_words(
    fault: str, whole: Path, tmp_path: Path
) -> None:
    copy_of(whole / "one", tmp_path / "one")
    file = Path(shutil.copy(whole / "one.safetensors", tmp_path))
    FILES[fault].change(file)
    sentence = refusal(file)
    assert FILES[fault].says in sentence
    assert "Connect once" not in sentence


def test_a_byte_order_mark_before_json_is_read_over(whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole / "m", tmp_path / "m")
    index = folder / "model_index.json"
    index.write_bytes(b"\xef\xbb\xbf" + index.read_bytes())
    (folder / "diffedit.json").write_bytes(b'\xef\xbb\xbf{"guidance": 5.5}')
    assert entry_of("m", folder).fault == ""
    assert load_model(folder, "cpu").guidance == 5.5


def test_settings_are_read_as_utf_8_whatever_the_system_takes(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(whole / "m", tmp_path / "Modèle")
    write_index(folder, _note="für Bilder, 絵")
    real = Path.read_text
    asked: list[str | None] = []

    def read_text(self: Path, encoding: str | None = None, *args: str | None) -> str:
        if self.is_relative_to(folder):
            asked.append(encoding)
        return real(self, encoding, *args)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert load_model(folder, "cpu").native_size == 32
    assert asked
    assert set(asked) <= {"utf-8-sig", "utf-8"}


def test_parts_in_half_and_in_full_precision_side_by_side_are_loaded(whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole / "m", tmp_path / "m")
    plain = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: value.half() for name, value in load_file(plain).items()}, plain.with_suffix(".half"))
    plain.unlink()
    plain.with_suffix(".half").rename(plain.with_name("diffusion_pytorch_model.fp16.safetensors"))
    model = load_model(folder, "cpu")
    assert entry_of("m", folder).fault == ""
    expected = load_model(whole / "m", "cpu")
    for name, value in model.denoiser.state_dict().items():
        assert torch.equal(value, expected.denoiser.state_dict()[name].half().float()), name
    assert all(torch.equal(v, expected.vae.state_dict()[k]) for k, v in model.vae.state_dict().items())


def test_a_folder_beside_a_single_file_that_holds_only_diffedit_json_is_not_taken_for_its_settings(
    whole: Path, tmp_path: Path
) -> None:
    file = Path(shutil.copy(whole / "one.safetensors", tmp_path))
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "diffedit.json").write_text('{"size": 32}')
    with pytest.raises(ModelError, match="Connect once so that they can be fetched"):
        load_model(file, "cpu")


def other_autoencoder(whole: Path, folder: Path) -> Path:
    """A folder with an autoencoder that differs from the model's in every weight."""
    copy_of(whole / "m" / "vae", folder)
    weights = folder / "diffusion_pytorch_model.safetensors"
    save_file({name: value + 0.25 for name, value in load_file(weights).items()}, weights)
    return folder


@pytest.mark.parametrize("how", ["option", "diffedit.json", "beside the file", "by name"])
@pytest.mark.parametrize("lacking", [False, True], ids=["in place of its own", "where it has none"])
def test_another_autoencoder_is_taken(how: str, lacking: bool, whole: Path, tmp_path: Path) -> None:
    copy_of(whole / "one", tmp_path / "one")
    file = Path(shutil.copy(whole / "one.safetensors", tmp_path))
    original = {
        name.removeprefix("first_stage_model."): value + 0.25
        for name, value in load_file(file).items()
        if name.startswith("first_stage_model.")
    }
    if lacking:
        without(file, "first_stage_model.")
    kept = {
        "option": tmp_path / "other.safetensors",
        "diffedit.json": tmp_path / "other.safetensors",
        "beside the file": tmp_path / "one.vae.safetensors",
        "by name": tmp_path / "home" / "vae" / "other.safetensors",
    }[how]
    kept.parent.mkdir(parents=True, exist_ok=True)
    save_file(original, kept)
    options = ModelOptions("cpu")
    if how == "option":
        options = ModelOptions("cpu", vae=str(kept))
    if how == "by name":
        options = ModelOptions("cpu", vae="other")
    if how == "diffedit.json":
        (tmp_path / "one" / "diffedit.json").write_text(json.dumps({"vae": str(kept)}))
    loaded = load_model(file, options).vae.state_dict()
    expected = load_file(whole / "m" / "vae" / "diffusion_pytorch_model.safetensors")
    assert loaded.keys() == expected.keys()
    assert all(torch.allclose(loaded[name], expected[name] + 0.25) for name in expected)


def test_an_autoencoder_in_a_folder_is_taken_for_a_folder_too(whole: Path, tmp_path: Path) -> None:
    folder = other_autoencoder(whole, tmp_path / "vae")
    loaded = load_model(whole / "m", ModelOptions("cpu", vae=str(folder)))
    plain = load_model(whole / "m", "cpu")
    assert loaded.key != plain.key
    own = plain.vae.state_dict()
    assert all(torch.equal(value, own[name] + 0.25) for name, value in loaded.vae.state_dict().items())


@pytest.mark.parametrize(
    ("name", "says"), [("gone", "There is no autoencoder 'gone'"), ("lora", "holds no autoencoder")]
)
def test_what_is_no_autoencoder_is_refused(name: str, says: str, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "home" / "vae").mkdir(parents=True)
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(1)}, tmp_path / "home" / "vae" / "lora.safetensors")
    with pytest.raises(ModelError, match=says):
        load_model(whole / "m", ModelOptions("cpu", vae=name))


def test_an_autoencoder_beside_its_model_is_not_listed_as_a_model(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "models"
    folder.mkdir(parents=True)
    shutil.copy(whole / "one.safetensors", folder)
    shutil.copy(whole / "m" / "vae" / "diffusion_pytorch_model.safetensors", folder / "one.vae.safetensors")
    assert [entry.name for entry in models()] == ["bundled", "one"]


@pytest.mark.parametrize("family", ["sd1", "xl"])
def test_the_keys_of_a_file_that_predicts_velocity_up_to_pure_noise_are_heeded(family: str, tmp_path: Path) -> None:
    file = write_single_file(tmp_path / "noob.safetensors", parts(family, "epsilon"), family)
    save_file({**load_file(file), "v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}, file)
    schedule = load_model(file, "cpu").schedule
    assert schedule.prediction_type == "v_prediction"
    assert schedule.alphas_cumprod[-1] == pytest.approx(0, abs=1e-6)
    (tmp_path / "noob" / "diffedit.json").write_text('{"prediction_type": "epsilon", "zero_terminal_snr": false}')
    schedule = load_model(file, "cpu").schedule
    assert schedule.prediction_type == "epsilon"
    assert schedule.alphas_cumprod[-1] > 0.001


@pytest.mark.parametrize("clip_skip", [1, 2, 3])
def test_clip_skip_of_a_model_reads_the_layer_that_it_says(clip_skip: int, whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole / "m", tmp_path / "m")
    plain = load_model(folder, "cpu")
    (folder / "diffedit.json").write_text(json.dumps({"clip_skip": clip_skip}))
    model = load_model(folder, "cpu")
    encoder = plain.text_encoders[0]
    ids = plain.tokenizers[0]("a horse", padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.inference_mode():
        hidden = encoder(ids, output_hidden_states=True).hidden_states[-clip_skip]
        expected = getattr(encoder, "text_model", encoder).final_layer_norm(hidden)[0]
    assert torch.allclose(encode_text(model, "a horse").tokens, expected, atol=1e-6)
    assert (model.key == plain.key) is False


def test_clip_skip_is_refused_where_it_means_nothing(whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole / "m", tmp_path / "m")
    (folder / "diffedit.json").write_text('{"clip_skip": 4}')
    with pytest.raises(ModelError, match="is 4, but its text encoder has 3 layers"):
        load_model(folder, "cpu")
    other = write_folder(tmp_path / "xl", parts("xl"))
    (other / "diffedit.json").write_text('{"clip_skip": 2}')
    with pytest.raises(ModelError, match="for Stable Diffusion 1 and 2, not for XL"):
        load_model(other, "cpu")


SCHEDULERS: dict[str, tuple[Any, dict[str, Any], int]] = {
    "LCM": (LCMScheduler, {"steps_offset": 1}, 4),
    "TCD": (TCDScheduler, {"steps_offset": 1}, 4),
    "SD-Turbo": (EulerDiscreteScheduler, {"timestep_spacing": "trailing", "steps_offset": 1}, 4),
    "SDXL-Turbo": (EulerAncestralDiscreteScheduler, {"timestep_spacing": "trailing", "steps_offset": 1}, 4),
    "SDXL base": (EulerDiscreteScheduler, {"timestep_spacing": "leading", "steps_offset": 1}, 0),
    "up to pure noise": (
        EulerDiscreteScheduler,
        {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True, "steps_offset": 1},
        0,
    ),
    "DDIM": (DDIMScheduler, {"timestep_spacing": "trailing", "steps_offset": 1, "clip_sample": False}, 0),
}


# The library's schedulers hand tensors to numpy in a way that numpy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_a_distilled_model_is_recognised_by_its_scheduler(kind: str, tmp_path: Path) -> None:
    scheduler, settings, steps = SCHEDULERS[kind]
    made = parts("sd1")
    made["scheduler"] = scheduler(**settings)
    folder = write_folder(tmp_path / "m", made)
    model = load_model(folder, "cpu")
    assert (model.few_steps, model.guidance) == (steps, 1.0 if steps else 7.5)
    assert entry_of("m", folder).few_steps == steps
    (folder / "diffedit.json").write_text('{"few_steps": 2, "guidance": 1.5}')
    reported = load_model(folder, "cpu")
    assert (reported.few_steps, reported.guidance) == (2, 1.5)
    (folder / "diffedit.json").write_text('{"few_steps": 0}')
    assert load_model(folder, "cpu").few_steps == 0


def test_a_model_is_loaded_with_the_steps_that_its_diffedit_json_says_suffice(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", parts("sd1"))
    assert load_model(folder, "cpu").steps is None
    (folder / "diffedit.json").write_text('{"steps": 8}')
    assert load_model(folder, "cpu").steps == 8
    assert load_model("bundled", "cpu").steps == 12


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("sdxl_lightning_4step", 4),
        ("sdxl_lightning_8step_lora", 8),
        ("Hyper-SD15-1step-lora", 1),
        ("Hyper-SDXL-8steps-CFG-lora", 8),
        ("sd_xl_turbo_1.0_fp16", 4),
        ("dreamshaperXL_lightningDPMSDE", 4),
        ("DreamShaperXL_Turbo_v2_1", 4),
        ("lcm-lora-sdv1-5", 4),
        ("dmd2_sdxl_4step_lora_fp16", 4),
        ("LCM_Dreamshaper_v7", 4),
        ("v1-5-pruned-emaonly", 0),
        ("lightningrod_4steps", 0),
        ("hyperrealism_v3", 0),
        ("steps", 0),
    ],
)
def test_a_single_file_and_a_lora_say_by_their_names_that_they_are_distilled(name: str, steps: int) -> None:
    assert few_steps_by_name(name) == steps


def test_a_consistency_models_unet_is_told_the_guidance_that_it_was_distilled_with(tmp_path: Path) -> None:
    made = parts("sd1")
    torch.manual_seed(0)
    made["unet"] = UNet2DConditionModel.from_config(made["unet"].config, time_cond_proj_dim=16).eval()
    model = load_model(write_folder(tmp_path / "lcm", made), "cpu")
    assert model.few_steps > 0
    x, text = torch.randn(2, 4, 16, 16), torch.randn(2, 7, 32)
    embedding = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, torch.full((2,), 7.5), 16)
    with torch.inference_mode():
        expected = made["unet"](x, 300, encoder_hidden_states=text, timestep_cond=embedding).sample
        assert torch.allclose(model.denoiser(x, 300, encoder_hidden_states=text).sample, expected, atol=1e-5)
        assert not torch.allclose(made["unet"](x, 300, encoder_hidden_states=text).sample, expected, atol=1e-4)


def test_the_libraries_advice_does_not_stand_before_the_sentence_of_a_refusal(whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole / "m", tmp_path / "m")
    shutil.rmtree(folder / "tokenizer")
    Image.new("RGB", (32, 32), (200, 40, 30)).save(tmp_path / "in.png")
    command = [
        sys.executable,
        "-m",
        "diffedit_backend.cli",
        "mask",
        str(tmp_path / "in.png"),
        str(tmp_path / "out.png"),
    ]
    command += ["--source", "a horse", "--target", "a zebra", "--model", str(folder), "--device", "cpu"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    (line,) = answer.stderr.strip().splitlines()
    assert "lacks its tokenizer" in line
