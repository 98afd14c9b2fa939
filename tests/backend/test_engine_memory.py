"""Small memories: the VAE in tiles, chosen beforehand or after an allocation failed, and the error when all fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch
from diffedit_backend.cli.program import main
from diffedit_backend.method.encoding import decode_latents, encode_picture, halvings_for, in_tiles_that_fit, tiles
from diffedit_backend.method.memory import DeviceMemoryError, free_memory_on
from diffedit_backend.models import load_model
from diffedit_training.scenes.scenes import Scenes
from PIL import Image
from tiny_models import tiny_model

SIDE = 64
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def pixels():
    noise = np.random.default_rng(0).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return np.array(Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


@pytest.fixture
def small_memory(model, monkeypatch):
    """Makes the VAE's two networks fail for inputs whose sides are above `cells` latent cells; lists those sides."""

    def set_limit(cells):
        seen = []
        for name, per_cell in (("encoder", model.factor), ("decoder", 1)):
            network = getattr(model.vae, name)

            def forward(x, *args, _whole=network.forward, _per_cell=per_cell, **kwargs):
                seen.append(max(x.shape[-2:]) // _per_cell)
                if seen[-1] > cells:
                    raise torch.OutOfMemoryError("scripted")
                return _whole(x, *args, **kwargs)

            monkeypatch.setattr(network, "forward", forward)
        return seen

    return set_limit


def settings_of(vae):
    return vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size


def test_a_vae_that_runs_out_of_memory_works_in_tiles_of_half_the_side_and_is_left_as_it_was(
    model, pixels, small_memory
):
    before = settings_of(model.vae)
    whole = encode_picture(model, pixels)
    picture = decode_latents(model, whole)
    cells = SIDE // model.factor
    seen = small_memory(cells // 2)
    tiled = encode_picture(model, pixels)
    assert seen[0] == cells
    assert max(seen[1:]) == cells // 2
    assert tiled.shape == whole.shape
    seen.clear()
    again = decode_latents(model, whole)
    assert seen[0] == cells
    assert max(seen[1:]) == cells // 2
    assert again.shape == picture.shape
    assert settings_of(model.vae) == before


def test_a_picture_in_tiles_looks_like_the_whole_one():
    model = load_model("bundled", "cpu")
    pixels = Scenes(size=2 * model.native_size, split="heldout").pair(1, "swap").source
    latents = encode_picture(model, pixels)
    whole = decode_latents(model, latents).astype(int)
    with tiles(model.vae, *pixels.shape[:2], 1):
        in_tiles = decode_latents(model, encode_picture(model, pixels))
    difference = np.abs(in_tiles - whole).mean(axis=2)
    assert difference.mean() < 4
    assert difference.max() > 0


def test_a_vae_that_does_not_fit_in_tiles_either_says_so_and_is_left_as_it_was(model, pixels, small_memory):
    before = settings_of(model.vae)
    latents = encode_picture(model, pixels)
    small_memory(1)
    with pytest.raises(DeviceMemoryError, match="scripted"):
        encode_picture(model, pixels)
    with pytest.raises(DeviceMemoryError, match="scripted"):
        decode_latents(model, latents)
    assert settings_of(model.vae) == before


def test_the_less_memory_is_free_the_smaller_the_tiles_chosen_beforehand(model):
    enough = 10**9
    assert halvings_for(model.vae, 512, 512, enough) == 0
    chosen = [halvings_for(model.vae, 512, 512, free) for free in (enough, 10**7, 10**6, 10**5, 1)]
    assert chosen == sorted(chosen)
    assert chosen[0] < chosen[1]
    assert chosen[-1] == 3


def test_tiles_are_chosen_before_anything_fails_where_the_free_memory_is_known(
    model, pixels, small_memory, monkeypatch
):
    monkeypatch.setattr("diffedit_backend.method.encoding.free_memory_on", lambda device: 1)
    seen = small_memory(SIDE)
    encode_picture(model, pixels)
    assert max(seen) == SIDE // model.factor // 8


@pytest.mark.parametrize("wish", [1, 2, 4, 8])
def test_a_wished_number_of_tiles_goes_before_the_choice(wish, model, pixels, small_memory, monkeypatch):
    monkeypatch.setattr("diffedit_backend.method.encoding.free_memory_on", lambda device: 10**12 if wish > 1 else 1)
    seen = small_memory(SIDE)
    wished = replace(model, vae_tiles=wish)
    latents = encode_picture(wished, pixels)
    assert max(seen) == SIDE // model.factor // wish
    assert decode_latents(wished, latents).shape == pixels.shape
    assert max(seen) == SIDE // model.factor // wish


def test_the_command_line_s_wish_for_tiles_reaches_the_autoencoder(tmp_path, monkeypatch):
    asked = []

    def spy(vae, height, width, halvings):
        asked.append(halvings)
        return tiles(vae, height, width, halvings)

    monkeypatch.setattr("diffedit_backend.method.encoding.tiles", spy)
    Image.fromarray(Scenes(size=128, split="heldout").pair(1, "swap").source).save(tmp_path / "in.png")
    words = ["--source", "a horse", "--target", "a zebra", "--threshold", "0.5", "--quality", "draft"]
    place = ["--device", "cpu", "--vae-tiles", "2"]
    assert main(["edit", str(tmp_path / "in.png"), str(tmp_path / "out.png"), *words, *place]) == 0
    assert set(asked) == {1}


def test_on_a_cpu_the_machine_s_free_memory_is_what_tiles_are_chosen_by():
    assert 0 < free_memory_on(CPU) <= psutil.virtual_memory().total


def test_an_owner_s_own_tiling_is_kept_where_the_whole_fits(model):
    model.vae.enable_tiling()
    try:
        with tiles(model.vae, SIDE, SIDE, 0):
            assert model.vae.use_tiling
    finally:
        model.vae.disable_tiling()


def test_another_error_of_the_vae_is_passed_on_at_once(model):
    calls = []

    def broken():
        calls.append(1)
        raise RuntimeError("not a matter of memory")

    with pytest.raises(RuntimeError, match="not a matter of memory"):
        in_tiles_that_fit(model.vae, CPU, SIDE, SIDE, broken)
    assert calls == [1]
