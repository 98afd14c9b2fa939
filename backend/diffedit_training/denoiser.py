"""Stage 2: UNet and text encoder, v-prediction or rectified flow on whitened latents of fresh scenes.

Each step takes pairs of scenes (`examples`), stratified timesteps with more of the middle, and weights the squared
error by 1 + 3 x the share of a latent that a thing covers; the last part is unweighted. Scenes have one thing
at first. A linear head reads the class of every coarse cell from the decoder's first block, which teaches features and
cross-attention where which thing is (after the idea of REPA, Yu et al. 2024); it is thrown away afterwards.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .budget import Budget, learning_rate, load_checkpoint, save_checkpoint
from .distributed import DistributedGroup
from .examples import CELL, LABELS, Batch, ExampleStore
from .flow import FlowTeacher, NoiseLevels, Prediction, refit_time_embedding, scheduler_of
from .record import TrainingLog, record_stage, take_over
from .scenes.scenes import SIZE
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
EMA_DECAY, EMA_EVERY = 0.998, 4  # decay per step; the average moves every fourth step


@dataclass(frozen=True)
class TrainingSettings:
    """One run. batch: pairs per step and worker; fresh: new ones among them, on average; learning_rate: the peak.

    start: a diffusers folder whose weights the run starts from, with a new optimiser and no phase of single things.
    prediction: what the UNet learns to predict; "flow" is rectified flow's velocity (arXiv 2209.03003).
    widths: channels of the UNet's levels; the export of (64, 128, 192) takes 21 MB in half precision.
    min_snr: weigh a timestep's error by min(SNR, min_snr) / (SNR + 1) (arXiv 2303.09556); None weighs all alike.
    compiled: compile the UNet, which pays on a GPU after the minute that it takes.
    data_workers: processes that render scenes; 0 renders in this one.
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


