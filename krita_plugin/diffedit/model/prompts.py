"""What was written before, and saved presets: lists that live as long as the settings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from diffedit_protocol.messages import MAX_PROMPT_CHARACTERS

from .inputs import EditInputs
from .settings import Store
from .texts import one_line

MOST_PROMPTS = 50
MOST_SUGGESTIONS = 6  # asked for; equal ones are shown once
BETWEEN = " | "  # wordings of one text, whose meanings are averaged
PROMPTS, PRESETS = "prompts", "presets"


@dataclass(frozen=True)
class Suggestions:
    """Words to choose from for the text `field` of the inputs. `averaged`: they are wordings of `own`, so they can be
    taken together."""

    field: str
    texts: tuple[str, ...]
    own: str = ""
    averaged: bool = False

    @property
    def together(self) -> str:
        """The artist's own words and as many of the suggested ones as a text has room for."""
        text = self.own
        for wording in self.texts:
            longer = f"{text}{BETWEEN}{wording}"
            if len(longer) <= MAX_PROMPT_CHARACTERS:
                text = longer
        return text


def earlier(store: Store, kind: str) -> list[str]:
    """Texts of `kind` ("source", "target", "negative"), the newest first."""
    return list(store.get(PROMPTS, {}).get(kind, []))


def remember(store: Store, inputs: EditInputs) -> None:
    """Puts the texts of an edit in front of the earlier ones."""
    prompts = dict(store.get(PROMPTS, {}))
    for kind in ("source", "target", "negative"):
        text = getattr(inputs, kind).strip()
        if text:
            others = [other for other in prompts.get(kind, []) if other != text]
            prompts[kind] = [text, *others][:MOST_PROMPTS]
    store.put(PROMPTS, prompts)


def preset_names(store: Store) -> list[str]:
    return sorted(store.get(PRESETS, {}), key=str.casefold)


def save_preset(store: Store, name: str, inputs: EditInputs) -> None:
    """Keeps the inputs under `name`; the seed only if it is locked, as it is chance otherwise."""
    values = inputs.as_map()
    if not inputs.seed_locked:
        del values["seed"]
    store.put(PRESETS, {**store.get(PRESETS, {}), one_line(name): values})


def delete_preset(store: Store, name: str) -> None:
    store.put(PRESETS, {key: value for key, value in store.get(PRESETS, {}).items() if key != name})


def apply_preset(store: Store, name: str, inputs: EditInputs) -> EditInputs:
    """The inputs with everything that the preset keeps. KeyError when there is no such preset."""
    return EditInputs.from_map({**dataclasses.asdict(inputs), **store.get(PRESETS, {})[name]})
