"""From words to what the UNet is conditioned on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .weighting import weighted_tokens, weights_in, without_weights
from .wordings import SEPARATOR, wordings

if TYPE_CHECKING:
    from .model import LoadedModel


@dataclass(frozen=True)
class TextCondition:
    """`tokens`: (L, D) embeddings of one text. `pooled`: (P,) for SDXL, else None."""

    tokens: Tensor
    pooled: Tensor | None = None

    @property
    def nbytes(self) -> int:
        return self.tokens.nbytes + (self.pooled.nbytes if self.pooled is not None else 0)


def between(first: TextCondition, second: TextCondition, share: float) -> TextCondition:
    """The embeddings that lie `share` of the way from the first text to the second: at 0 the first itself."""
    if first.pooled is None or second.pooled is None:
        return TextCondition(torch.lerp(first.tokens, second.tokens, share))
    return TextCondition(torch.lerp(first.tokens, second.tokens, share), torch.lerp(first.pooled, second.pooled, share))


@torch.inference_mode()
def encode_text(model: LoadedModel, text: str) -> TextCondition:
    """Encode one text; of several wordings (see `wordings`) the mean.

    Raises ModelError, BadInputError for weights that cannot be heard (see `weighting`).
    """
    conditions = [_encode_wording(model, wording) for wording in wordings(text)]
    if len(conditions) == 1:
        return conditions[0]
    pooled = [condition.pooled for condition in conditions if condition.pooled is not None]
    tokens = torch.stack([condition.tokens for condition in conditions]).mean(0)
    return TextCondition(tokens, torch.stack(pooled).mean(0) if pooled else None)


def _encode_wording(model: LoadedModel, text: str) -> TextCondition:
    weighted = weights_in(text)
    if weighted is None:
        return _encode_plain(model, text)
    # Pooled embeddings are those of one token, the text's last: weights of others have no place there.
    plain = _encode_plain(model, weighted.unweighted)
    return replace(plain, tokens=weighted_tokens(model, weighted))


def _encode_plain(model: LoadedModel, text: str) -> TextCondition:
    """Encode by the last layer for SD 1 and 2, by the last but one of both encoders for SDXL."""
    if not model.is_xl:
        return TextCondition(_encoded(model, 0, text).last_hidden_state[0].to(model.dtype))
    tokens, pooled = [], torch.empty(0)
    for index in range(len(model.text_encoders)):
        output = _encoded(model, index, text, output_hidden_states=True)
        tokens.append(output.hidden_states[-2][0])
        pooled = output[0][0]  # the second encoder's projection of its last token is the one that is used
    share = 0.0 if text == "" and model.zero_empty_text else 1.0
    return TextCondition(share * torch.cat(tokens, dim=-1).to(model.dtype), share * pooled.to(model.dtype))


def words_beyond(model: LoadedModel, text: str) -> str:
    """The ends of a text's wordings beyond the number of tokens that the text encoder reads; mostly ""."""
    return SEPARATOR.join(filter(None, (_beyond(model, wording) for wording in wordings(text))))


def _beyond(model: LoadedModel, text: str) -> str:
    tokenizer = model.tokenizers[0]
    ids = tokenizer(model.words.spelled(without_weights(text)), truncation=False, verbose=False).input_ids
    room = tokenizer.model_max_length
    return str(tokenizer.decode(ids[room - 1 : -1])).strip() if len(ids) > room else ""


def token_ids(model: LoadedModel, text: str) -> list[int]:
    """The ids of a text in the first tokenizer, which for SDXL cuts as the second does; padded to its length."""
    spelled = model.words.spelled(without_weights(text))
    ids: list[int] = _token_ids(model.tokenizers[0], spelled)[0].tolist()
    return ids


def _encoded(model: LoadedModel, index: int, text: str, **options: Any) -> Any:
    """What text encoder `index` makes of a text, learned words included."""
    ids = _token_ids(model.tokenizers[index], model.words.spelled(text)).to(model.device)
    with model.words.heard(index, model.text_encoders[index], ids) as heard:
        return model.text_encoders[index](heard, **options)


def _token_ids(tokenizer: Any, text: str) -> Tensor:
    room = tokenizer.model_max_length
    ids: Tensor = tokenizer(text, padding="max_length", max_length=room, truncation=True, return_tensors="pt").input_ids
    return ids
