"""Our engine as an editor, through the same function that the worker and `diffedit edit` call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffedit_backend.editing import FILL_MARGIN, FILL_RATIO, edit_picture, paste
from diffedit_backend.imaging.area import WorkArea, choose_area, from_work, to_cells, to_work
from diffedit_backend.imaging.blend import blended, filled
from diffedit_backend.method.engine import DiffEditEngine, LatentEdit, Subject
from diffedit_backend.method.retries import RetriedEdit
from diffedit_backend.method.settings import MethodSettings, settings_for
from diffedit_backend.method.solvers import seeded_noise
from diffedit_backend.method.steps import OnStep, ignore
from diffedit_backend.method.wordings import leaves_things_out
from diffedit_protocol.errors import NothingFoundError
from diffedit_protocol.messages import EditRequest, Method, Quality
from torch import Tensor

from .cases import EditCase
from .editors import Edited, Instruments, Plane, pasted

if TYPE_CHECKING:
    from diffedit_backend.models import LoadedModel

MaskOf = Callable[[EditCase], Plane]


class OurEditor:
    """`edit_picture` at a method and quality; `mask_of` gives it a mask, as an artist would.

    Every case starts with nothing kept from the case before. Other ratios of the same case find its mask kept, and
    are measured for their pictures, not their cost.
    """

    takes_ratio = True

    def __init__(
        self,
        name: str,
        engine: DiffEditEngine,
        method: Method = "fast",
        quality: Quality = "normal",
        mask_of: MaskOf | None = None,
        **asked: Any,
    ) -> None:
        """`asked`: further fields of the request."""
        self.name = name
        self._engine = engine
        self._method = method
        self._quality = quality
        self._mask_of = mask_of
        self._asked = asked
        self._last_case = ""

    def edit(self, case: EditCase, ratio: float) -> Edited:
        """One edit; where no region is found, the source with an empty mask."""
        if case.name != self._last_case:
            self._engine.cache.clear()
            self._last_case = case.name
        request = EditRequest(
            source=case.source_text,
            target=case.target_text,
            strength=ratio,
            method=self._method,
            quality=self._quality,
            **self._asked,
            seed=case.seed,
            preview=False,
        )
        given = self._mask_of and self._mask_of(case)
        with Instruments(self._engine.model) as read:
            try:
                outcome = edit_picture(self._engine, request, case.source, mask=given)
            except NothingFoundError:
                outcome = None
        if outcome is None:
            empty = np.zeros(case.source.shape[:2], np.uint8)
            return Edited(case.source, empty, empty, case.source, read.evaluations, read.seconds, read.cpu_seconds)
        whole = read.decoded is not None and read.decoded.shape == case.source.shape and self._mask_of is None
        decoded = read.decoded if whole else None  # a crop, or a picture of another size, is nothing to compare
        delivered = paste(case.source, outcome, 0)
        return Edited(
            delivered, outcome.mask, outcome.soft_map, decoded, read.evaluations, read.seconds, read.cpu_seconds
        )


class GivenMaskEditor:
    """The engine's stages with a mask that was not searched, and all else as `ours` has it.

    `edit_picture` would crop around a given mask and work on it enlarged; here the picture stays whole, so that
    nothing but the mask is another one.
    """

    takes_ratio = True

    def __init__(self, name: str, engine: DiffEditEngine, mask_of: MaskOf) -> None:
        self.name = name
        self._engine = engine
        self._mask_of = mask_of

    def edit(self, case: EditCase, ratio: float) -> Edited:
        engine = self._engine
        settings = settings_for("fast", "normal", steps=engine.model.steps)
        engine.cache.clear()
        height, width = case.source.shape[:2]
        mask = self._mask_of(case)
        fills = settings.fill and leaves_things_out(case.source_text, case.target_text)
        ratio = min(ratio, FILL_RATIO) if fills else ratio
        with Instruments(engine.model) as read:
            area = choose_area(width, height, None, engine.model.native_size, engine.model.multiple)
            subject = Subject.of(to_work(case.source, area))
            trajectory = engine.trajectory(subject, case.source_text, ratio, settings)
            cells = torch.from_numpy(to_cells(mask, area, engine.model.factor))
            if fills:
                around = Subject.of(to_work(filled(case.source, mask, self._px(FILL_MARGIN, area)), area))
                trajectory = engine.refilled(trajectory, around, cells, ratio, settings, case.seed)
            edit = LatentEdit(
                subject,
                case.target_text,
                cells,
                ratio,
                engine.model.guidance,
                settings,
                source=case.source_text,
                seeds=(case.seed,),
            )
            latents = RetriedEdit(engine, edit).latents(trajectory)
            decoded = from_work(engine.decode(latents)[0], area)
        edited = Edited(case.source, mask, None, decoded, read.evaluations, read.seconds, read.cpu_seconds)
        joined = blended(decoded, case.source, mask, self._px(1, area)) if settings.blend else decoded
        return replace(edited, delivered=pasted(case, replace(edited, decoded=joined)))

    def _px(self, cells: float, area: WorkArea) -> int:
        return max(1, round(cells * self._engine.model.factor / area.scale))


class EngineWithoutInversion(DiffEditEngine):
    """The control for the inversion: every level is the picture with the same noise, instead of what inversion leads
    to.
    """

    def trajectory(
        self, subject: Subject, source: str, ratio: float, settings: MethodSettings, on_step: OnStep = ignore
    ) -> Tensor:
        """Latents (T + 1, 1, C, h, w) as the engine's own, noised at random, with a seed from the picture."""
        x0 = self.encode(subject, on_step)
        noise = seeded_noise(x0.shape, int(subject.id[:8], 16), x0)
        levels = self.model.schedule.levels(settings.steps, ratio, x0[0, 0].numel())
        return torch.stack([x0, *(level.alpha * x0 + level.sigma * noise for level in levels[1:])])


