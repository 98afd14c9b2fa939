"""What a worker runs beside edits: captions, wordings, and maps of what words name, each by a model of its own.

Such a model is loaded when it is first needed, and given up before any model that edits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from diffedit_protocol.errors import BadInputError, ModelError
from diffedit_protocol.messages import Bounds, EditRequest, Manifest, PictureRef, Progress

from ..imaging.area import cut
from ..imaging.profiles import composite_on_white
from ..method.cache import Sized
from ..models.captioning import CaptioningModel, load_captioner
from ..models.segmenting import SegmentingModel, changed_words, load_segmenter
from ..models.suggesting import SuggestingModel, check_suggestions, load_suggester
from ..types import Pixels
from .loop import Finished, ReportStep
from .pixels import picture_of, plane_of

M = TypeVar("M", bound=Sized)


@dataclass(frozen=True)
class AuxiliaryNames:
    """Paths or hub ids of the models that describe pictures, suggest words and find what words name."""

    captioner: str | None = None
    suggester: str | None = None
    segmenter: str | None = None


NO_AUXILIARY = AuxiliaryNames()


class AuxiliaryModel(ABC, Generic[M]):
    """`name`: folder or hub id of the model, None for a backend without one. `device`: where it computes."""

    def __init__(self, name: str | None, device: str | None) -> None:
        self.name = name
        self.device = device
        self._model: M | None = None

    @property
    def nbytes(self) -> int:
        """Memory of the weights, 0 while they are not loaded."""
        return self._model.nbytes if self._model is not None else 0

    def give_up(self) -> None:
        """Let go of the weights; they are loaded again when they are needed next."""
        self._model = None

    @abstractmethod
    def load(self, name: str) -> M:
        """Load the model. Raises ModelError."""

    def _loaded(self, name: str, report: ReportStep) -> M:
        if self._model is None:
            report(Progress("loading", 0, 1))
            self._model = self.load(name)
        return self._model


class Captioner(AuxiliaryModel[CaptioningModel]):
    """Describes a picture, or what is selected of it: the first words of an edit."""

    def load(self, name: str) -> CaptioningModel:
        return load_captioner(name, self.device)

    def run(self, request: EditRequest, ref: PictureRef, blobs: Mapping[str, bytes], report: ReportStep) -> Finished:
        """The `words` of a request's picture, as many as it wants variations. Raises ModelError, BadInputError."""
        if self.name is None:
            raise ModelError("This worker has no captioning model. Start the backend with --captioner.")
        model = self._loaded(self.name, report)
        picture = picture_of(ref, blobs)
        selected = plane_of(request.selection, blobs)
        looked_at = np.full(picture.shape[:2], 255, np.uint8) if selected is None else selected
        bounds = _bounds(looked_at)
        if bounds.empty:
            raise BadInputError("Nothing is selected, so there is nothing to describe.")
        report(Progress("encoding", 0, 1))
        words = model.describe(composite_on_white(cut(picture, bounds)), request.variations, request.seed)
        report(Progress("encoding", 1, 1))
        return Finished(Manifest(None, bounds, 0.5, model=Path(self.name).name, words=tuple(words)), {})


def _bounds(plane: Pixels) -> Bounds:
    """Where `plane` (H, W) is not 0."""
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    if not rows.size:
        return Bounds(0, 0, 0, 0)
    left, top = int(columns[0]), int(rows[0])
    return Bounds(left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top)


class PromptSuggester(AuxiliaryModel[SuggestingModel]):
    """Suggests wordings of a text, by a language model."""

    def load(self, name: str) -> SuggestingModel:
        return load_suggester(name, self.device)

    def run(self, request: EditRequest, report: ReportStep) -> Finished:
        """Different wordings of the request's source, at most as many as it wants variations; its own is none of them.

        Raises ModelError, BadInputError for an empty text.
        """
        if self.name is None:
            raise ModelError("This worker has no language model. Start the backend with --suggester.")
        text = request.source.strip()
        check_suggestions(text, request.variations)
        model = self._loaded(self.name, report)
        report(Progress("encoding", 0, 1))
        drawn = model.suggest(text, request.variations, request.seed)
        words = tuple(dict.fromkeys(wording for wording in drawn if wording and wording.casefold() != text.casefold()))
        report(Progress("encoding", 1, 1))
        return Finished(Manifest(None, Bounds(0, 0, 0, 0), 0.5, model=Path(self.name).name, words=words), {})


class WordSegmenter(AuxiliaryModel[SegmentingModel]):
    """Finds where a picture shows the words that an edit changes: a map beside, or in place of, the difference map."""

    def load(self, name: str) -> SegmentingModel:
        return load_segmenter(name, self.device)

    def run(self, request: EditRequest, picture: Pixels, report: ReportStep) -> Pixels | None:
        """(H, W) uint8, where the picture (H, W, 3 or 4) shows the words that the request changes.

        None for a request that asks for none or brings its own mask. Raises ModelError, BadInputError.
        """
        if not request.segment or request.mask is not None:
            return None
        if self.name is None:
            raise ModelError("This worker has no segmenter. Start the backend with --segmenter.")
        words = changed_words(request.source, request.target)
        return self._loaded(self.name, report).segment(composite_on_white(picture), words)
