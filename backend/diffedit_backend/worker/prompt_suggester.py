"""Suggests wordings of a text, by a language model that is loaded when it is first asked."""

from __future__ import annotations

from pathlib import Path

from diffedit_protocol.errors import ModelError
from diffedit_protocol.messages import Bounds, EditRequest, Manifest, Progress

from ..models.suggesting import Suggester, check_suggestions, load_suggester
from .loop import Finished, ReportStep


class PromptSuggester:
    """`name`: folder or hub id of the language model, None for a backend without one."""

    def __init__(self, name: str | None, device: str | None) -> None:
        self._name = name
        self._device = device
        self._suggester: Suggester | None = None

    @property
    def nbytes(self) -> int:
        """Memory of the weights, 0 while they are not loaded."""
        return self._suggester.nbytes if self._suggester is not None else 0

    def give_up(self) -> None:
        """Let go of the weights; they are loaded again when words are wanted next."""
        self._suggester = None

    def run(self, request: EditRequest, report: ReportStep) -> Finished:
        """Different wordings of the request's source, at most as many as it wants variations; its own is none of them.

        Raises ModelError, BadInputError for an empty text.
        """
        if self._name is None:
            raise ModelError("This worker has no language model. Start the backend with --suggester.")
        text = request.source.strip()
        check_suggestions(text, request.variations)
        if self._suggester is None:
            report(Progress("loading", 0, 1))
            self._suggester = load_suggester(self._name, self._device)
        report(Progress("encoding", 0, 1))
        drawn = self._suggester.suggest(text, request.variations, request.seed)
        words = tuple(dict.fromkeys(wording for wording in drawn if wording and wording.casefold() != text.casefold()))
        report(Progress("encoding", 1, 1))
        name = Path(self._name).name
        return Finished(Manifest(None, Bounds(0, 0, 0, 0), 0.5, model=name, words=words), {})
