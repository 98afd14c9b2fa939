"""Words that count more or less, "a (zebra)1.3 on grass": compel's notation, and its way of weighting embeddings.

The notation of the web user interfaces, "(zebra:1.3)" and "[grass]" for a little less, is rewritten in compel's. compel
(MIT) is optional and asked only for texts that weigh words. More weight moves a word's embeddings away from
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
    from .family import FamilyModel

# Right behind a closing bracket: a number with a point, since "size (m)2" weighs nothing, or plus or minus signs.
_BEHIND = re.compile(r"\d*\.\d+|[+-]+(?!\w)")
# Between the brackets of "(zebra:1.3)"; not of "(at 12:30)".
_INSIDE = re.compile(
    r"(?:(?<!\d):\s*(?=[+-]?\d)|:\s*(?=[+-]?\d*\.\d))([+-]?(?:\d+\.?\d*|\.\d+))\s*$"
)  # "(zebra:1.3)", of what is between the brackets; not "(at 12:30)"
_LESS = 1 / 1.1  # "[grass]", as the web user interfaces weigh it
_LEAST, _MOST = 0.0, 2.0  # beyond, embeddings are no words any more and pictures break
_NOT_READ = re.compile(r"\.(?:blend|swap|and|or)\(")
_SWITCHED = re.compile(r"^[^:|]*(?::.*:\s*[\d.]+|\|.*)$")  # "[cow:horse:0.5]", "[cow|horse]"


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

    Raises ModelError where compel is not installed, BadInputError for a text that it cannot read and a weight out of
    bounds.
    """
    notation = _in_compels_notation(text)
    if notation is None:
        return None
    compel = _compel(text)
    from pyparsing import ParseBaseException

    try:
        read = compel.PromptParser().parse_conjunction(notation)
    except (ParseBaseException, compel.PromptParser.ParsingException) as error:
        raise _unreadable(text) from error
    (prompt,) = read.prompts if len(read.prompts) == 1 else (None,)
    fragments = getattr(prompt, "children", [])
    if not fragments or read.lora_weights or not all(hasattr(fragment, "text") for fragment in fragments):
        raise _unreadable(text)
    for fragment in fragments:
        if not _LEAST <= fragment.weight <= _MOST:
            raise BadInputError(
                f"The weight of {fragment.text!r:.80} is {fragment.weight:g}; weights go from {_LEAST:g} to {_MOST:g}."
            )
    return WeightedText(tuple(f.text for f in fragments), tuple(f.weight for f in fragments))


def _in_compels_notation(text: str) -> str | None:
    """The text with its weights as compel reads them and all other brackets as letters; None if it weighs nothing."""
    edits: dict[int, str] = {}  # what stands in the place of the character at an index
    opened: list[int] = []
    weighs = False
    index = 0
    while index < len(text):
        sign = text[index]
        if sign == "\\":
            index += 2
            continue
        if sign in "([":
            opened.append(index)
            edits[index] = f"\\{sign}" if sign == "(" else sign
        elif sign in ")]":
            edits[index] = f"\\{sign}" if sign == ")" else sign
            if opened and text[opened[-1]] == ("(" if sign == ")" else "["):
                begin = opened.pop()
                weighs |= _weigh(text, begin, index, edits)
        index += 1
    if not weighs:
        return None
    if _NOT_READ.search(text):
        raise _unreadable(text)
    return "".join(edits.get(i, sign) for i, sign in enumerate(text))


def _weigh(text: str, begin: int, end: int, edits: dict[int, str]) -> bool:
    """Note in `edits` what the brackets at `begin` and `end` weigh; whether they do."""
    content = text[begin + 1 : end]
    if text[begin] == "[":
        if not content.strip():
            return False
        if _SWITCHED.match(content):
            raise BadInputError(
                f"The text {text!r:.200} changes its words from step to step, '[{content:.80}]', which is not "
                "understood here. Write one of them."
            )
        edits[begin], edits[end] = "(", f"){_LESS:.4f}"
        return True
    if inside := _INSIDE.search(content):
        start = begin + 1 + inside.start()
        edits.update(dict.fromkeys(range(start, end), ""))
        edits[begin], edits[end] = "(", f"){float(inside[1]):g}"
        if float(inside[1]) < 0 or "e" in edits[end]:
            raise BadInputError(
                f"The weight in '({content:.80})' is {inside[1]}; weights go from {_LEAST:g} to {_MOST:g}."
            )
        return True
    if _BEHIND.match(text, end + 1):
        edits[begin], edits[end] = "(", ")"
        return True
    return False


def without_weights(text: str) -> str:
    """The text as it is encoded; unchanged if it weighs nothing. Raises as `weights_in`."""
    weighted = weights_in(text)
    return text if weighted is None else weighted.unweighted


def weighted_tokens(model: FamilyModel, text: WeightedText) -> Tensor:
    """(L, D) embeddings of a weighted text, of all text encoders side by side; from the layers of plain texts."""
    compel = _compel(text.unweighted)
    kinds = compel.embeddings_provider.ReturnedEmbeddingsType
    layer = kinds.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED if model.is_xl else kinds.LAST_HIDDEN_STATES_NORMALIZED
    fragments = [model.words.with_tokens(fragment) for fragment in text.fragments]
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
    """A text encoder as compel calls it, which embeds learned words and may be offloaded."""

    def __init__(self, model: FamilyModel, index: int) -> None:
        self._model = model
        self._index = index
        self.device = model.device
        self.dtype = model.dtype

    def __call__(self, ids: Tensor, attention_mask: Tensor | None, **options: Any) -> Any:
        encoder = self._model.text_encoders[self._index]
        with self._model.words.embedded(self._index, encoder, ids) as plain_ids:
            return encoder(plain_ids, attention_mask, **options)


def _compel(text: str) -> Any:
    try:
        import compel.embeddings_provider
        import compel.prompt_parser
    except ImportError as error:
        raise ModelError(
            f"The text {text!r:.80} weighs words, but compel is not installed where the model runs: "
            "pip install 'krita-diffedit[weighting]'. Or put a backslash before the brackets: then they are letters.",
            detail=str(error),
        ) from error
    return compel


def _unreadable(text: str) -> BadInputError:
    return BadInputError(
        f"The weights in {text!r:.200} cannot be read. Write words in brackets and a number with a point behind them, "
        "as in: a (zebra)1.3 on grass."
    )
