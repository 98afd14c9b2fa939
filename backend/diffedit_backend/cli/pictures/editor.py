"""Where the command line's edits run: a model in this process, or a running backend."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from diffedit_protocol.messages import EditRequest
from numpy.typing import NDArray

from ...method.steps import OnStep, ignore
from ...outcome import EditOutcome
from ..arguments import model_options

Pixels = NDArray[np.uint8]


class Editor:
    """Edits pictures as `editing.edit_picture` does; the model is loaded at the first edit and kept."""

    def __init__(self, args: argparse.Namespace) -> None:
        """`args` as `picture_arguments` defines them: connect, or model, device, precision, offload, tiles, safety."""
        self._args = args
        self._engine: Any = None

    def edit(
        self,
        request: EditRequest,
        pixels: Pixels,
        *,
        selection: Pixels | None = None,
        mask: Pixels | None = None,
        inversion: str | None = None,
        on_step: OnStep = ignore,
    ) -> EditOutcome:
        """`inversion`: not for a running backend. Raises every DiffEditError that an edit may end in."""
        if self._args.connect is not None:
            from .remote import edit_over_link

            return edit_over_link(self._args.connect, request, pixels, selection=selection, mask=mask, on_step=on_step)
        from ...editing import edit_picture

        if self._engine is None:
            self._engine = self._loaded()
        return edit_picture(
            self._engine, request, pixels, selection=selection, mask=mask, inversion=inversion, on_step=on_step
        )

    def _loaded(self) -> Any:
        from ...method.engine import DiffEditEngine
        from ...models import load_model, use_threads

        model = load_model(self._args.model, model_options(self._args))
        use_threads(model)
        return DiffEditEngine(model)
