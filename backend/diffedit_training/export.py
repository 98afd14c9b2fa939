"""Stage 4: the five parts as one diffusers folder, fp16 safetensors, with its model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffedit_backend.models.catalogue.facts import FACTS_FILE
from diffedit_protocol.errors import BadInputError
from diffusers import AutoencoderKL

from .budget import load_checkpoint
from .denoiser import BEST, WIDTHS, Model
from .evaluate import Parts
from .flow import new_scheduler
from .record import RECORD_FILE
from .scenes.edition import FIRST, edition
from .scenes.scenes import SIZE
from .tokenizer import new_tokenizer

# More guidance than this burns the colours out, less leaves the old thing standing: looked at on the demo pictures.
BEST_GUIDANCE = 3.0
LIMIT_BYTES = 40 * 1024 * 1024


def averaged_parts(folder: Path) -> Parts:
    """The parts of the run in `folder`, float32, with the averaged weights of its best checkpoint (`denoiser.Keeper`);
    of the last one where an older run kept no such.
    """
    best = folder / BEST
    state = load_checkpoint(best if best.is_file() else folder / "unet.pt")
    scenes = edition(state.get("scenes", FIRST.number))
    tokenizer = new_tokenizer(scenes)
    model = Model(tokenizer, tuple(state.get("widths", WIDTHS)), state.get("size", SIZE), scenes)
    with torch.no_grad():
        for parameter, average in zip(model.parameters(), state["average"], strict=True):
            parameter.copy_(average)
    tuned = folder / "vae_decoder"
    vae = AutoencoderKL.from_pretrained(tuned if tuned.is_dir() else folder / "vae").float().eval()
    model.unet.set_default_attn_processor()
    return Parts(
        vae,
        model.unet.eval(),
        model.text_encoder.eval(),
        tokenizer,
        new_scheduler(state.get("prediction", "v_prediction")),
    )


def export(folder: Path, target: Path, card: str, record: dict[str, Any]) -> int:
    """Write the run in `folder` to `target` (replaced) and return its size in bytes.

    Raises BadInputError beyond LIMIT_BYTES.
    """
    from diffusers import StableDiffusionPipeline

    parts = averaged_parts(folder)
    pipeline = StableDiffusionPipeline(
        vae=parts.vae,
        unet=parts.unet,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        scheduler=parts.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16)
    shutil.rmtree(target, ignore_errors=True)
    pipeline.save_pretrained(target)
    for config in target.rglob("*config.json"):  # paths of this machine are in some
        values = json.loads(config.read_text())
        if values.pop("_name_or_path", None) is not None:
            config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    (target / FACTS_FILE).write_text(json.dumps({"guidance": BEST_GUIDANCE}) + "\n")
    (target / "MODEL_CARD.md").write_text(card)
    (target / RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n")
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    if size > LIMIT_BYTES:
        raise BadInputError(f"The exported model has {size} bytes, more than {LIMIT_BYTES}: make it narrower.")
    return size
