"""One edit of one picture: check, crop, scale, ask the engine, scale back, paste. Pictures in, pictures out.

The worker calls it for a job, `diffedit edit` in its own process. All lengths are px of the given picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffedit_protocol.errors import BadInputError, ModelError, NothingFoundError, OutOfMemoryError
from diffedit_protocol.messages import Bounds, EditRequest

from .detail import Detail
from .imaging.area import Thumbnail, WorkArea, bounds_of, choose_area, cut, from_work, to_cells, to_work
from .imaging.blend import blended, filled
from .imaging.matting import check_matting, matted
from .imaging.profiles import composite_on_white, uncomposite
from .imaging.soft_map import soft_map_of
from .method.engine import DiffEditEngine, LatentEdit, Subject, content_id
from .method.mask import automatic_threshold, final_mask, is_ground, limit, unchanged
from .method.memory import DeviceMemoryError
from .method.retries import RetriedEdit
from .method.settings import MethodSettings, settings_for
from .method.steps import OnStep, Step, ignore
from .method.text import words_beyond
from .method.wordings import leaves_things_out, wordings
from .models import with_adapters
from .models.adapters import with_written_adapters
from .outcome import Edit, EditOutcome, EditWarning, Stopwatch, paste
from .types import Pixels, Plane

__all__ = ["Edit", "EditOutcome", "EditWarning", "edit_picture", "paste"]

SMALLEST_SIDE = 8  # px: below, a picture shows nothing that words could name
# Of the model's native side, the least for the shorter side of what is worked on: a strip 8 times as long as wide.
THINNEST = 0.25
STRIP = 4  # times as long as wide: from here on the longer side is what limits the size that a picture is worked on at
HALF = 0.5  # told as the threshold of a mask that was given
_LEAST_BAND = 4  # px to either side of an edge that matting looks at
FILL_RATIO = 0.4  # encoding ratio of an edit that only leaves things out, at most
FILL_MARGIN = 0.25  # latent cells around a mask that are filled with it: the edge of a thing that the mask missed
_NEARLY_ALL = 0.9  # share of the searched place


def edit_picture(
    engine: DiffEditEngine,
    request: EditRequest,
    picture: Pixels,
    *,
    selection: Plane | None = None,
    mask: Plane | None = None,
    inversion: str | None = None,
    segmentation: Plane | None = None,
    on_step: OnStep = ignore,
) -> EditOutcome:
    """Find what the two texts disagree on and, unless `request.task` is "mask", change it.

    picture: (H, W, 3) RGB or (H, W, 4) straight RGBA, uint8, sRGB. selection: (H, W) uint8, limits search and edit.
    mask: (H, W) uint8, used as it is instead of a search, but for its edge when `request.matting` asks. inversion: a
    text under which the picture is inverted, such as its caption; None takes the method's: no words, or the source's in
    "reference".
    segmentation: (H, W) uint8, where a segmenter sees the words that change, for `request.segment`.
    The request's own references to pixels are not looked at.
    Raises BadInputError, ModelError, NothingFoundError, OutOfMemoryError, and whatever `on_step` raises.
    """
    request = with_written_adapters(request)
    inputs = _Inputs(picture, selection, mask, inversion, segmentation)
    _check(request, inputs)
    if request.segment and mask is None and (segmentation is None or segmentation.shape != picture.shape[:2]):
        raise BadInputError("The request asks for a segmenter's map, but there is none of the picture's size.")
    if request.attention and any(len(wordings(text)) > 1 for text in (request.source, request.target)):
        raise BadInputError("The attention is that of the words of one text, but a text here has several wordings.")
    try:
        if request.attention and not engine.model.family.attention:
            raise BadInputError(
                f"{engine.model.family.name} models tell nothing of where they look for a word. Leave attention out."
            )
        engine = engine.with_adapters(with_adapters(engine.model, request.adapters))
        return _Job(engine, request, inputs, on_step).run()
    except (DeviceMemoryError, torch.OutOfMemoryError) as error:
        engine.cache.clear()
        height, width = picture.shape[:2]
        raise OutOfMemoryError(
            f"The GPU ran out of memory at {width} × {height}. A selection, or the draft quality, needs less.",
            detail=str(error),
        ) from error


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What is edited, see `edit_picture`."""

    picture: Pixels
    selection: Plane | None
    mask: Plane | None
    inversion: str | None
    segmentation: Plane | None


