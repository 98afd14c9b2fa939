"""Says what a picture shows, or what is selected of it: the first words of an edit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from diffedit_protocol.errors import BadInputError, ModelError
from diffedit_protocol.messages import Bounds, EditRequest, Manifest, PictureRef, Progress

from ..imaging.alpha import composite_on_white
from ..imaging.area import cut
from ..models.captioning import Captioner, load_captioner
from ..types import Pixels
from .loop import Finished, ReportStep
from .pixels import picture_of, plane_of


class Describer:
    """`name`: folder or hub id of the captioning model, None for a backend without one; loaded when first asked."""

    def __init__(self, name: str | None, device: str | None) -> None:
        self._name = name
        self._device = device
        self._captioner: Captioner | None = None

    @property
    def nbytes(self) -> int:
        """Memory of the weights, 0 while they are not loaded."""
        return self._captioner.nbytes if self._captioner is not None else 0

    def give_up(self) -> None:
        """Let go of the weights; they are loaded again when the next picture is to be described."""
        self._captioner = None

    def run(self, request: EditRequest, ref: PictureRef, blobs: Mapping[str, bytes], report: ReportStep) -> Finished:
        """The `words` of a request's picture, as many as it wants variations. Raises ModelError, BadInputError."""
        if self._name is None:
            raise ModelError("This worker has no captioning model. Start the backend with --captioner.")
        if self._captioner is None:
            report(Progress("loading", 0, 1))
            self._captioner = load_captioner(self._name, self._device)
        picture = picture_of(ref, blobs)
        selected = plane_of(request.selection, blobs)
        looked_at = np.full(picture.shape[:2], 255, np.uint8) if selected is None else selected
        bounds = _bounds(looked_at)
        if bounds.empty:
            raise BadInputError("Nothing is selected, so there is nothing to describe.")
        report(Progress("encoding", 0, 1))
        words = self._captioner.describe(composite_on_white(cut(picture, bounds)), request.variations, request.seed)
        report(Progress("encoding", 1, 1))
        return Finished(Manifest(None, bounds, 0.5, model=Path(self._name).name, words=tuple(words)), {})


def _bounds(plane: Pixels) -> Bounds:
    """Where `plane` (H, W) is not 0."""
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    if not rows.size:
        return Bounds(0, 0, 0, 0)
    left, top = int(columns[0]), int(rows[0])
    return Bounds(left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top)
