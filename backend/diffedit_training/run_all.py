"""All stages one after another, from nothing to an exported model and its judge: what a few minutes of a GPU are for.

Other processes render scenes from the first second to the last; one more trains the judge, which the UNet's checkpoints
are compared by from the middle of its stage on. Every stage can be resumed; those that are done are not done again.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from diffedit_protocol.errors import BadInputError

from . import autoencoder, denoiser
from .autoencoder import StageRun, Stock
from .budget import Budget, load_checkpoint
from .distributed import DistributedGroup, launch
from .evaluate import KINDS, HeldOutScore, evaluate
from .export import averaged_parts, export, model_card
from .judge import Judge
from .pool import Pool
from .record import record
from .rendering import Recipe, Renderers
from .scenes.edition import edition

# Shares of the budget; the rest is for the start, compiling, the last evaluation and the export.
SHARES = {"vae": 0.25, "unet": 0.56, "decoder": 0.06}
_STAGES = tuple(SHARES)


@dataclass(frozen=True)
class Run:
    """What is to be trained, and with what.

    minutes: for everything together; or steps: of every stage. denoiser: the UNet's settings, whose edition, size and
    seed are everyone's. picture_batch: crops per step of the autoencoder. pool: pairs that are kept on the device.
    renderers: processes that render. judge_scenes: training scenes of the judge. judge_processes: of its renderers.
    score_pairs, evaluation_pairs: held-out edits of each kind, for choosing the checkpoint and for the model card; 0 of
    the latter leaves the evaluation out.
    """

    device: str
    minutes: float | None
    steps: int | None
    denoiser: denoiser.TrainingSettings
    picture_batch: int
    pool: int
    renderers: int
    judge_scenes: int
    judge_processes: int
    score_pairs: int
    evaluation_pairs: int

    def budget(self, stage: str) -> Budget:
        """That of a stage."""
        return Budget(self.steps, None if self.minutes is None else self.minutes * SHARES[stage], save_every=60.0)


def run_all(folder: Path, out: Path, run: Run, resume: bool) -> None:
    """Train in `folder`; write `out/model` (a diffusers folder) and `out/judge`.

    Raises BadInputError where the folder holds a run already and `resume` was not asked for.
    """
    if not resume and any((folder / f"{stage}.pt").exists() for stage in _STAGES):
        raise BadInputError(f"{folder} holds a run already: go on with --resume, or give another --folder.")
    launch(_all_stages, 1, run.device, folder, out, run)


def machine(device: torch.device) -> str:
    """A sentence for the model card."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{name}, {cores} CPU cores, torch {torch.__version__}, one process."


def _all_stages(group: DistributedGroup, folder: Path, out: Path, run: Run) -> None:
    started = time.monotonic()
    settings = run.denoiser
    if not (folder / "machine.txt").is_file():
        (folder / "machine.txt").write_text(machine(group.device))
    judge = JudgeInBackground(folder / "judge", run)
    judge.start()
    before = load_checkpoint(folder / "unet.pt").get("rendered", 0) if (folder / "unet.pt").is_file() else 0
    recipe = Recipe(edition(settings.scenes), settings.size, first=before)
    try:
        with Renderers(recipe, run.renderers) as renderers:
            stock = Stock(Pool(recipe, run.pool, group), renderers)
            _train(group, folder, run, stock, judge)
    finally:
        judge.stop()
    if run.evaluation_pairs:
        _report(group, folder, run, judge.judge())
    size = export(folder, out / "model", model_card(folder), record(folder))
    shutil.copytree(folder / "judge", out / "judge", dirs_exist_ok=True)
    print(f"{size / 1e6:.1f} MB in {out / 'model'}, {(time.monotonic() - started) / 60:.1f} minutes in all", flush=True)


def _train(group: DistributedGroup, folder: Path, run: Run, stock: Stock, judge: JudgeInBackground) -> None:
    settings = run.denoiser

    def scorer() -> HeldOutScore:
        return HeldOutScore(judge.judge(), settings.size, run.score_pairs, batch=4 * run.score_pairs)

    def stage(budget: Budget, again: bool) -> StageRun:
        return StageRun(folder, budget, settings.seed, run.picture_batch, again, stock)

    stages: dict[str, Callable[[Budget, bool], None]] = {
        "vae": lambda budget, again: autoencoder.train_vae(group, stage(budget, again)),
        "unet": lambda budget, again: denoiser.train(group, folder, budget, settings, again, stock, scorer),
        "decoder": lambda budget, again: autoencoder.train_decoder(group, stage(budget, again)),
    }
    for name, train in stages.items():
        if not (folder / f"{name}.json").is_file():
            train(run.budget(name), (folder / f"{name}.pt").is_file())


def _report(group: DistributedGroup, folder: Path, run: Run, judge: Judge) -> None:
    """Write `evaluate.json` for the card, and a sheet of edits of each kind."""
    parts = averaged_parts(folder)
    parts = replace(
        parts,
        vae=parts.vae.to(group.device),
        unet=parts.unet.to(group.device),
        text_encoder=parts.text_encoder.to(group.device),
    )
    kinds = {
        kind: evaluate(parts, judge, run.evaluation_pairs, kind, folder / f"evaluate-{kind}.png") for kind in KINDS
    }
    figures = {"count": run.evaluation_pairs, "kinds": kinds, "judge": Judge.figures(folder / "judge", judge.edition)}
    (folder / "evaluate.json").write_text(json.dumps(figures, indent=2))
    print(figures, flush=True)


@dataclass
class JudgeInBackground:
    """The stage of the judge in a process of its own, which writes `judge.log` beside the judge's folder."""

    folder: Path
    run: Run
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def _log(self) -> Path:
        return self.folder.with_suffix(".log")

    def start(self) -> None:
        """Start training it, unless it is there already."""
        if (self.folder / "judge.json").is_file():
            return
        settings, run = self.run.denoiser, self.run
        command = [sys.executable, "-m", "diffedit_training", "--stage", "judge", "--folder", str(self.folder.parent)]
        command += ["--scenes", str(settings.scenes), "--size", str(settings.size), "--device", run.device]
        command += ["--judge-scenes", str(run.judge_scenes), "--data-workers", str(run.judge_processes)]
        command += ["--seed", str(settings.seed), "--out", str(self.folder)]
        paths = [part for part in sys.path if part]  # where this process has found the package
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
            )

    def judge(self) -> Judge:
        """The trained judge, once it is. RuntimeError with the end of its log where its training failed."""
        if self._process is not None and self._process.wait() != 0:
            end = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"The judge could not be trained ({self._log}):\n{end}")
        return Judge.load(self.folder, edition(self.run.denoiser.scenes))

    def stop(self) -> None:
        """End the process where the stages have failed; it is done otherwise."""
        if self._process is not None and sys.exc_info()[0] is not None:
            self._process.terminate()
            self._process.wait()
