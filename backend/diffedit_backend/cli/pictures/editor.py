"""Where the command line's edits run: a model in this process, or a running backend."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from diffedit_protocol.connection import Connection
from diffedit_protocol.messages import EditRequest

from ...method.steps import OnStep, ignore
from ...outcome import EditOutcome
from ...types import Pixels, Plane
from ..arguments import connection_of, model_options


class Editor:
    """Edits pictures as `editing.edit_picture` does; the model is loaded at the first edit and kept."""

    def __init__(self, args: argparse.Namespace) -> None:
        """`args` as `add_picture_arguments` defines them: model; connect, or device, precision and so on."""
        self._args = args
        self._engine: Any = None
        self._segmenter: Any = None
        self._connection: Connection | None = None

    def prepare(self) -> None:
        """Loads the model, or reads where the backend is, unless that was done. Raises DiffEditError."""
        if self._args.connect is not None:
            self._connection = self._connection or connection_of(self._args.connect)
        elif self._engine is None:
            self._engine = self._loaded()

    def edit(
        self,
        request: EditRequest,
        pixels: Pixels,
        *,
        selection: Plane | None = None,
        mask: Plane | None = None,
        inversion: str | None = None,
        on_step: OnStep = ignore,
    ) -> EditOutcome:
        """`inversion`: not for a running backend. Raises every DiffEditError that an edit may end in."""
        self.prepare()
        if self._connection is not None:
            from .remote import edit_on_backend

            request = dataclasses.replace(request, model=self._args.model or "")
            return edit_on_backend(self._connection, request, pixels, selection=selection, mask=mask, on_step=on_step)
        from ...editing import edit_picture

        segmentation = self._segmentation(request, pixels) if request.segment and mask is None else None
        return edit_picture(
            self._engine,
            request,
            pixels,
            selection=selection,
            mask=mask,
            inversion=inversion,
            segmentation=segmentation,
            on_step=on_step,
        )

    def _segmentation(self, request: EditRequest, pixels: Pixels) -> Plane:
        """Where a segmenter sees the words that the request changes. Raises ModelError, BadInputError."""
        from ...imaging.profiles import composite_on_white
        from ...models.catalogue.folders import kept_segmenter
        from ...models.catalogue.word_models import DEFAULT_SEGMENTER
        from ...models.segmenting import changed_words, load_segmenter

        words = changed_words(request.source, request.target)
        if self._segmenter is None:
            name = self._args.segmenter or kept_segmenter() or DEFAULT_SEGMENTER
            self._segmenter = load_segmenter(name, self._args.device)
        found: Plane = self._segmenter.segment(composite_on_white(pixels), words)
        return found

    def _loaded(self) -> Any:
        from ...method.engine import DiffEditEngine
        from ...models import load_model, use_threads
        from ...models.catalogue.folders import BUNDLED

        model = load_model(self._args.model or BUNDLED, model_options(self._args))
        use_threads(model)
        return DiffEditEngine(model)
