"""Stage 4: the five parts as one diffusers folder, fp16 safetensors, with its model card, filled in from what the
stages have written down; a figure that was not measured is not in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from string import Template
from typing import Any

import torch
from diffedit_backend.models.catalogue.facts import FACTS_FILE
from diffedit_protocol.errors import BadInputError
from diffusers import AutoencoderKL

from . import denoiser as unet
from . import vae
from .budget import load_checkpoint
from .denoiser import BEST, WIDTHS, Model
from .evaluate import Parts
from .flow import new_scheduler
from .judge import Judge
from .pairs import CELL
from .record import RECORD_FILE, record
from .rendering import Recipe
from .scenes.edition import FIRST, edition
from .scenes.scenes import SIZE
from .tokenizer import new_tokenizer

_PREDICTIONS = {
    "v_prediction": "**v-prediction**,\n  Stable Diffusion's noise schedule",
    "flow": "**rectified flow**\n  without a shift of its levels",
}
_DATA = {
    1: ("Noto Emoji (Apache-2.0, `scenes/artwork/`) on procedural grounds", "one drawing of each thing"),
    2: (
        "several drawings and photographs of each thing (`scenes/second/SOURCE.md`: Apache-2.0, MIT, CC BY 4.0, GPL,\n"
        "  public domain) on procedural and photographed grounds, in five ways of painting",
        "a few drawings of each thing",
    ),
}
TEMPLATE = Path(__file__).parent / "card_template.md"


def model_card(folder: Path) -> str:
    """The card of the run in `folder` and of the runs that it went on from.

    Raises BadInputError where `machine.txt`, which names the machine, is missing.
    """
    runs = record(folder)
    state = load_checkpoint(folder / "unet.pt")
    scenes, size = edition(state.get("scenes", FIRST.number)), state.get("size", SIZE)
    data, known = _DATA[scenes.number]
    return Template(TEMPLATE.read_text()).substitute(
        channels=vae.LATENT_CHANNELS,
        size=size,
        latents=size // CELL,
        data=data,
        known=known,
        widths=tuple(state.get("widths", unet.WIDTHS)),
        text_width=unet.TEXT_WIDTH,
        prediction=_PREDICTIONS[state.get("prediction", "v_prediction")],
        classes=", ".join(scenes.things),
        colours="; ".join(f"{name}: {', '.join(colours)}" for name, colours in scenes.colours.items()),
        grounds=", ".join(scenes.phrases.values()),
        machines="\n".join(f"{number}. {sentence}" for number, sentence in enumerate(runs["machines"], start=1)),
        ema=unet.EMA_DECAY,
        weighted=f"{unet.WEIGHTED_UNTIL:.0%}",
        singles=(
            f"{Recipe.single:.0%} of the pairs of scenes with one thing each"
            if state.get("rendered")
            else f"one thing per\nscene for the first {unet.SINGLE_UNTIL:.0%} of a run that starts from nothing"
        ),
        stages="\n".join(_stage(stage) for stage in runs["stages"]),
        curve="\n".join(_row(number, row) for number, curve in enumerate(runs["curves"], start=1) for row in curve),
        evaluation="\n".join(_evaluation(folder)),
        scores="\n".join(_scores(runs)),
    )


def _stage(stage: dict[str, Any]) -> str:
    return f"| {stage['name']} | {stage['minutes']} | {stage['steps']} | {stage['seed']} | {stage['result']} |"


def _row(run: int, row: dict[str, Any]) -> str:
    timesteps = " ".join(map(str, row["by_timestep"]))
    return f"| {run} | {row['minutes']} | {row['samples']} | {row['velocity']} | {timesteps} |"


def _scores(runs: dict[str, Any]) -> list[str]:
    """How the exported checkpoint was chosen, where held-out scores were taken."""
    if "scores" not in runs:
        return ["The exported checkpoint is the one with the lowest held-out error."]
    return [
        "The exported checkpoint is the one with the best held-out score, the last one of several:",
        "",
        "| Minutes | Steps | Held-out error | Success of held-out edits | IoU |",
        "|---|---|---|---|---|",
        *(
            f"| {row['minutes']} | {row['step']} | {row['error']} | {row['success']:.0%} | {row['iou']:.2f} |"
            for row in runs["scores"]
        ),
    ]


def _evaluation(folder: Path) -> list[str]:
    path = folder / "evaluate.json"
    if not path.is_file():
        return ["No quick evaluation was made of this run; see `diffedit bench quality`."]
    report = json.loads(path.read_text())
    accuracy = ", ".join(f"{name} {value:.1%}" for name, value in report.get("judge", Judge.figures()).items())
    lines = [
        f"Quick evaluation (`--stage evaluate`): {report['count']} held-out edits of each kind, plain DiffEdit,",
        f"masks not refined. The judge is right on {accuracy} of held-out crops.",
        "",
        "| Kind | IoU | IoU, median | Success, found mask | Success, true mask | Judge on the autoencoded truth |",
        "|---|---|---|---|---|---|",
    ]
    for kind, row in report["kinds"].items():
        shares = [f"{row[name]:.0%}" for name in ("success", "success_true_mask", "success_of_autoencoded_truth")]
        lines.append(f"| {kind} | {row['iou']:.2f} | {row['iou_median']:.2f} | {' | '.join(shares)} |")
    return lines


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
