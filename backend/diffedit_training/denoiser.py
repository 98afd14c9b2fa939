"""Stage 2: UNet and text encoder, v-prediction or rectified flow on whitened latents of fresh scenes.

Each step takes pairs of scenes (`examples`), stratified timesteps with more of the middle, and weights the squared
error by 1 + 3 x the share of a latent that a thing covers; the last part is unweighted. Scenes have one thing
at first. A linear head reads the class of every coarse cell from the decoder's first block, which teaches features and
cross-attention where which thing is (after the idea of REPA, Yu et al. 2024); it is thrown away afterwards.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffedit_protocol.errors import BadInputError
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .autoencoder import Stock
from .budget import Budget, learning_rate, load_checkpoint, save_checkpoint
from .distributed import DistributedGroup
from .evaluate import HeldOutScore, Parts
from .examples import Batch, ExampleStore
from .flow import FlowTeacher, NoiseLevels, Prediction, new_scheduler, refit_time_embedding, scheduler_of
from .pairs import CELL, labels_of
from .record import TrainingLog, record_score, record_stage, take_over
from .scenes.edition import FIRST, Edition, edition
from .scenes.scenes import SIZE, Scenes
from .tokenizer import MAX_TOKENS, new_tokenizer
from .vae import LATENT_CHANNELS

WIDTHS = (64, 128, 192)
TEXT_WIDTH = 128
STAGE = 2  # the seed's second number
UNCAPTIONED = 0.1
FOREGROUND_WEIGHT = 3.0
CLASS_MAP_WEIGHT = 0.05
MIDDLE, MIDDLE_SHARE = (250, 850), 0.4  # timesteps that matter most for edits, and how many of a batch are taken there
SINGLE_UNTIL, WEIGHTED_UNTIL, HOLD = 0.2, 0.8, 0.55  # shares of the budget
PEAK_LEARNING_RATE = 8e-4
HELD_OUT_PAIRS, HELD_OUT_FIRST = 24, 3_000_000_000  # scenes that checkpoints are compared on
BEST = "unet-best.pt"
POOL_START = 4096  # pairs that a pool has to hold before the first step
EMA_DECAY, EMA_EVERY = 0.998, 4  # decay per step; the average moves every fourth step


@dataclass(frozen=True)
class TrainingSettings:
    """One run. batch: pairs per step and worker; fresh: new ones among them, on average; learning_rate: the peak.

    start: a diffusers folder whose weights the run starts from, with a new optimiser and no phase of single things.
    prediction: what the UNet learns to predict; "flow" is rectified flow's velocity (arXiv 2209.03003).
    widths: channels of the UNet's levels; the export of (64, 128, 192) takes 21 MB in half precision.
    min_snr: weigh a timestep's error by min(SNR, min_snr) / (SNR + 1) (arXiv 2303.09556); None weighs all alike.
    compiled: compile the UNet, which pays on a GPU after the minute that it takes.
    data_workers: processes that render scenes; 0 renders in this one. scenes: which edition of them, at `size` px.
    score_every: seconds between two held-out scores, by the best of which the export is chosen, from the share
    `score_from` of the budget on; journal_every: seconds between two rows of the journal.
    """

    seed: int
    batch: int
    fresh: float
    learning_rate: float = PEAK_LEARNING_RATE
    start: Path | None = None
    prediction: Prediction = "v_prediction"
    widths: tuple[int, ...] = WIDTHS
    min_snr: float | None = None
    compiled: bool = False
    data_workers: int = 0
    scenes: int = FIRST.number
    size: int = SIZE
    score_every: float = 45.0
    score_from: float = 0.4
    journal_every: float = 60.0


class Model(nn.Module):
    """UNet, text encoder and the auxiliary head, trained together, for pictures of `size` px.

    `eager`: do not run the compiled UNet, which has been compiled for the one shape of a training batch.
    """

    def __init__(
        self, tokenizer: CLIPTokenizer, widths: tuple[int, ...] = WIDTHS, size: int = SIZE, scenes: Edition = FIRST
    ) -> None:
        super().__init__()
        self.eager = False
        self.unet = UNet2DConditionModel(
            sample_size=size // CELL,
            in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            layers_per_block=1,
            block_out_channels=widths,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=4,
            norm_num_groups=16,
        )
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=TEXT_WIDTH,
                intermediate_size=2 * TEXT_WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=MAX_TOKENS,
                projection_dim=TEXT_WIDTH,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        for module in self.text_encoder.modules():  # CLIP's own start is made for large widths: far too small here
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.1)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
        self.class_map = nn.Conv2d(widths[-1], labels_of(scenes), 1)
        self._features: Tensor | None = None
        self.unet.up_blocks[0].register_forward_hook(self._keep_features)

    def start_from(self, folder: Path) -> None:
        """Take the weights of an exported model of either prediction; the auxiliary head, which is never exported,
        starts anew.
        """
        config = json.loads((folder / "unet" / "config.json").read_text())
        theirs, ours = tuple(config["block_out_channels"]), tuple(self.unet.config.block_out_channels)
        if theirs != ours:
            raise BadInputError(
                f"{folder} has a UNet with widths {theirs}, not {ours}: leave --widths or --start-from out."
            )
        self.unet.load_state_dict(load_file(folder / "unet" / "diffusion_pytorch_model.safetensors"))
        self.text_encoder.load_state_dict(load_file(folder / "text_encoder" / "model.safetensors"))

    def _keep_features(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self._features = output

    def forward(self, noisy: Tensor, timesteps: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """The v-prediction (n, 8, h, w) and the logits of the class map (n, `labels_of`, h/2, w/2)."""
        states = self.text_encoder(token_ids).last_hidden_state
        unet = self.unet.forward if self.eager else self.unet
        velocity = unet(noisy, timesteps, states).sample
        assert self._features is not None
        return velocity, self.class_map(self._features)


@dataclass
class Run:
    """The state of a training run: what a checkpoint holds."""

    model: Model
    average: list[Tensor]
    optimiser: torch.optim.Optimizer
    step: int = 0
    single_steps: int = 0
    samples: int = 0
    prediction: Prediction = "v_prediction"
    best: float | None = None  # the lowest held-out error of a checkpoint so far
    best_score: float | None = None  # the highest held-out score of a checkpoint so far, where scores are taken
    scenes: int = FIRST.number
    size: int = SIZE
    rendered: int = 0  # pairs of a pool, so that a run that goes on sees others

    def state(self, seconds: float) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "single_steps": self.single_steps,
            "samples": self.samples,
            "prediction": self.prediction,
            "widths": tuple(self.model.unet.config.block_out_channels),
            "scenes": self.scenes,
            "size": self.size,
            "rendered": self.rendered,
            "seconds": seconds,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Raises BadInputError for the checkpoint of a run with another prediction, other widths or other scenes."""
        kept = state.get("prediction", "v_prediction")
        if kept != self.prediction:
            raise BadInputError(f"The checkpoint is of a run with prediction {kept!r}, not {self.prediction!r}.")
        widths, mine_too = tuple(state.get("widths", WIDTHS)), tuple(self.model.unet.config.block_out_channels)
        if widths != mine_too:
            raise BadInputError(f"The checkpoint is of a UNet with widths {widths}, not {mine_too}: give --widths.")
        scenes, size = state.get("scenes", FIRST.number), state.get("size", SIZE)
        if (scenes, size) != (self.scenes, self.size):
            raise BadInputError(
                f"The checkpoint is of scenes {scenes} at {size} px, not of {self.scenes} at {self.size} px: "
                "give --scenes and --size."
            )
        self.rendered = state.get("rendered", 0)
        self.model.load_state_dict(state["model"])
        for mine, saved in zip(self.average, state["average"], strict=True):
            mine.copy_(saved)
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.single_steps, self.samples = state["step"], state["single_steps"], state["samples"]

    @torch.no_grad()
    def follow(self) -> None:
        """Move the average of the weights a little towards the weights."""
        if self.step % EMA_EVERY:
            return
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step)) ** EMA_EVERY
        torch._foreach_lerp_(self.average, [p.data for p in self.model.parameters()], 1 - decay)


