"""An edit whose results the model looks at: one that shows it the old thing still is begun anew from noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .engine import MAP_SEED, DiffEditEngine, LatentEdit
from .schedule import count_steps
from .solvers import seeded_noise
from .steps import OnStep, after, ignore

_UNCLEAR = 0.5  # share of what is enough, to either side of it, within which half of the noises do not tell
_RETRY_SEED = 0x9E3779B1  # far from the seeds of other variations, which follow each other


@dataclass(frozen=True, eq=False)
class RetriedEdit:
    """An edit of an engine, made again where its result shows the target too faintly; `edit.settings` say how often.

    What the model sees is read from the errors of its predictions (a diffusion classifier, arXiv 2303.16203).
    """

    engine: DiffEditEngine
    edit: LatentEdit

    def latents(self, trajectory: Tensor, on_step: OnStep = ignore) -> Tensor:
        """Latents (B, C, h, w) as `DiffEditEngine.edit` gives; of several tries the one that shows the target most.

        What is begun anew starts from the picture under noise, whose coarse shapes and colours it follows, in the place
        of its inversion, which holds the old thing fast.
        """
        engine, edit, settings = self.engine, self.edit, self.edit.settings
        latents = engine.edit(edit, trajectory, on_step)
        if not self._is_looked_at:
            return latents
        enough = settings.retry_below * abs(self.source_lead())
        leads = self._told_leads(latents, enough)
        ratio = max(edit.ratio, settings.retry_ratio)
        done = count_steps(settings.steps, edit.ratio)
        for attempt in range(1, settings.retries + 1):
            weak = [index for index in range(len(latents)) if leads[index] < enough]
            if not weak:
                break
            seeds = [(edit.seeds[index] + attempt * _RETRY_SEED) % 2**32 for index in weak]
            start = torch.cat([engine.noised(edit.subject, ratio, settings, seed) for seed in seeds], dim=1)
            again = engine.edit(replace(edit, ratio=ratio, seeds=seeds), start, after(done, on_step))
            done += count_steps(settings.steps, ratio)
            for index, other, lead in zip(weak, again, self._told_leads(again, enough), strict=True):
                if lead > leads[index]:
                    latents[index], leads[index] = other, lead
        return latents

    def _told_leads(self, latents: Tensor, enough: float) -> Tensor:
        """`target_lead` by half of the noises, (B,), and by all of them where half do not tell clearly whether it is
        `enough`.
        """
        checks = self.edit.settings.checks
        half = max(1, checks // 2)
        leads = self.target_lead(latents, range(half))
        unclear = (leads - enough).abs() < _UNCLEAR * enough
        if half < checks and unclear.any():
            rest = self.target_lead(latents[unclear], range(half, checks))
            leads[unclear] = (half * leads[unclear] + (checks - half) * rest) / checks
        return leads

    def target_lead(self, latents: Tensor, noises: Sequence[int] | None = None) -> Tensor:
        """How much better the target explains latents (B, C, h, w) than the source does, within the mask: (B,).

        The difference of the mean squared errors of what is predicted under the two texts of the latents under noise:
        above 0 where the model sees the target. noises: which of the noises, 0 to `settings.checks` - 1; None: all.
        """
        edit, network, schedule = self.edit, self.engine.network, self.engine.model.schedule
        level = self.engine.level_at(edit.settings.map_ratio, latents)
        drawn = seeded_noise((edit.settings.checks, *latents.shape[1:]), MAP_SEED, latents)
        noise = (drawn if noises is None else drawn[list(noises)]).repeat(len(latents), 1, 1, 1)
        checks = len(noise) // len(latents)
        data = latents.repeat_interleave(checks, 0)
        x = level.alpha * data + level.sigma * noise
        texts = [self.engine.text(text) for text in (edit.source, edit.target) for _ in x]
        outputs = network.predict(torch.cat((x, x)), level, texts).chunk(2)
        source, target = (schedule.compared(output, x, level) for output in outputs)
        lead = _lead(source, target, schedule.true_compared(data, noise), edit.mask)
        return lead.reshape(len(latents), checks).mean(1)

    def source_lead(self) -> float:
        """How much better the source explains the picture than the target does, within the mask, as `target_lead`.

        It is read from the predictions of the first look at the picture, which are kept; where there was no search,
        they are made.
        """
        engine, edit = self.engine, self.edit
        look = edit.settings.first_look
        source, target = (
            engine.predictions(edit.subject, text, edit.settings, look).noise for text in (edit.source, edit.target)
        )
        x0 = engine.encode(edit.subject)
        noise = seeded_noise((look.maps, *x0.shape[1:]), MAP_SEED, x0)
        truth = engine.model.schedule.true_compared(x0, noise)
        return -float(_lead(source, target, truth, edit.mask).mean())

    @property
    def _is_looked_at(self) -> bool:
        edit, settings = self.edit, self.edit.settings
        strong = edit.ratio >= settings.retry_from and float(edit.mask.mean()) <= settings.retry_within
        return settings.retries > 0 and strong and not edit.windowed and bool(edit.source.strip())


def _lead(source: Tensor, target: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """By how much predictions (n, C, h, w) under the target err less than those under the source, within the mask."""
    mask = mask.to(truth)
    lead = ((source - truth).square() - (target - truth).square()).mean(1)
    return (lead * mask).sum((-2, -1)) / mask.sum()
