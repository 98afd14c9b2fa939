"""Editors that do not edit: what "nothing", "perfect" and "perfect, but through the autoencoder" score.

The mask of the true edit is every place that it changes, which is more than the old thing when the new one is larger.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .cases import EditCase
from .editor_ours import changed_mask
from .editors import Edited, pasted

if TYPE_CHECKING:
    from diffedit_backend.models import LoadedModel


class Copy:
    """The source as it is, with an empty mask."""

    name = "copy"
    takes_ratio = False

    def edit(self, case: EditCase, ratio: float) -> Edited:
        return Edited(case.source, np.zeros(case.source.shape[:2], np.uint8))


class Truth:
    """The true edit: what the judge says of it is the judge's own accuracy on these cases."""

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
