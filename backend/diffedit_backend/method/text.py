"""From words to what the network is conditioned on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from diffedit_protocol.errors import BadInputError

from .text_condition import Condition, TextCondition, mixed
from .weighting import weighted_tokens, weights_in
from .wordings import SEPARATOR, wordings

if TYPE_CHECKING:
    from .model import LoadedModel


@torch.inference_mode()
def encode_text(model: LoadedModel, text: str) -> Condition:
    """Encode one text; of several wordings (see `wordings`) the mean.

    Raises ModelError, BadInputError for weights that cannot be read (see `weighting`) or that the family has not.
    """
    conditions = [_encode_wording(model, wording) for wording in wordings(text)]
    return mixed([(1 / len(conditions), condition) for condition in conditions])


def _encode_wording(model: LoadedModel, text: str) -> TextCondition:
    weighted = weights_in(text)
    if weighted is None:
        return model.family.encode_text(model, text)
    if not model.family.weighting:
        raise BadInputError(
            f"The text {text!r:.80} weighs words, which {model.family.name} models cannot. Put a blank between bracket "
            "and number: then it weighs none."
        )
    # Pooled embeddings are those of one token, the text's last: weights of others have no place there.
    plain = model.family.encode_text(model, weighted.unweighted)
    return replace(plain, tokens=weighted_tokens(model, weighted))


def words_beyond(model: LoadedModel, text: str) -> str:
    """The ends of a text's wordings beyond the number of tokens that the text encoder reads; mostly ""."""
    return SEPARATOR.join(filter(None, (model.family.words_beyond(model, wording) for wording in wordings(text))))
