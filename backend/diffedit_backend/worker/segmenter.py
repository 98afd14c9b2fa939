"""Finds where a picture shows the words that an edit changes: a map beside, or in place of, the difference map."""

from __future__ import annotations

import numpy as np
from diffedit_protocol.errors import ModelError
from diffedit_protocol.messages import EditRequest, Progress
from numpy.typing import NDArray

from ..imaging.alpha import composite_on_white
from ..models.segmenting import Segmenter, changed_words, load_segmenter
from .loop import ReportStep


class WordSegmenter:
    """`name`: folder or hub id of the segmenter, None for a backend without one; loaded when first asked."""

    def __init__(self, name: str | None, device: str | None) -> None:
        self._name = name
        self._device = device
        self._segmenter: Segmenter | None = None

    @property
    def nbytes(self) -> int:
        """Memory of the weights, 0 while they are not loaded."""
        return self._segmenter.nbytes if self._segmenter is not None else 0

    def give_up(self) -> None:
        """Let go of the weights; they are loaded again when a map is wanted next."""
        self._segmenter = None

    def run(self, request: EditRequest, picture: NDArray[np.uint8], report: ReportStep) -> NDArray[np.uint8] | None:
        """(H, W) uint8, where the picture (H, W, 3 or 4) shows the words that the request changes.

        None for a request that asks for none or brings its own mask. Raises ModelError, BadInputError.
        """
        if not request.segment or request.mask is not None:
            return None
        if self._name is None:
            raise ModelError("This worker has no segmenter. Start the backend with --segmenter.")
        words = changed_words(request.source, request.target)
        if self._segmenter is None:
            report(Progress("loading", 0, 1))
            self._segmenter = load_segmenter(self._name, self._device)
        return self._segmenter.segment(composite_on_white(picture), words)