def _check(request: EditRequest, inputs: _Inputs) -> None:
    picture = inputs.picture
    height, width = picture.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise BadInputError(
            f"The picture is {width} × {height} px; at least {SMALLEST_SIDE} × {SMALLEST_SIDE} px are needed."
        )
    for name, plane in (("selection", inputs.selection), ("mask", inputs.mask)):
        if plane is not None and plane.shape != (height, width):
            raise BadInputError(
                f"The {name} is {plane.shape[1]} × {plane.shape[0]} px but the picture {width} × {height} px: "
                "both must have the same size."
            )
        if plane is not None and not plane.any():
            raise BadInputError(f"The {name} is empty. Select the place to be changed, or use no {name}.")
    if picture.shape[2] == 4 and not picture[..., 3].any():
        raise BadInputError("The layer is empty: every pixel is transparent. Choose a layer with something on it.")
    if request.matting:
        check_matting()
    if not any(map(str.strip, wordings(request.target))):
        raise BadInputError("Say what there should be: the second text is empty.")
    if _folded(request.source) == _folded(request.target):
        raise BadInputError("Both texts are the same, so there is nothing to change.")


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


class _Job:
    """The values that the stages of one edit share."""

    def __init__(self, engine: DiffEditEngine, request: EditRequest, inputs: _Inputs, on_step: OnStep) -> None:
        self.engine = engine
        self.request = request
        self.picture = inputs.picture
        self.selection = inputs.selection
        self.given_mask = inputs.mask
        self.grow = request.grow if inputs.mask is None else 0
        self.inversion = inputs.inversion
        self.segmentation = inputs.segmentation if request.segment else None
        model = engine.model
        self.settings: MethodSettings = settings_for(request.method, request.quality, model.few_steps, model.steps)
        if request.attention is not None:
            self.settings = replace(self.settings, attention=request.attention)
        if request.blend is not None:
            self.settings = replace(self.settings, blend=request.blend)
        self.colours = composite_on_white(inputs.picture)
        self.area = self._choose_area()
        self.content = (engine.model.key, content_id(self.colours), self.area)
        self.subject = engine.cache.get(
            ("subject", *self.content), lambda: Subject.of(to_work(self.colours, self.area))
        )
        self.watch = Stopwatch()
        self.on_step = self._listener(on_step)

    def run(self) -> EditOutcome:
        before = self.engine.evaluations
        request = self.request
        soft_map, threshold, ground = None, request.threshold, False
        if self.given_mask is None:
            soft_map = self._soft_map()
            if threshold is None:
                threshold = self.settings.fixed_threshold or automatic_threshold(soft_map, self.selection)
            ground = is_ground(soft_map, self.selection)
            if ground and request.automatic_grow:
                self.grow = 0  # it would cover the edges of the things on it
            edge = self._matted if request.matting else unchanged
            mask = final_mask(soft_map, threshold, self.grow, request.feather, self.selection, edge)
        else:
            given = self._matted(self.given_mask) if request.matting else self.given_mask
            mask = limit(given, self.selection)
        bounds = bounds_of(mask)
        if bounds.empty:
            raise self._nothing_found()
        warnings = self._warnings(mask)
        edits, withheld = self._edits(mask, bounds) if request.task == "edit" else ((), ())
        return EditOutcome(
            mask=mask,
            soft_map=soft_map,
            threshold=HALF if threshold is None else threshold,
            bounds=bounds,
            edits=edits,
            evaluations=self.engine.evaluations - before,
            seconds=self.watch.seconds,
            warnings=warnings + withheld,
            ground=ground,
        )

    def _choose_area(self) -> WorkArea:
        height, width = self.picture.shape[:2]
        planes = [plane for plane in (self.selection, self.given_mask) if plane is not None]
        region = bounds_of(np.minimum.reduce(planes)) if planes else None
        if region is not None and region.empty:
            raise BadInputError("The mask lies outside of the selection. Remove the selection, or move one of them.")
        model = self.engine.model
        area = choose_area(width, height, region, model.native_size, model.multiple)
        if min(area.width, area.height) < THINNEST * model.native_size:
            crop = area.crop
            raise BadInputError(
                f"A strip of {crop.width} × {crop.height} px would be worked on at {area.width} × {area.height} px, "
                "too few to show anything. Select the part to be changed, not so long a one."
            )
        return area

    @property
    def _is_thin(self) -> bool:
        """Whether a strip is scaled down to fewer px than the model's square has, of which a selection gives more."""
        short, long = sorted((self.area.crop.width, self.area.crop.height))
        return long > STRIP * short and self.area.scale < 1

    def _soft_map(self) -> Plane:
        request, engine, settings = self.request, self.engine, self.settings
        limits = None if self.selection is None else content_id(self.selection)

        if self.segmentation is not None and request.segment == "replace":
            return limit(self.segmentation, self.selection)

        def compute() -> Plane:
            difference = engine.difference(self.subject, request.source, request.target, settings, self.on_step)
            attention = engine.attention(self.subject, request.source, request.target, settings)
            factor = engine.model.factor
            return soft_map_of(difference, self.colours, self.area, factor, settings, self.selection, attention)

        with self.watch.measure("finding"):
            key = ("soft map", *self.content, limits, request.source, request.target, settings)
            found = engine.cache.get(key, compute)
        return limit(found, self.segmentation)

    def _matted(self, mask: Plane) -> Plane:
        """The mask with its edge as a matte, within the crop: it may be off by half a latent cell, and by what a mask
        that was searched was grown."""
        band = max(_LEAST_BAND, round(self.engine.model.factor / 2 / self.area.scale), self.grow + _LEAST_BAND)
        key = ("matte", *self.content, content_id(mask), band)

        def report(done: int, total: int) -> None:
            self.on_step(Step("edges", done, total))

        def compute() -> Plane:
            matte = np.zeros_like(mask)
            cut(matte, self.area.crop)[...] = cut(matted(self.colours, mask, band, report), self.area.crop)
            return matte

        with self.watch.measure("edges"):
            return self.engine.cache.get(key, compute)

    def _edits(self, mask: Plane, bounds: Bounds) -> tuple[tuple[Edit, ...], tuple[EditWarning, ...]]:
        """The results, and what is to be said of those that the model's safety checker withholds."""
        request, settings = self.request, self.settings
        # A method without fresh noise gives one result whatever the seed.
        count = request.variations if settings.varies else 1
        seeds = tuple((request.seed + i) % 2**32 for i in range(count))
        latents = self._latents(mask, seeds)
        with self.watch.measure("decoding"):
            pictures = self._decoded(latents, seeds, mask)
            shown = self._shown(pictures)
            edits = tuple(Edit(seed, self._pixels(pictures[seed], mask, bounds)) for seed in shown)
        if len(shown) == len(seeds):
            return edits, ()
        sentence = f"The model's safety checker flagged {len(seeds) - len(shown)} of {len(seeds)} results; kept back."
        return edits, (EditWarning("FLAGGED", sentence),)

    def _latents(self, mask: Plane, seeds: tuple[int, ...]) -> torch.Tensor:
        """The edited latents (B, C, h, w), one for each seed, by the method's way: with an inversion or without."""
        request, engine, settings = self.request, self.engine, self.settings
        cells = torch.from_numpy(to_cells(mask, self.area, engine.model.factor))
        edit = LatentEdit(
            self.subject,
            request.target,
            cells,
            request.strength,
            settings.guidance_for(request.guidance, engine.model.guidance),
            settings,
            source=request.source,
            negative=request.negative,
            seeds=seeds,
            preview=request.preview,
        )
        if not settings.inverts:
            with self.watch.measure("editing"):
                return engine.edit_without_inversion(edit, self.on_step)
        fills = settings.fill and leaves_things_out(wordings(request.source)[0], wordings(request.target)[0])
        if fills:  # a place that is filled from around it is nearly right: deeper, the model would draw another thing
            edit = replace(edit, ratio=min(request.strength, FILL_RATIO))
        with self.watch.measure("inverting"):
            inverting = settings if self.inversion is None else replace(settings, inversion_text="source")
            text = request.source if self.inversion is None else self.inversion
            trajectory = engine.trajectory(self.subject, text, edit.ratio, inverting, self.on_step)
            if fills:
                around = Subject.of(to_work(filled(self.colours, mask, self._px(FILL_MARGIN)), self.area))
                trajectory = engine.refilled(trajectory, around, cells, edit.ratio, settings, request.seed)
        with self.watch.measure("editing"):
            return RetriedEdit(engine, edit).latents(trajectory, self.on_step)

    def _decoded(self, latents: torch.Tensor, seeds: tuple[int, ...], mask: Plane) -> dict[int, Pixels]:
        """The edited crops (h, w, 3) at their own size, by seed; with detail where that is asked for."""
        detail = Detail(self.engine, self.request, self.settings, self.colours, mask, self.area)
        each = 1 + (detail.steps if self.request.detail else 0)
        pictures = {}
        for index, seed in enumerate(seeds):
            done, total = index * each + 1, len(seeds) * each
            picture = from_work(self.engine.decode(latents[index : index + 1])[0], self.area)
            self.on_step(Step("decoding", done, total))
            if self.request.detail:
                picture = detail.drawn(picture, seed, _shifted(self.on_step, done, total))
            if self.settings.blend:
                crop = self.area.crop
                picture = blended(picture, cut(self.colours, crop), cut(mask, crop), self._px(1))
            pictures[seed] = picture
        return pictures

    def _px(self, cells: float) -> int:
        """A length in latent cells as px of the picture, at least 1."""
        return max(1, round(cells * self.engine.model.factor / self.area.scale))

    def _shown(self, pictures: Mapping[int, Pixels]) -> list[int]:
        """The seeds of the pictures that the model's safety checker lets pass. Raises ModelError when it lets none."""
        checker = self.engine.model.safety
        shown = [seed for seed, picture in pictures.items() if checker is None or not checker.flags(picture)]
        if not shown:
            raise ModelError(
                "The model's safety checker flagged every result, so none is shown. Other words or another seed may "
                "help; the owner of the backend can switch the checker off (--no-safety-checker).",
                retryable=True,
            )
        return shown

    def _pixels(self, decoded: Pixels, mask: Plane, bounds: Bounds) -> Pixels:
        """The RGBA pixels within bounds of an edited crop."""
        crop = self.area.crop
        inside = Bounds(bounds.x - crop.x, bounds.y - crop.y, bounds.width, bounds.height)
        colours = cut(decoded, inside)
        alpha = cut(mask, bounds)
        if self.picture.shape[2] == 4:
            own = cut(self.picture, bounds)[..., 3]
            colours, alpha = uncomposite(colours, own), limit(alpha, own)
        return np.ascontiguousarray(np.dstack((colours, alpha)))

    def _nothing_found(self) -> NothingFoundError:
        source, target = (wordings(text)[0].strip() for text in (self.request.source, self.request.target))
        return NothingFoundError(
            f"No region differs clearly between '{source}' and '{target}'. "
            "Lower the threshold, or select the place yourself."
        )

    def _warnings(self, mask: Plane) -> tuple[EditWarning, ...]:
        warnings = []
        searched = mask.size if self.selection is None else max(1, int(np.count_nonzero(self.selection)))
        share = np.count_nonzero(mask) / searched
        if self.given_mask is None and share > _NEARLY_ALL:
            warnings.append(
                EditWarning(
                    "NEARLY_ALL", f"{share:.0%} was found: nearly everything. Raise the threshold, or select the place."
                )
            )
        request, model = self.request, self.engine.model
        texts = (request.source, request.target, request.negative, self.inversion or "")
        if self._is_thin:
            size = f"{self.area.width} × {self.area.height} px"
            warnings.append(
                EditWarning("STRIP", f"So long a picture is worked on at {size}; a selection gives finer edits.")
            )
        if model.remark:
            warnings.append(EditWarning("MODEL", model.remark))
        if unsaid := self._unsaid_words(texts):
            sentence = f"No text says {unsaid}, so what was learned for it is not used."
            warnings.append(EditWarning("WORD_UNUSED", sentence))
        for text in texts:
            if rest := words_beyond(model, text):
                warnings.append(
                    EditWarning("TEXT_CUT", f"A text is longer than the model reads; its end is not used: '…{rest}'.")
                )
        if self.request.variations > 1 and not self.settings.varies:
            warnings.append(
                EditWarning(
                    "ONE_RESULT",
                    f"The method '{self.request.method}' gives the same result for every seed, so one is given.",
                )
            )
        return tuple(warnings)

    def _unsaid_words(self, texts: tuple[str, ...]) -> str:
        """The textual inversions that no text names, each by the words that would."""
        words = self.engine.model.words
        named: dict[str, list[str]] = {}
        for word, tokens in words.spellings:
            named.setdefault(tokens, []).append(word)
        silent = [names for names in named.values() if not any(words.occurs(n, text) for n in names for text in texts)]
        return ", ".join(" or ".join(f"'{name}'" for name in names) for names in silent)

    def _listener(self, on_step: OnStep) -> Callable[[Step], None]:
        """Passes steps on, with previews of the whole picture."""
        thumbnail = Thumbnail(self.colours, self.area)

        def listener(step: Step) -> None:
            if step.preview is not None:
                step = Step(step.stage, step.step, step.total, thumbnail.with_work(step.preview))
            on_step(step)

        return listener


def _shifted(on_step: OnStep, done: int, total: int) -> OnStep:
    """Tells steps as those that follow the first `done` of `total`."""
    return lambda step: on_step(Step(step.stage, done + step.step, total, step.preview))
