"""What `diffedit suggest` and `diffedit edit --suggest` share: texts with the wordings that a language model adds."""

from __future__ import annotations

from collections.abc import Sequence

from diffedit_protocol.messages import MAX_PROMPT_CHARACTERS

from ...method.wordings import joined, wordings
from ...models.catalogue.folders import kept_suggester
from ...models.catalogue.word_models import DEFAULT_SUGGESTER
from ...models.suggesting import check_suggestions, load_suggester


def suggested_texts(texts: Sequence[str], count: int, name: str | None, seed: int, device: str | None) -> list[str]:
    """Each text with up to `count` further wordings of its first, as many as a request has room for.

    name: a folder or hub id; None takes the model in the data folder, else the default's. Raises ModelError,
    BadInputError.
    """
    for text in texts:
        check_suggestions(text, count)
    suggester = load_suggester(name or kept_suggester() or DEFAULT_SUGGESTER, device)
    return [
        joined([*wordings(text), *suggester.suggest(wordings(text)[0], count, seed)], MAX_PROMPT_CHARACTERS)
        for text in texts
    ]
