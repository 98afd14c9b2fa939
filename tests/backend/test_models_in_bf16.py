"""bf16 is the default for large models on some processors: all that an edit may ask for has to work in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffedit_backend.editing import edit_picture, paste
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.models import ModelOptions, load_model
from diffedit_protocol.errors import ModelError
from diffedit_protocol.messages import Adapter, EditRequest
from model_files import FAMILIES, flagging_checker, parts, pipeline, write_folder
from safetensors.torch import save_file

REQUEST = EditRequest("a horse", "a zebra", quality="draft", strength=0.5, threshold=0.3)


@pytest.fixture
def picture() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(3).integers(0, 255, (32, 48, 3), np.uint8)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"target": "a (zebra)1.3 on grass"},
        {"source": "a horse | a mare", "target": "a zebra | a striped horse"},
        {"attention": 0.5},
        {"negative": "a cat", "guidance": 3.0, "variations": 2},
        {"method": "paper"},
        {"method": "reference"},
        {"adapters": (Adapter("thing", 0.7),), "target": "a thing"},
    ],
    ids=["plain", "weights", "wordings", "attention", "negative", "paper", "reference", "learned word"],
)
def test_an_edit_in_bf16_ends_in_a_picture_that_differs_inside_of_the_mask_only(
    wish: dict[str, Any], family: str, tmp_path: Path, picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFEDIT_HOME", str(tmp_path))
    model = load_model(write_folder(tmp_path / family, parts(family)), ModelOptions("cpu", "bf16"))
    widths = [encoder.get_input_embeddings().embedding_dim for encoder in model.text_encoders]
    names = ["clip_l", "clip_g"] if model.is_xl else ["emb_params"]
    (tmp_path / "adapters").mkdir()
    learned = {name: torch.ones(2, width).half() for name, width in zip(names, widths, strict=True)}
    save_file(learned, tmp_path / "adapters" / "thing.safetensors")
    outcome = edit_picture(DiffEditEngine(model), replace(REQUEST, **wish), picture)
    result = paste(picture, outcome, 0)
    assert np.array_equal(result[outcome.mask == 0], picture[outcome.mask == 0])
    assert (result[outcome.mask > 0] != picture[outcome.mask > 0]).any()


def test_a_safety_checker_looks_in_bf16_too(tmp_path: Path, picture: Any) -> None:
    network, processor = flagging_checker()
    pipeline(parts("sd1"), safety_checker=network, feature_extractor=processor).save_pretrained(tmp_path / "m")
    with pytest.raises(ModelError, match="safety checker flagged every result"):
        edit_picture(DiffEditEngine(load_model(tmp_path / "m", ModelOptions("cpu", "bf16"))), REQUEST, picture)
