"""The model card, filled in from what the stages have written down; a figure that was not measured is not in it."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template
from typing import Any

from . import denoiser as unet
from . import vae
from .budget import load_checkpoint
from .judge import Judge
from .record import record
from .scenes.art import CLASSES, COLOURS
from .scenes.backgrounds import PHRASES

_PREDICTIONS = {
    "v_prediction": "**v-prediction**,\n  Stable Diffusion's noise schedule",
    "flow": "**rectified flow**\n  without a shift of its levels",
}
TEMPLATE = Path(__file__).parent / "card_template.md"


def model_card(folder: Path) -> str:
    """The card of the run in `folder` and of the runs that it went on from.

    Raises FileNotFoundError where `machine.txt`, which names the machine, is missing.
    """
    runs = record(folder)
    return Template(TEMPLATE.read_text()).substitute(
        channels=vae.LATENT_CHANNELS,
        widths=unet.WIDTHS,
        text_width=unet.TEXT_WIDTH,
        prediction=_PREDICTIONS[load_checkpoint(folder / "unet.pt").get("prediction", "v_prediction")],
        classes=", ".join(CLASSES),
        colours="; ".join(f"{name}: {', '.join(colours)}" for name, colours in COLOURS.items()),
        grounds=", ".join(PHRASES.values()),
        machines="\n".join(f"{number}. {sentence}" for number, sentence in enumerate(runs["machines"], start=1)),
        ema=unet.EMA_DECAY,
        weighted=f"{unet.WEIGHTED_UNTIL:.0%}",
        single=f"{unet.SINGLE_UNTIL:.0%}",
        stages="\n".join(_stage(stage) for stage in runs["stages"]),
        curve="\n".join(_row(number, row) for number, curve in enumerate(runs["curves"], start=1) for row in curve),
        evaluation="\n".join(_evaluation(folder)),
    )


def _stage(stage: dict[str, Any]) -> str:
    return f"| {stage['name']} | {stage['minutes']} | {stage['steps']} | {stage['seed']} | {stage['result']} |"


def _row(run: int, row: dict[str, Any]) -> str:
    timesteps = " ".join(map(str, row["by_timestep"]))
    return f"| {run} | {row['minutes']} | {row['samples']} | {row['velocity']} | {timesteps} |"


def _evaluation(folder: Path) -> list[str]:
    path = folder / "evaluate.json"
    if not path.is_file():
        return ["No quick evaluation was made of this run; see `diffedit bench quality`."]
    report = json.loads(path.read_text())
    accuracy = ", ".join(f"{name} {value:.1%}" for name, value in Judge.figures().items())
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
