"""Detail for an edit that is larger than the model's pictures: drawn at the picture's own resolution, in windows.

What is where was decided by the edit at the model's own size; enlarged, it is noised a little and denoised again with
the predictions of overlapping windows blended. So no window invents a subject of its own, as windows that start from
noise do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from diffedit_protocol.messages import EditRequest

from .imaging.area import WorkArea, bounds_of, cut, detailed_area, from_work, to_cells, to_work
from .method.engine import DiffEditEngine, LatentEdit, Subject
from .method.schedule import count_steps
from .method.settings import MethodSettings
from .method.steps import OnStep, Step
from .types import Pixels, Plane

# The encoding ratio that detail is drawn from. With the bundled model windows draw things of their own from 0.35 on.
RATIO = 0.2
_LEAST_STEPS = 3  # from there, however few the whole schedule has


@dataclass(frozen=True)
class Detail:
    """Draws detail into the edits of one picture. `colours`: (H, W, 3); `mask`: (H, W); `area`: of the edit itself."""

    engine: DiffEditEngine
    request: EditRequest
    settings: MethodSettings
    colours: Pixels
    mask: Plane
    area: WorkArea

    @property
    def fine(self) -> WorkArea | None:
        """Where and how large detail is drawn; None where the edit is as fine as the picture already."""
        model = self.engine.model
        return detailed_area(self.area, bounds_of(self.mask), model.native_size, model.multiple)

    @property
    def steps(self) -> int:
        """Steps that `drawn` reports."""
        return 0 if self.fine is None else count_steps(self._schedule_steps, RATIO)

    @property
    def _schedule_steps(self) -> int:
        """Of the whole schedule, so that at least three fall to detail."""
        return max(self.settings.steps, round(_LEAST_STEPS / RATIO))

    def drawn(self, edited: Pixels, seed: int, on_step: OnStep) -> Pixels:
        """An edit (h, w, 3) of the area's crop, at the crop's size, with detail inside of the mask."""
        fine = self.fine
        if fine is None:
            return edited
        engine, request = self.engine, self.request
        # Three steps are few, and the last of them draws the finest detail: each asks for its own direction.
        settings = replace(self.settings, steps=self._schedule_steps, guidance_every=1)
        crop = self.area.crop
        share = cut(self.mask, crop)[..., None].astype(np.float32) / 255
        pasted = self.colours.copy()
        cut(pasted, crop)[...] = np.rint(cut(self.colours, crop) * (1 - share) + edited * share).astype(np.uint8)
        subject = Subject.of(to_work(pasted, fine))
        edit = LatentEdit(
            subject,
            request.target,
            torch.from_numpy(to_cells(self.mask, fine, engine.model.factor)),
            RATIO,
            # Noised and denoised, whatever way the edit itself came about: that way's factor is not meant for it.
            replace(settings, guidance_factor=1.0).guidance_for(request.guidance, engine.model.guidance),
            settings,
            negative=request.negative,
            seeds=(seed,),
            windowed=True,
        )
        latents = engine.edit(
            edit,
            engine.noised(subject, RATIO, settings, seed),
            lambda step: on_step(Step("decoding", step.step, step.total)),
        )
        cut(pasted, fine.crop)[...] = from_work(engine.decode(latents)[0], fine)
        return cut(pasted, crop)