class Model(nn.Module):
    """UNet, text encoder and the auxiliary head, trained together."""

    def __init__(self, tokenizer: CLIPTokenizer, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(
            sample_size=SIZE // CELL,
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
        self.class_map = nn.Conv2d(widths[-1], LABELS, 1)
        self._features: Tensor | None = None
        self.unet.up_blocks[0].register_forward_hook(self._keep_features)

    def start_from(self, folder: Path) -> None:
        """Take the weights of an exported model of either prediction; the auxiliary head, which is never exported,
        starts anew.
        """
        config = json.loads((folder / "unet" / "config.json").read_text())
        theirs, ours = tuple(config["block_out_channels"]), tuple(self.unet.config.block_out_channels)
        if theirs != ours:
            raise ValueError(
                f"{folder} has a UNet with widths {theirs}, not {ours}: leave --widths or --start-from out."
            )
        self.unet.load_state_dict(load_file(folder / "unet" / "diffusion_pytorch_model.safetensors"))
        self.text_encoder.load_state_dict(load_file(folder / "text_encoder" / "model.safetensors"))

    def _keep_features(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self._features = output

    def forward(self, noisy: Tensor, timesteps: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """The v-prediction (n, 8, 16, 16) and the logits of the class map (n, LABELS, 8, 8)."""
        states = self.text_encoder(token_ids).last_hidden_state
        velocity = self.unet(noisy, timesteps, states).sample
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
            "seconds": seconds,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Raises ValueError for the checkpoint of a run with another prediction."""
        kept = state.get("prediction", "v_prediction")
        if kept != self.prediction:
            raise ValueError(f"The checkpoint is of a run with prediction {kept!r}, not {self.prediction!r}.")
        widths, mine_too = tuple(state.get("widths", WIDTHS)), tuple(self.model.unet.config.block_out_channels)
        if widths != mine_too:
            raise ValueError(f"The checkpoint is of a UNet with widths {widths}, not {mine_too}: give --widths.")
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


def train(group: DistributedGroup, folder: Path, budget: Budget, settings: TrainingSettings, resume: bool) -> None:
    """Train until the budget is spent. Reads `folder/vae/`; writes `folder/unet.pt` now and then and at the end."""
    tokenizer = new_tokenizer()
    if settings.start is not None and group.leads and not resume:
        shutil.copytree(settings.start / "vae", folder / "vae", dirs_exist_ok=True)
        take_over(settings.start, folder)
    group.wait()
    vae = AutoencoderKL.from_pretrained(folder / "vae").float().eval().requires_grad_(False).to(group.device)
    torch.manual_seed(settings.seed)
    model = Model(tokenizer, settings.widths).to(group.device)
    teacher = None
    if settings.start is not None:
        model.start_from(settings.start)
        if settings.prediction == "flow" and isinstance(scheduler_of(settings.start), DDIMScheduler):
            teacher = FlowTeacher(model.unet, model.text_encoder)
            refit_time_embedding(model.unet, teacher)
    if group.device.type == "cpu":
        model.unet.set_attn_processor(AttnProcessor())  # at this size 10 % faster there than the fused kernel
    parameters = list(model.parameters())
    optimiser = torch.optim.AdamW(parameters, settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    run, path = Run(model, [p.detach().clone() for p in parameters], optimiser), folder / "unet.pt"
    run.prediction = settings.prediction
    if resume:
        state = load_checkpoint(path)
        run.load(state)
        budget.resume_at(state["seconds"])
        run.best = load_checkpoint(folder / BEST)["best"] if (folder / BEST).is_file() else None
    if settings.compiled:
        model.unet.compile()
    store = ExampleStore(vae, tokenizer, group, data_workers=settings.data_workers)
    levels = NoiseLevels.of(settings.prediction).to(group.device)
    held_out = held_out_batch(ExampleStore(vae, tokenizer, group)) if group.leads else None
    training_log = TrainingLog(folder / "unet.jsonl", run.step, run.samples, budget.seconds)
    while (progress := group.agree(budget.progress(run.step))) < 1:
        rng = group.seed_step(settings.seed, STAGE, run.step)
        rate = learning_rate(settings.learning_rate, run.step, progress, warmup=200, hold=HOLD)
        for parameter_group in optimiser.param_groups:
            parameter_group["lr"] = rate
        single = settings.start is None and progress < SINGLE_UNTIL
        run.single_steps += single
        batch = store.batch(scene_numbers(run, settings, group, single, rng), single, rng, UNCAPTIONED)
        losses = step_losses(
            group,
            model,
            batch,
            levels,
            rng,
            weighted=progress < WEIGHTED_UNTIL,
            teacher=teacher,
            min_snr=settings.min_snr,
        )
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
            row = {"learning_rate": rate, "scenes": 2 * len(store.pairs) * group.size}
            training_log.add(losses, run.step, run.samples, budget.seconds, row)
        if group.leads and budget.save_due():
            _keep(run, group, held_out, levels, path, budget.seconds)
    store.close()
    if group.leads:
        _keep(run, group, held_out, levels, path, budget.seconds)
        minutes = round(budget.seconds / 60, 1)
        figures = {"samples": run.samples, "steps": run.step, "minutes": minutes, "seed": settings.seed}
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
        losses = step_losses(group, run.model, batch, levels, np.random.default_rng(0), weighted=True)
        return float(losses["velocity"])
    finally:
        torch.set_rng_state(kept)
        for parameter, before in zip(parameters, trained, strict=True):
            parameter.copy_(before)


def _keep(
    run: Run, group: DistributedGroup, held_out: Batch | None, levels: NoiseLevels, path: Path, seconds: float
) -> None:
    """Write the checkpoint, and another beside it where its held-out error is the lowest so far."""
    assert held_out is not None  # of the leader, who alone keeps checkpoints
    error = held_out_error(run, group, held_out, levels)
    if run.best is None or error <= run.best:
        run.best = error
        save_checkpoint(path.with_name(BEST), **run.state(seconds), best=error)
    save_checkpoint(path, **run.state(seconds))
    print(f"unet step {run.step}: held-out error {error:.4f}, best {run.best:.4f}", flush=True)


def scene_numbers(
    run: Run, settings: TrainingSettings, group: DistributedGroup, single: bool, rng: np.random.Generator
) -> np.ndarray:
    """Scene numbers of this step: some of the worker's known scenes and `fresh` new ones, by the step alone."""
    step = run.step if single else run.step - run.single_steps
    known, new = (256 + int(settings.fresh * s) for s in (step, step + 1))
    numbers = rng.integers(known, size=settings.batch)
    numbers[: new - known] = np.arange(known, new)[: settings.batch]
    return numbers * group.size + group.rank  # each worker has scenes of its own


def step_losses(
    group: DistributedGroup,
    model: Model,
    batch: Batch,
    levels: NoiseLevels,
    rng: np.random.Generator,
    weighted: bool,
    teacher: FlowTeacher | None = None,
    min_snr: float | None = None,
) -> dict[str, Tensor]:
    """The losses of a batch: scalars "velocity" and "class_map"; to log "quarters" (2, n): timestep // 250, error.

    teacher: gives the velocity to learn where it knows it, in place of the one noise that was drawn.
    """
    device, pairs = group.device, len(batch.latents) // 2
    clean, coverage, labels = batch.latents.to(device), batch.coverage.to(device), batch.labels.to(device)
    token_ids = batch.token_ids.to(device)
    strata = (np.arange(pairs) + rng.random(pairs)) / pairs
    in_middle = rng.random(pairs) < MIDDLE_SHARE
    spread = np.where(in_middle, MIDDLE[0] + strata * (MIDDLE[1] - MIDDLE[0]), strata * 1000).astype(np.int64)
    timesteps = torch.from_numpy(spread.clip(0, 999)).repeat(2).to(device)
    noise = torch.randn(clean[:pairs].shape).repeat(2, 1, 1, 1).to(device)
    alpha, sigma = levels.alpha[timesteps].view(-1, 1, 1, 1), levels.sigma[timesteps].view(-1, 1, 1, 1)
    noisy, wanted = alpha * clean + sigma * noise, levels.velocity(clean, noise, alpha, sigma)
    with group.autocast():
        if teacher is not None:
            wanted = teacher.corrected(wanted, noisy, sigma, token_ids)
        velocity, logits = model(noisy, levels.times(timesteps), token_ids)
    error = (velocity.float() - wanted).square()
    weight = 1 + FOREGROUND_WEIGHT * coverage if weighted else torch.ones_like(coverage)
    if min_snr is not None:
        snr = (alpha / sigma) ** 2
        weight = weight * (snr.clamp(max=min_snr) / (snr + 1))
    return {
        "velocity": (error * weight).mean() / weight.mean(),
        "class_map": F.cross_entropy(logits.float(), labels),
        "quarters": torch.stack((timesteps // 250, error.detach().mean((1, 2, 3)))),
    }