def train(
    group: DistributedGroup,
    folder: Path,
    budget: Budget,
    settings: TrainingSettings,
    resume: bool,
    stock: Stock | None = None,
    score: Callable[[], HeldOutScore] | None = None,
) -> None:
    """Train until the budget is spent. Reads `folder/vae/`; writes `folder/unet.pt` now and then and at the end.

    stock: takes pairs from its pool, whose scenes are never rendered twice, in place of a store of this process.
    score: gives the held-out score by which the checkpoint to export is chosen; called when the first one is due.
    """
    scenes = edition(settings.scenes)
    tokenizer = new_tokenizer(scenes)
    if settings.start is not None and group.leads and not resume:
        shutil.copytree(settings.start / "vae", folder / "vae", dirs_exist_ok=True)
        take_over(settings.start, folder)
    group.wait()
    vae = AutoencoderKL.from_pretrained(folder / "vae").float().eval().requires_grad_(False).to(group.device)
    torch.manual_seed(settings.seed)
    model = Model(tokenizer, settings.widths, settings.size, scenes).to(group.device)
    teacher = None
    if settings.start is not None:
        model.start_from(settings.start)
        if settings.prediction == "flow" and isinstance(scheduler_of(settings.start), DDIMScheduler):
            teacher = FlowTeacher(model.unet, model.text_encoder)
            refit_time_embedding(model.unet, teacher)
    if group.device.type == "cpu":
        model.unet.set_attn_processor(AttnProcessor())  # at this size 10 % faster there than the fused kernel
    else:
        model.unet.to(memory_format=torch.channels_last)
        vae.to(memory_format=torch.channels_last)
    parameters = list(model.parameters())
    optimiser = torch.optim.AdamW(parameters, settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    run, path = Run(model, [p.detach().clone() for p in parameters], optimiser), folder / "unet.pt"
    run.prediction, run.scenes, run.size = settings.prediction, settings.scenes, settings.size
    if resume:
        state = load_checkpoint(path)
        run.load(state)
        budget.resume_at(state["seconds"])
        if (folder / BEST).is_file():
            best = load_checkpoint(folder / BEST)
            run.best, run.best_score = best["best"], best.get("score")
    if settings.compiled:
        model.unet.compile(dynamic=False)
    drawn = Scenes(settings.size, edition=scenes)
    store = ExampleStore(vae, tokenizer, group, drawn, data_workers=settings.data_workers)
    levels = NoiseLevels.of(settings.prediction).to(group.device)
    held_out = held_out_batch(ExampleStore(vae, tokenizer, group, drawn)) if group.leads else None
    keeper = Keeper(run, group, folder, held_out, levels, vae, tokenizer, score)
    training_log = TrainingLog(folder / "unet.jsonl", run.step, run.samples, budget.seconds, settings.journal_every)
    next_score = budget.seconds
    if stock:
        stock.pool.encode_with(vae)
        stock.pool.fill(stock.renderers, POOL_START)
    while (progress := group.agree(budget.progress(run.step))) < 1:
        rng = group.seed_step(settings.seed, STAGE, run.step)
        rate = learning_rate(settings.learning_rate, run.step, progress, warmup=200, hold=HOLD)
        for parameter_group in optimiser.param_groups:
            parameter_group["lr"] = rate
        single = settings.start is None and progress < SINGLE_UNTIL and stock is None
        run.single_steps += single
        if stock:
            stock.pool.take_in(stock.renderers)
            batch = stock.pool.batch(settings.batch, UNCAPTIONED)
        else:
            batch = store.batch(scene_numbers(run, settings, group, single, rng), single, rng, UNCAPTIONED)
        weighting = LossWeights(progress < WEIGHTED_UNTIL, settings.min_snr)
        losses = step_losses(group, model, batch, levels, rng, weighting, teacher)
        optimiser.zero_grad()
        # A taught network has learned its features; a head that begins at random would only disturb them.
        class_map_weight = CLASS_MAP_WEIGHT if teacher is None else 0.0
        (losses["velocity"] + class_map_weight * losses["class_map"]).backward()
        group.average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        run.step += 1
        run.samples += 2 * settings.batch * group.size
        run.follow()
        if group.leads:
            training_log.add(losses, run.step, run.samples, budget.seconds, _row(rate, store, stock, group))
        scored = score is not None and progress >= settings.score_from and budget.seconds >= next_score
        if stock:
            run.rendered = stock.renderers.recipe.first + stock.renderers.taken
        if group.leads and (scored or budget.save_due()):
            keeper.keep(budget.seconds, scored)
            next_score = budget.seconds + settings.score_every
    store.close()
    if group.leads:
        keeper.keep(budget.seconds, score is not None)
        minutes = round(budget.seconds / 60, 1)
        figures = {"samples": run.samples, "steps": run.step, "minutes": minutes, "seed": settings.seed}
        figures |= {"edition": settings.scenes, "picture_size": settings.size}
        record_stage(folder, "unet", figures)
        print(f"unet done: {figures}", flush=True)


def held_out_batch(store: ExampleStore, pairs: int = HELD_OUT_PAIRS) -> Batch:
    """The same pairs of scenes at every call, of numbers that no step trains on."""
    return store.batch(np.arange(pairs) + HELD_OUT_FIRST, False, np.random.default_rng(0), 0.0)


@torch.no_grad()
def held_out_error(run: Run, group: DistributedGroup, batch: Batch, levels: NoiseLevels) -> float:
    """The error of the averaged weights on a batch, the same noises and timesteps at every call; lower is better."""
    parameters = list(run.model.parameters())
    trained = [parameter.detach().clone() for parameter in parameters]
    kept = torch.get_rng_state()
    try:
        for parameter, average in zip(parameters, run.average, strict=True):
            parameter.copy_(average)
        torch.manual_seed(0)
        run.model.eager = True
        losses = step_losses(group, run.model, batch, levels, np.random.default_rng(0), LossWeights(foreground=True))
        return float(losses["velocity"])
    finally:
        run.model.eager = False
        torch.set_rng_state(kept)
        for parameter, before in zip(parameters, trained, strict=True):
            parameter.copy_(before)


def _row(rate: float, store: ExampleStore, stock: Stock | None, group: DistributedGroup) -> dict[str, Any]:
    """What a row of the journal says beside the losses: `scenes` seen so far; with a pool also the seconds for which
    steps `waited` for scenes; the most GPU memory so far, in GB.
    """
    row: dict[str, Any] = {"learning_rate": rate, "scenes": 2 * len(store.pairs) * group.size}
    if stock:
        row |= {"scenes": 2 * stock.renderers.taken, "waited": round(stock.renderers.waited, 2)}
    if (gigabytes := group.gpu_gigabytes()) is not None:
        row["gpu_gb"] = round(gigabytes, 2)
    return row


@dataclass
class Keeper:
    """Writes the checkpoints of a run, and beside them the best one so far, which is the one to export.

    The best has the highest held-out score, where scores are taken, else the lowest held-out error.
    """

    run: Run
    group: DistributedGroup
    folder: Path
    held_out: Batch | None
    levels: NoiseLevels
    vae: AutoencoderKL
    tokenizer: CLIPTokenizer
    score: Callable[[], HeldOutScore] | None
    _scorer: HeldOutScore | None = None
    _scored: Model | None = None
    _kept: tuple[int, bool] | None = None

    def keep(self, seconds: float, scored: bool) -> None:
        """Write `unet.pt`, and `unet-best.pt` where it is the best; a score is also added to `scores.jsonl`."""
        assert self.held_out is not None  # of the leader, who alone keeps checkpoints
        run = self.run
        if self._kept == (run.step, scored):  # the last step's score was due anyhow
            return
        self._kept = (run.step, scored)
        error = held_out_error(run, self.group, self.held_out, self.levels)
        figures = self._figures() if scored else None
        line = f"unet step {run.step}: held-out error {error:.4f}"
        if figures is not None:
            row = {"step": run.step, "minutes": round(seconds / 60, 2), "error": round(error, 4), **figures}
            record_score(self.folder, row)
            line += ", " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
        if self._is_best(error, figures):
            run.best, run.best_score = error, figures["success"] if figures else run.best_score
            save_checkpoint(self.folder / BEST, **run.state(seconds), best=error, score=run.best_score)
            line += ", the best so far"
        save_checkpoint(self.folder / "unet.pt", **run.state(seconds))
        print(line, flush=True)

    def _is_best(self, error: float, figures: dict[str, float] | None) -> bool:
        if figures is not None:  # a later one of the same score has learned more
            return self.run.best_score is None or figures["success"] >= self.run.best_score
        return self.run.best_score is None and (self.run.best is None or error <= self.run.best)

    def _figures(self) -> dict[str, float]:
        """The held-out score of the averaged weights."""
        assert self.score is not None
        if self._scorer is None:
            self._scorer = self.score()
        if self._scored is None:
            settings = self.run.model.unet.config
            model = Model(self.tokenizer, tuple(settings.block_out_channels), self.run.size, edition(self.run.scenes))
            self._scored = model.to(self.group.device).eval().requires_grad_(False)
        for parameter, average in zip(self._scored.parameters(), self.run.average, strict=True):
            parameter.copy_(average)
        scheduler = new_scheduler(self.run.prediction)
        parts = Parts(self.vae, self._scored.unet, self._scored.text_encoder, self.tokenizer, scheduler)
        with self.group.autocast():
            return self._scorer(parts)


def scene_numbers(
    run: Run, settings: TrainingSettings, group: DistributedGroup, single: bool, rng: np.random.Generator
) -> np.ndarray:
    """Scene numbers of this step: some of the worker's known scenes and `fresh` new ones, by the step alone."""
    step = run.step if single else run.step - run.single_steps
    known, new = (256 + int(settings.fresh * s) for s in (step, step + 1))
    numbers = rng.integers(known, size=settings.batch)
    numbers[: new - known] = np.arange(known, new)[: settings.batch]
    return numbers * group.size + group.rank  # each worker has scenes of its own


@dataclass(frozen=True)
class LossWeights:
    """How errors are weighed. foreground: more on things than around them; min_snr: see `TrainingSettings`."""

    foreground: bool
    min_snr: float | None = None


def step_losses(
    group: DistributedGroup,
    model: Model,
    batch: Batch,
    levels: NoiseLevels,
    rng: np.random.Generator,
    weights: LossWeights,
    teacher: FlowTeacher | None = None,
) -> dict[str, Tensor]:
    """The losses of a batch: scalars "velocity" and "class_map"; to log "quarters" (2, n): timestep // 250, error.

    teacher: gives the velocity to learn where it knows it, in place of the one noise that was drawn.
    """
    device, pairs = group.device, len(batch.latents) // 2
    clean, coverage = group.uploaded(batch.latents), group.uploaded(batch.coverage)
    labels, token_ids = group.uploaded(batch.labels), group.uploaded(batch.token_ids)
    strata = (np.arange(pairs) + rng.random(pairs)) / pairs
    in_middle = rng.random(pairs) < MIDDLE_SHARE
    spread = np.where(in_middle, MIDDLE[0] + strata * (MIDDLE[1] - MIDDLE[0]), strata * 1000).astype(np.int64)
    timesteps = group.uploaded(torch.from_numpy(spread.clip(0, 999)).repeat(2))
    noise = torch.randn(clean[:pairs].shape, device=device).repeat(2, 1, 1, 1)
    alpha, sigma = levels.alpha[timesteps].view(-1, 1, 1, 1), levels.sigma[timesteps].view(-1, 1, 1, 1)
    noisy, wanted = alpha * clean + sigma * noise, levels.velocity(clean, noise, alpha, sigma)
    with group.autocast():
        if teacher is not None:
            wanted = teacher.corrected(wanted, noisy, sigma, token_ids)
        velocity, logits = model(noisy, levels.times(timesteps), token_ids)
    error = (velocity.float() - wanted).square()
    weight = 1 + FOREGROUND_WEIGHT * coverage if weights.foreground else torch.ones_like(coverage)
    if weights.min_snr is not None:
        snr = (alpha / sigma) ** 2
        weight = weight * (snr.clamp(max=weights.min_snr) / (snr + 1))
    return {
        "velocity": (error * weight).mean() / weight.mean(),
        "class_map": F.cross_entropy(logits.float(), labels),
        "quarters": torch.stack((timesteps // 250, error.detach().mean((1, 2, 3)))),
    }
