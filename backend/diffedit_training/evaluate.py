"""A quick look at a checkpoint: held-out edits with the plainest DiffEdit there is, all in one batch, judged; and the
score made from them by which the checkpoint to export is chosen.

It watches training, minutes at a time; what the package promises is measured by `diffedit bench quality` with the
package's own engine. Reported: mask IoU, edit success with the found and with the true mask, and a contact sheet.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from .flow import NoiseLevels, scheduler_of
from .judge import Judge
from .scenes.scenes import Kind, Pair, Scenes
from .vae import to_tensor

MASK_TIMESTEP, MASK_NOISES, MASK_BLUR = 300, 8, 0.7  # the best of a small search on training scenes
STEPS, STRENGTH, GUIDANCE = 30, 0.8, 4.0
BATCH = 16


@dataclass(frozen=True)
class Parts:
    """The five parts of a Stable Diffusion folder."""

    vae: AutoencoderKL
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler | FlowMatchEulerDiscreteScheduler

    @classmethod
    def load(cls, folder: Path, device: str) -> Parts:
        """The parts in float32."""
        return cls(
            AutoencoderKL.from_pretrained(folder / "vae").float().to(device).eval(),
            UNet2DConditionModel.from_pretrained(folder / "unet").float().to(device).eval(),
            CLIPTextModel.from_pretrained(folder / "text_encoder").float().to(device).eval(),
            CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            scheduler_of(folder),
        )

    @property
    def size(self) -> int:
        """The picture size in px that the parts were trained for."""
        return int(self.unet.config.sample_size) << len(self.vae.config.block_out_channels) - 1

    def encode(self, pictures: list[NDArray[np.uint8]]) -> Tensor:
        latents = self.vae.encode(to_tensor(np.stack(pictures)).to(self.vae.device)).latent_dist.mode()
        return latents * self.vae.config.scaling_factor

    def decode(self, latents: Tensor) -> NDArray[np.uint8]:
        pictures = self.vae.decode(latents / self.vae.config.scaling_factor).sample.clamp(-1, 1)
        return ((pictures + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()

    def embed(self, texts: list[str]) -> Tensor:
        length = self.tokenizer.model_max_length
        ids = self.tokenizer(texts, padding="max_length", truncation=True, max_length=length).input_ids
        return self.text_encoder(torch.tensor(ids, device=self.unet.device)).last_hidden_state

    @property
    def levels(self) -> NoiseLevels:
        """Those of the scheduler's kind."""
        return NoiseLevels.of("v_prediction" if isinstance(self.scheduler, DDIMScheduler) else "flow")

    def level(self, timestep: int) -> tuple[Tensor, Tensor]:
        """alpha and sigma of x = alpha x0 + sigma n; before step 0 those of step 0 (`set_alpha_to_one` is False)."""
        levels, at = self.levels, max(0, timestep)
        return levels.alpha[at].to(self.unet.device), levels.sigma[at].to(self.unet.device)

    def noise(self, noisy: Tensor, timestep: int, states: Tensor) -> Tensor:
        """The noise prediction, from that of the velocity."""
        alpha, sigma = self.level(timestep)
        times = self.levels.times(torch.tensor(timestep, device=noisy.device))
        velocity = self.unet(noisy, times, states).sample
        if self.levels.prediction == "flow":
            return noisy + alpha * velocity
        return alpha * velocity + sigma * noisy

    def move(self, noisy: Tensor, noise: Tensor, at: int, to: int) -> Tensor:
        """A deterministic DDIM step, either way."""
        (alpha, sigma), (alpha_to, sigma_to) = self.level(at), self.level(to)
        return alpha_to * (noisy - sigma * noise) / alpha + sigma_to * noise


@dataclass(frozen=True)
class Edits:
    """Results for n pairs: soft maps (n, H, W) in 0..1, masks (n, H, W) bool, edits with the found and the true mask
    (`true` is `own` where no edits with true masks were asked for)."""

    soft: NDArray[np.float32]
    masks: NDArray[np.bool_]
    own: NDArray[np.uint8]
    true: NDArray[np.uint8]


