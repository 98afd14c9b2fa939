"""The model card, filled in from what the stages have written down; a figure that was not measured is not in it."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template
from typing import Any

from ..art import CLASSES, COLOURS
from ..backgrounds import PHRASES
from ..judge import Judge
from . import unet, vae

TEMPLATE = Path(__file__).parent / "card_template.md"
_CURVE_ROWS = 12


def model_card(folder: Path) -> str:
    """The card of the run in `folder`. Reads `machine.txt`, one or more sentences on where it ran.

    Raises FileNotFoundError when the autoencoder or the UNet has left no figures, or nobody has said which machine.
    """
    curve = [json.loads(line) for line in (folder / "unet.jsonl").read_text().splitlines()]
    return Template(TEMPLATE.read_text()).substitute(
        channels=vae.LATENT_CHANNELS,
        widths=unet.WIDTHS,
        text_width=unet.TEXT_WIDTH,
        classes=", ".join(CLASSES),
        colours="; ".join(f"{name}: {', '.join(colours)}" for name, colours in COLOURS.items()),
        grounds=", ".join(PHRASES.values()),
        machine=(folder / "machine.txt").read_text().strip(),
        ema=unet.EMA_DECAY,
        weighted=f"{unet.WEIGHTED_UNTIL:.0%}",
        single=f"{unet.SINGLE_UNTIL:.0%}",
        stages="\n".join(_stages(folder, curve[-1])),
        curve="\n".join(_curve(curve)),
        evaluation="\n".join(_evaluation(folder)),
    )


def _stages(folder: Path, last: dict[str, Any]) -> list[str]:
    rows = [_autoencoder_row("autoencoder", folder / "vae.json")]
    rows.append(f"| UNet and text encoder | {last['minutes']} | {last['step']} | {last['samples']} samples |")
    if (folder / "decoder.json").is_file():
        rows.append(_autoencoder_row("decoder again", folder / "decoder.json"))
    return rows


def _autoencoder_row(name: str, path: Path) -> str:
    figures = json.loads(path.read_text())
    return f"| {name} | {figures['minutes']} | {figures['steps']} | PSNR {figures['psnr']} dB on held-out scenes |"


def _curve(curve: list[dict[str, Any]]) -> list[str]:
    chosen = curve[:: max(1, len(curve) // _CURVE_ROWS)]
    if chosen[-1] is not curve[-1]:
        chosen.append(curve[-1])
    return [
        f"| {row['minutes']} | {row['samples']} | {row['velocity']} | {' '.join(map(str, row['by_timestep']))} |"
        for row in chosen
    ]


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
