"""Words that count more or less, "a (zebra)1.3 on grass": compel's notation, and its way of weighting embeddings.

compel (MIT) is optional and asked only for texts that weigh words. More weight moves a word's embeddings away from
those of the empty text; less blends them with those of the text in which the word is masked out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffedit_protocol.errors import BadInputError, ModelError
from torch import Tensor

if TYPE_CHECKING:
    from .model import LoadedModel

# A closing bracket with a number, or with plus or minus signs, right behind it.
_WEIGHT = re.compile(r"(?<!\\)\)(?:\.?\d|[+-]+(?!\w))")


@dataclass(frozen=True)
class WeightedText:
    """The pieces of a text, each with its weight."""

    fragments: tuple[str, ...]
    weights: tuple[float, ...]

    @property
    def unweighted(self) -> str:
        """The text without its weights."""
        return " ".join(self.fragments)


def weights_in(text: str) -> WeightedText | None:
    """What a text weighs, None for one that weighs nothing.

    Raises ModelError where compel is not installed, BadInputError for a text that it cannot read.
    """
    if not _WEIGHT.search(text):
        return None
    compel = _compel(text)
    from pyparsing import ParseBaseException

    try:
        read = compel.PromptParser().parse_conjunction(text)
    except (ParseBaseException, compel.PromptParser.ParsingException) as error:
        raise _unreadable(text) from error
    (prompt,) = read.prompts if len(read.prompts) == 1 else (None,)
    fragments = getattr(prompt, "children", [])
    if not fragments or read.lora_weights or not all(hasattr(fragment, "text") for fragment in fragments):
        raise _unreadable(text)
    return WeightedText(tuple(f.text for f in fragments), tuple(f.weight for f in fragments))


def without_weights(text: str) -> str:
    """The text as its words are heard; unchanged if it weighs nothing. Raises as `weights_in`."""
    weighted = weights_in(text)
    return text if weighted is None else weighted.unweighted


def weighted_tokens(model: LoadedModel, text: WeightedText) -> Tensor:
    """(L, D) embeddings of a weighted text, of all text encoders side by side; from the layers of plain texts."""
    compel = _compel(text.unweighted)
    kinds = compel.embeddings_provider.ReturnedEmbeddingsType
    layer = kinds.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED if model.is_xl else kinds.LAST_HIDDEN_STATES_NORMALIZED
    fragments = [model.words.spelled(fragment) for fragment in text.fragments]
    encoded = []
    for index, tokenizer in enumerate(model.tokenizers):
        provider = compel.embeddings_provider.EmbeddingsProvider(
            tokenizer, _Encoder(model, index), returned_embeddings_type=layer, device=model.device
        )
        encoded.append(
            provider.get_embeddings_for_weighted_prompt_fragments(
                [fragments], [list(text.weights)], device=model.device
            )
        )
    return torch.cat(encoded, dim=-1)[0].to(model.dtype)


class _Encoder:
    """A text encoder as compel calls it, which hears learned words and may be offloaded."""

    def __init__(self, model: LoadedModel, index: int) -> None:
        self._model = model
        self._index = index
        self.device = model.device
        self.dtype = model.dtype

    def __call__(self, ids: Tensor, attention_mask: Tensor | None, **options: Any) -> Any:
        encoder = self._model.text_encoders[self._index]
        with self._model.words.heard(self._index, encoder, ids) as heard:
            return encoder(heard, attention_mask, **options)


def _compel(text: str) -> Any:
    try:
        import compel.embeddings_provider
        import compel.prompt_parser
    except ImportError as error:
        raise ModelError(
            f"The text {text!r:.80} weighs words, but compel is not installed where the model runs: "
            "pip install 'krita-diffedit[weighting]'. Or put a blank between bracket and number: then it weighs none.",
            detail=str(error),
        ) from error
    return compel


def _unreadable(text: str) -> BadInputError:
    return BadInputError(
        f"The weights in {text!r:.200} cannot be read. Write words in brackets and a number right behind them, "
        "as in: a (zebra)1.3 on grass."
    )