@torch.no_grad()
def edit(parts: Parts, pairs: list[Pair], seed: int = 0, true_masks: bool = True) -> Edits:
    """Mask, inversion and masked denoising of pairs of one picture size; also with the true masks if asked for."""
    generator = torch.Generator().manual_seed(seed)
    clean = parts.encode([pair.source for pair in pairs])
    source, target = (
        parts.embed([getattr(pair, f"{side}_caption") for pair in pairs]) for side in ("source", "target")
    )
    empty = parts.embed([""] * len(pairs))
    size = pairs[0].source.shape[0]

    difference = torch.zeros_like(clean[:, :1])
    alpha, sigma = parts.level(MASK_TIMESTEP)
    for _ in range(MASK_NOISES):
        fresh = torch.randn(clean.shape, generator=generator).to(clean.device)
        noisy = alpha * clean + sigma * fresh
        first, second = (parts.noise(noisy, MASK_TIMESTEP, states) for states in (source, target))
        difference += (first - second).abs().mean(1, keepdim=True)
    soft = F.interpolate(_blur(difference), size=(size, size), mode="bilinear")[:, 0]
    soft = soft / soft.amax((1, 2), keepdim=True)
    masks = (soft > 0.5).cpu().numpy()

    timesteps = [i * 1000 // STEPS for i in range(int(STEPS * STRENGTH))]
    trajectory = [clean]
    for at, to in zip([-1, *timesteps], timesteps, strict=False):
        trajectory.append(parts.move(trajectory[-1], parts.noise(trajectory[-1], to, source), at, to))
    results = []
    for mask in (masks, np.stack([pair.changed for pair in pairs]))[: 2 if true_masks else 1]:
        cells = F.adaptive_max_pool2d(torch.from_numpy(mask).float()[:, None], clean.shape[-1]).to(clean.device)
        latents = trajectory[-1]
        for index in reversed(range(len(timesteps))):
            at, to = timesteps[index], timesteps[index - 1] if index else -1
            without, towards = (parts.noise(latents, at, states) for states in (empty, target))
            latents = parts.move(latents, without + GUIDANCE * (towards - without), at, to)
            latents = cells * latents + (1 - cells) * trajectory[index]
        results.append(parts.decode(latents))
    return Edits(soft.float().cpu().numpy(), masks, results[0], results[-1])


def _blur(maps: Tensor) -> Tensor:
    """Gaussian blur by MASK_BLUR latents."""
    offsets = torch.arange(-2, 3, device=maps.device, dtype=maps.dtype)
    line = torch.exp(-0.5 * (offsets / MASK_BLUR) ** 2)
    line /= line.sum()
    padded = F.pad(maps, (2, 2, 2, 2), mode="replicate")
    return F.conv2d(F.conv2d(padded, line.view(1, 1, 1, 5)), line.view(1, 1, 5, 1))


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks that are not both empty."""
    return float((a & b).sum() / (a | b).sum())


def evaluate(parts: Parts, judge: Judge, count: int, kind: Kind, sheet: Path | None = None) -> dict[str, float]:
    """Figures of `count` held-out edits of one kind. Success counts the found ("own") and the true mask."""
    started = time.monotonic()
    scenes = Scenes(parts.size, "heldout", judge.edition)
    pairs = [scenes.pair(900_000_000 + number, kind) for number in range(count)]
    parted = [pairs[first : first + BATCH] for first in range(0, count, BATCH)]
    edits = [edit(parts, part) for part in parted]
    overlaps = [
        iou(mask, pair.mask)
        for part, e in zip(parted, edits, strict=True)
        for mask, pair in zip(e.masks, part, strict=True)
    ]
    with torch.no_grad():
        decoded = np.concatenate([parts.decode(parts.encode([pair.target for pair in part])) for part in parted])

    def success(pictures: NDArray[np.uint8]) -> float:
        return float(np.mean([judge.success(pair, picture) for pair, picture in zip(pairs, pictures, strict=True)]))

    figures = {
        "iou": float(np.mean(overlaps)),
        "iou_median": float(np.median(overlaps)),
        "success": success(np.concatenate([e.own for e in edits])),
        "success_true_mask": success(np.concatenate([e.true for e in edits])),
        "success_of_autoencoded_truth": success(decoded),
        "success_of_truth": success(np.stack([pair.target for pair in pairs])),
        "seconds_per_edit": (time.monotonic() - started) / count,
    }
    if sheet is not None:
        contact_sheet(parted[0], edits[0]).save(sheet)
    return {name: round(value, 3) for name, value in figures.items()}


def contact_sheet(pairs: list[Pair], edits: Edits) -> Image.Image:
    """Rows of: source | soft map | mask | edit | edit with the true mask | true edit; two columns of rows."""
    rows = []
    for i, pair in enumerate(pairs):
        grey = [np.repeat((plane * 255).astype(np.uint8)[..., None], 3, 2) for plane in (edits.soft[i], edits.masks[i])]
        rows.append(np.hstack([pair.source, *grey, edits.own[i], edits.true[i], pair.target]))
    half = (len(rows) + 1) // 2
    columns = [np.vstack(rows[:half]), np.vstack([*rows[half:], *[np.zeros_like(rows[0])] * (2 * half - len(rows))])]
    return Image.fromarray(np.hstack(columns))


KINDS: tuple[Kind, ...] = ("swap", "colour", "delete", "background")
_FIRST_PAIR = 707_700_000  # the benchmark's cases of seed 77, on which settings are tuned; never those of its figures


@dataclass
class HeldOutScore:
    """Edits of `pairs` held-out pairs of each kind, rendered once, at `size` px of the judge's edition."""

    judge: Judge
    size: int
    pairs: int
    batch: int = 16
    _made: list[Pair] = field(default_factory=list)

    def __call__(self, parts: Parts) -> dict[str, float]:
        """`success`: share of edits that the judge finds to be what was asked for, and that of each kind by its name;
        `iou`: mean overlap of found and true masks."""
        if not self._made:
            scenes = Scenes(self.size, "heldout", self.judge.edition)
            self._made = [scenes.pair(_FIRST_PAIR + number, kind) for kind in KINDS for number in range(self.pairs)]
        right: list[bool] = []
        overlaps: list[float] = []
        for first in range(0, len(self._made), self.batch):
            part = self._made[first : first + self.batch]
            edits = edit(parts, part, true_masks=False)
            right += [self.judge.success(pair, picture) for pair, picture in zip(part, edits.own, strict=True)]
            overlaps += [iou(mask, pair.mask) for mask, pair in zip(edits.masks, part, strict=True)]
        figures = {"success": float(np.mean(right)), "iou": float(np.mean(overlaps))}
        figures |= {kind: float(np.mean(right[i * self.pairs : (i + 1) * self.pairs])) for i, kind in enumerate(KINDS)}
        return {name: round(value, 4) for name, value in figures.items()}
