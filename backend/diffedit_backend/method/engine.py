"""The stages of an edit on one model, each computed once: encode, find, invert, edit, decode.

An engine knows pictures at the model's size only; see `diffedit_backend.editing` for everything around it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..types import Pixels
from .align import aligned_edit, velocity
from .attention_map import AttentionRecord, changed_tokens, words_map
from .cache import ContentCache, digest
from .denoise import Guided, masked_denoise, strength_masks
from .difference import average_maps, border_share, mean_difference, prediction_difference
from .encoding import Projection, decode_latents, encode_picture
from .inversion import Predict, invert
from .network import Network, require_finite
from .schedule import Level
from .settings import Look, MethodSettings
from .solvers import Solver, Stochastic, seeded_noise
from .stable_diffusion import token_ids
from .steps import OnStep, Step, ignore
from .text import encode_text
from .text_condition import Condition, between
from .windows import in_windows, windows_over

if TYPE_CHECKING:
    from .model import LoadedModel

# The noises of the difference map are the same for every edit, so a mask depends on picture and texts, not on the seed.
MAP_SEED = 0
DEFAULT_CACHE_BYTES = 512 * 2**20


@dataclass(frozen=True, eq=False)
class Subject:
    """A picture at the model's size, (H, W, 3) uint8 with sides that are multiples of the model's; `id` names its
    content.
    """

    pixels: Pixels
    id: str

    @classmethod
    def of(cls, pixels: Pixels) -> Subject:
        return cls(pixels, content_id(pixels))

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes


def content_id(array: NDArray[np.uint8]) -> str:
    """A name for an array's shape and content."""
    return digest(repr(array.shape).encode(), np.ascontiguousarray(array).data)


@dataclass(frozen=True, eq=False)
class Predictions:
    """`noise`: (n, C, h, w) under one text, a flow's velocity in its place. `attention`: (L, h, w), where each of its
    tokens looks, if asked for.
    """

    noise: Tensor
    attention: Tensor | None = None

    @property
    def nbytes(self) -> int:
        return self.noise.nbytes + (self.attention.nbytes if self.attention is not None else 0)


@dataclass(frozen=True, eq=False)
class LatentEdit:
    """What is to become of a picture at the model's size.

    mask: (h, w) float in [0, 1], 1 = edited. ratio: the encoding ratio. guidance: scale of classifier-free guidance.
    source: what the picture shows now; `settings.away` is how far guidance leads away from it, rather than from the
    negative text alone. seeds: one result each. windowed: the picture may be larger than the model's; it is predicted
    in windows of the model's own size. preview: steps are reported with a picture.
    """

    subject: Subject
    target: str
    mask: Tensor
    ratio: float
    guidance: float
    settings: MethodSettings
    source: str = ""
    negative: str = ""
    seeds: Sequence[int] = (0,)
    windowed: bool = False
    preview: bool = False

    def fresh_noise(self, steps: int, like: Tensor) -> Tensor:
        """Standard normal noise (steps, B, C, h, w), each seed's own, for latents (B, C, h, w) like those given."""
        return torch.stack([seeded_noise((steps, *like.shape[1:]), seed, like) for seed in self.seeds], dim=1)

    def level_masks(self, steps: int, like: Tensor) -> Tensor:
        """The mask of each step, (steps, 1, 1, h, w)."""
        cells = self.mask.to(like)[None, None]
        return strength_masks(cells, steps) if self.settings.soft_strength else cells.expand(steps, -1, -1, -1, -1)