class SwitchedEngine(DiffEditEngine):
    """The engine with other settings for inversion and edit than the method has, such as a rule of the inversion."""

    def __init__(self, model: LoadedModel, **switches: Any) -> None:
        super().__init__(model)
        self._switches = switches

    def trajectory(
        self, subject: Subject, source: str, ratio: float, settings: MethodSettings, on_step: OnStep = ignore
    ) -> Tensor:
        return super().trajectory(subject, source, ratio, replace(settings, **self._switches), on_step)

    def edit(self, edit: LatentEdit, trajectory: Tensor, on_step: OnStep = ignore) -> Tensor:
        switched = replace(edit, settings=replace(edit.settings, **self._switches))
        return super().edit(switched, trajectory, on_step)


class ProductMaskEngine(DiffEditEngine):
    """The mask of LEDITS++ (arXiv 2311.16711): the difference where the changed words are looked at, nothing elsewhere.

    The predictions are recorded while the difference is found, so it costs no evaluation.
    """

    def difference(
        self, subject: Subject, source: str, target: str, settings: MethodSettings, on_step: OnStep = ignore
    ) -> Tensor:
        recording = replace(settings, attention=1.0)
        found = super().difference(subject, source, target, recording, on_step)
        attention = self.attention(subject, source, target, recording)
        return found if attention is None else found * (attention >= attention.quantile(BEST_ATTENTION))


BEST_ATTENTION = 0.7  # quantile of the cells from which a word counts as looked at


def true_mask(case: EditCase) -> Plane:
    """What a perfect search would have found."""
    assert case.mask is not None
    return np.where(case.mask, np.uint8(255), np.uint8(0))


def changed_mask(case: EditCase) -> Plane:
    """Every place that the true edit changes: space for a new thing that is larger than the old one."""
    assert case.changed is not None
    return np.where(case.changed, np.uint8(255), np.uint8(0))


def random_mask(case: EditCase) -> Plane:
    """A region of equal area: the true mask, moved by a random way around the picture's borders."""
    height, width = case.source.shape[:2]
    rng = np.random.default_rng(case.seed)
    return np.roll(true_mask(case), (int(rng.integers(height)), int(rng.integers(width))), (0, 1))


def whole_picture(case: EditCase) -> Plane:
    """Everything may change."""
    return np.full(case.source.shape[:2], 255, np.uint8)


MASKS: dict[str, MaskOf] = {
    "true-mask": true_mask,
    "changed-mask": changed_mask,
    "random-mask": random_mask,
    "whole-picture": whole_picture,
}


class Copy:
    """The source as it is, with an empty mask."""

    name = "copy"
    takes_ratio = False

    def edit(self, case: EditCase, ratio: float) -> Edited:
        return Edited(case.source, np.zeros(case.source.shape[:2], np.uint8))


class Truth:
    """The true edit: what the judge finds in it is the judge's own accuracy on these cases."""

    name = "truth"
    takes_ratio = False

    def edit(self, case: EditCase, ratio: float) -> Edited:
        assert case.target is not None
        return Edited(case.target, changed_mask(case))


class TruthThroughAutoencoder:
    """The true edit, encoded, decoded and pasted: no edit of this model can be sharper."""

    name = "truth-vae"
    takes_ratio = False

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    def edit(self, case: EditCase, ratio: float) -> Edited:
        from diffedit_backend.method.encoding import decode_latents, encode_picture

        assert case.target is not None
        decoded = decode_latents(self._model, encode_picture(self._model, case.target))
        edited = Edited(decoded, changed_mask(case), decoded=decoded)
        return replace(edited, delivered=pasted(case, edited))