class DiffEditEngine:
    """One model and what it has computed, kept by content. Not for several threads at once."""

    def __init__(self, model: LoadedModel, cache_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self.model = model
        self.network = Network(model)
        self.cache = ContentCache(cache_bytes)

    def with_adapters(self, model: LoadedModel) -> DiffEditEngine:
        """This engine's network and cache for `model`: the same networks with other adapters, and so another key."""
        engine = copy.copy(self)
        engine.model = model
        return engine

    @property
    def evaluations(self) -> int:
        """Samples that went through the UNet since the engine was made."""
        return self.network.evaluations

    def text(self, text: str) -> Condition:
        """The embedding of a text."""
        return self.cache.get(("text", self.model.key, text), lambda: encode_text(self.model, text))

    def encode(self, subject: Subject, on_step: OnStep = ignore) -> Tensor:
        """Latents (1, C, h, w) float32 of the picture."""

        def compute() -> Tensor:
            latents = require_finite(encode_picture(self.model, subject.pixels), self.model, "the encoded picture")
            on_step(Step("encoding", 1, 1))
            return latents

        return self.cache.get(("latents", self.model.key, subject.id), compute)

    def difference(
        self, subject: Subject, source: str, target: str, settings: MethodSettings, on_step: OnStep = ignore
    ) -> Tensor:
        """The difference map (h, w) float32 on the CPU: how much the two texts' predictions differ in every cell.

        Where the settings have a second look, what the first one finds decides at which level that is; the map is the
        average of both.
        """
        x0 = self.encode(subject, on_step)
        first = settings.first_look
        lacking = self._lacking(subject, (source, target), settings, first)
        batches = [lacking * self._batches(x0, maps) for maps in (first.maps, settings.maps - first.maps)]
        done = 0

        def batch_done() -> None:
            nonlocal done
            done += 1
            on_step(Step("finding", done, max(done, sum(batches))))

        def compared(look: Look) -> Tensor:
            predictions = [
                self.predictions(subject, text, settings, look, batch_done).noise for text in (source, target)
            ]
            measure = mean_difference if settings.map_mean == "differences" else prediction_difference
            return measure(*predictions).float().cpu()

        found = compared(first)
        second = settings.second_look(border_share(found))
        if second is None:
            return found
        batches[1] = self._lacking(subject, (source, target), settings, second) * self._batches(x0, second.maps)
        return average_maps(found, compared(second))

    def attention(self, subject: Subject, source: str, target: str, settings: MethodSettings) -> Tensor | None:
        """Where the words that differ look, (h, w) in [0, 1], at no evaluation beyond the difference map's.

        None where the settings do not ask, or no token differs. Of several sides the stronger counts.
        """
        if settings.attention == 0:
            return None
        places = changed_tokens(token_ids(self.model, source), token_ids(self.model, target))
        maps = []
        for text, changed in zip((source, target), places, strict=True):
            attention = self.predictions(subject, text, settings, settings.first_look).attention
            if changed and attention is not None:
                maps.append(words_map(attention, changed))
        return torch.stack(maps).amax(0) if maps else None

    def _batches(self, latents: Tensor, rows: int) -> int:
        return len(list(self.network.batches(latents, rows)))

    def _lacking(self, subject: Subject, texts: Sequence[str], settings: MethodSettings, look: Look) -> int:
        """For how many of the texts the network has still to be asked."""
        return sum(self._predictions_key(subject, t, settings, look) not in self.cache for t in dict.fromkeys(texts))

    def _predictions_key(self, subject: Subject, text: str, settings: MethodSettings, look: Look) -> tuple[object, ...]:
        return ("predictions", self.model.key, subject.id, text, look, settings.attention > 0)

    def predictions(
        self,
        subject: Subject,
        text: str,
        settings: MethodSettings,
        look: Look,
        batch_done: Callable[[], None] | None = None,
    ) -> Predictions:
        """What the network predicts under one text of the picture noised `look.maps` times to the look's level."""

        def compute() -> Predictions:
            x0 = self.encode(subject)
            level = self.level_at(look.ratio, x0)
            noise = seeded_noise((look.maps, *x0.shape[1:]), MAP_SEED, x0)
            x = level.alpha * x0 + level.sigma * noise
            condition = self.text(text)
            record = AttentionRecord((x.shape[-2], x.shape[-1])) if settings.attention > 0 else None
            parts = []
            for rows in self.network.batches(x, len(x)):
                with self.network.recording(record) if record is not None else nullcontext():
                    output = self.network.predict(x[rows], level, [condition] * len(x[rows]))
                parts.append(self.model.schedule.compared(output, x[rows], level))
                if batch_done is not None:
                    batch_done()
            noises = require_finite(torch.cat(parts), self.model, "the difference map")
            return Predictions(noises, None if record is None else record.maps)

        return self.cache.get(self._predictions_key(subject, text, settings, look), compute)

    def trajectory(
        self, subject: Subject, source: str, ratio: float, settings: MethodSettings, on_step: OnStep = ignore
    ) -> Tensor:
        """The encoded latents (T + 1, 1, C, h, w) of every level up to the encoding ratio, clean first.

        Where the levels are the first of a trajectory that is kept, of a higher ratio, they are taken from that.
        """
        text = source if settings.inversion_text == "source" else ""
        scale = settings.inversion_guidance if text else 1.0
        x0 = self.encode(subject, on_step)
        levels = self._levels(x0, settings, ratio)
        every, order, rule = settings.inversion_stride, settings.inversion_order, settings.inversion_rule
        key = ("trajectory", self.model.key, subject.id, text, scale, every, order, rule)

        def compute() -> Tensor:
            asked = (*levels[:-1:every], levels[-1])
            total = len(asked) - 1
            solver = Solver(self.model.schedule, asked, order, rule)
            predict = self._predictor(text, "", scale)
            if every == 1:
                trajectory = invert(
                    x0,
                    levels[:-1],
                    solver.evaluated(predict),
                    solver.step,
                    lambda i, _: on_step(Step("inverting", i + 1, total)),
                )
                return require_finite(trajectory, self.model, "the inversion")
            reached = [x0]
            for index, level in enumerate(asked[:-1]):
                between = levels[index * every + 1 : min((index + 1) * every, len(levels) - 1)]
                reached += solver.steps_up(predict(reached[-1], level), reached[-1], between)
                on_step(Step("inverting", index + 1, total))
            trajectory = torch.stack(reached)
            return require_finite(trajectory, self.model, "the inversion")

        for count in range(len(levels), settings.steps + 1):
            higher = self._levels(x0, settings, count / settings.steps)
            if higher[: len(levels)] == levels and (*key, higher) in self.cache:
                return self.cache.get((*key, higher), compute)[: len(levels)]
        return self.cache.get((*key, levels), compute)

    def _cells(self, latents: Tensor) -> int:
        """Latent cells that the network sees at once: those of a window where latents (..., h, w) are larger."""
        native = self.model.native_size // self.model.factor
        return min(latents.shape[-2] * latents.shape[-1], native**2)

    def level_at(self, ratio: float, latents: Tensor) -> Level:
        """The level at `ratio`, 0 to 1, of the schedule, for latents (..., h, w)."""
        return self.model.schedule.level_at(ratio, self._cells(latents))

    def _levels(self, latents: Tensor, settings: MethodSettings, ratio: float) -> tuple[Level, ...]:
        return self.model.schedule.levels(settings.steps, ratio, self._cells(latents))

    def noised(self, subject: Subject, ratio: float, settings: MethodSettings, seed: int) -> Tensor:
        """A trajectory (T + 1, 1, C, h, w) as `trajectory` gives, but of the picture under one noise at every level.

        It costs no evaluation and holds no detail that the picture lacks, so an edit from it draws new detail.
        """
        x0 = self.encode(subject)
        noise = seeded_noise(x0.shape, seed, x0)
        levels = self._levels(x0, settings, ratio)
        return torch.stack([x0, *(level.alpha * x0 + level.sigma * noise for level in levels[1:])])

    def refilled(
        self, trajectory: Tensor, filled: Subject, mask: Tensor, ratio: float, settings: MethodSettings, seed: int
    ) -> Tensor:
        """A trajectory (T + 1, 1, C, h, w) whose start, inside of `mask` (h, w), is another picture under noise.

        An edit from it holds what is outside as ever, and inside knows nothing of what the picture shows there. It
        costs no evaluation.
        """
        level = self._levels(trajectory, settings, ratio)[-1]
        clean = self.encode(filled)
        start = level.alpha * clean + level.sigma * seeded_noise(clean.shape, seed, clean)
        inside = (mask > 0).to(trajectory.device)[None, None]
        return torch.cat((trajectory[:-1], torch.where(inside, start, trajectory[-1])[None]))

    def edit(self, edit: LatentEdit, trajectory: Tensor, on_step: OnStep = ignore) -> Tensor:
        """Latents (B, C, h, w) of the picture edited inside the mask, one for each seed.

        `ratio` and `settings` of the edit are those that the trajectory (T + 1, 1, C, h, w) was made with.
        """
        settings, levels = edit.settings, self._levels(trajectory, edit.settings, edit.ratio)[::-1]
        total = len(levels) - 1
        start = trajectory[-1].expand(len(edit.seeds), -1, -1, -1)
        fresh = edit.fresh_noise(total, start)
        solver = Solver(
            self.model.schedule,
            levels,
            settings.edit_order,
            settings.inversion_rule if settings.aligned else "start",
            Stochastic(settings.eta, lambda i: fresh[i]),
            trajectory.flip(0) if settings.aligned else None,
        )

        def level_done(index: int, _x: Tensor) -> None:
            on_step(Step("editing", index + 1, total, self._preview(edit, solver.data)))

        away = settings.away if edit.source.strip() else 0.0
        every = settings.guidance_every
        predict = self._predictor(edit.target, edit.negative, edit.guidance, edit.source, away, every)
        if edit.windowed:
            predict = in_windows(predict, windows_over(edit.mask, self.model.native_size // self.model.factor))
        edited = masked_denoise(
            start,
            levels[:-1],
            solver.evaluated(predict),
            solver.step,
            trajectory.flip(0)[1:],
            edit.level_masks(total, start),
            level_done,
        )
        return require_finite(edited, self.model, "the edit")

    def edit_without_inversion(self, edit: LatentEdit, on_step: OnStep = ignore) -> Tensor:
        """Latents (B, C, h, w) of the picture edited inside the mask by FlowAlign, one for each seed.

        Guidance leads from what lies between the source and a negative text, where there is one, to the target.
        """
        x0 = self.encode(edit.subject, on_step).expand(len(edit.seeds), -1, -1, -1)
        levels = self._levels(x0, edit.settings, edit.ratio)[::-1]
        total = len(levels) - 1
        fresh = edit.fresh_noise(total, x0)
        source, family, schedule = self.text(edit.source), self.model.family, self.model.schedule
        away = between(source, self.text(edit.negative), 0.5) if edit.negative.strip() else source
        texts = [text for text in (away, self.text(edit.target), source) for _ in edit.seeds]

        def level_done(index: int, z: Tensor) -> None:
            on_step(Step("editing", index + 1, total, self._preview(edit, z)))

        return aligned_edit(
            x0,
            levels,
            lambda x, level: velocity(schedule, self.network.predict(x, level, texts), x, level),
            lambda without, under: family.guide(without, under, edit.guidance),
            lambda index: fresh[index],
            edit.level_masks(total, x0),
            level_done,
        )

    def decode(self, latents: Tensor, on_step: OnStep = ignore) -> list[Pixels]:
        """The pictures (H, W, 3) uint8 of latents (B, C, h, w), one after the other."""
        pictures = []
        for index in range(len(latents)):
            pictures.append(decode_latents(self.model, latents[index : index + 1]))
            on_step(Step("decoding", index + 1, len(latents)))
        return pictures

    def _predictor(
        self, text: str, negative: str, scale: float, source: str = "", away: float = 0.0, every: int = 1
    ) -> Predict:
        """The guided prediction under `text`, away from what lies between the negative text and the source.

        At scale 1 these have no weight and are not asked for; else at every so many-th step, see `Guided`.
        """
        condition = self.text(text)

        def under(x: Tensor, level: Level) -> Tensor:
            return self.network.predict(x, level, [condition] * len(x))

        if scale == 1.0:
            return under
        against = between(self.text(negative), self.text(source), away) if away else self.text(negative)

        def without_and_under(x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
            texts = [against] * len(x) + [condition] * len(x)
            both = self.network.predict(torch.cat((x, x)), level, texts)
            return both[: len(x)], both[len(x) :]

        def guided(without: Tensor, under: Tensor) -> Tensor:
            return self.model.family.guide(without, under, scale)

        return Guided(without_and_under, under, guided, every)

    def _preview(self, edit: LatentEdit, data: Tensor | None) -> Pixels | None:
        """The picture at the model's size, inside the mask the projected colours of the first of the predicted clean
        latents (B, C, h, w); None where no preview is wanted, or nothing was predicted yet."""
        if not edit.preview or data is None:
            return None
        subject, latents = edit.subject, self.encode(edit.subject)
        project = self.cache.get(
            ("projection", self.model.key, subject.id), lambda: Projection(latents, subject.pixels)
        )
        size = subject.pixels.shape[:2]
        colours = torch.nn.functional.interpolate(project(data[:1])[None], size, mode="bicubic")[0].permute(1, 2, 0)
        share = torch.nn.functional.interpolate(edit.mask.float().cpu()[None, None], size, mode="bilinear")[
            0, 0, :, :, None
        ]
        picture = torch.lerp(torch.from_numpy(subject.pixels).float(), colours.clamp(0, 255), share)
        pixels: Pixels = picture.round().to(torch.uint8).numpy()
        return pixels
