"""What the artist has asked for: the words and the sliders, as one value."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from diffedit_protocol.errors import SchemaError
from diffedit_protocol.messages import MAX_PROMPT_CHARACTERS, SEGMENTS, Adapter, EditRequest, Quality, Segment, Task
from diffedit_protocol.replies import OPTIONAL_FIELDS

from ..translation import tr
from .texts import one_line

MAX_SEED = 2**32 - 1
# px: a larger picture is worked on at about this size, or that of a smaller model, and its mask is as coarse as that.
MODEL_SIDE = 512
AUTOMATIC_GROW, AUTOMATIC_FEATHER = 4, 3  # px at that size: half and three eighths of a latent cell


def automatic_px(px: int, side: int, model_side: int = MODEL_SIDE) -> int:
    """What is `px` at the model's size, `model_side`, in a picture whose larger side is `side` px."""
    return round(px * max(1.0, side / model_side))


@dataclass(frozen=True)
class EditInputs:
    """One state of the docker's controls.

    `threshold` in (0, 1), None for the automatic one. `grow` (may be negative) and `feather` in px of the picture,
    None for what fits its size.
    `strength` in (0, 1]. The seed of variation i is `seed + i`; unless `seed_locked`, every edit takes a new one.
    `detail`: an edit larger than the model's pictures is drawn at the layer's own resolution. `matting`: the edge of
    its mask follows hair and fur. `blend`: the edit's colours are joined to what surrounds it.
    `segment`: how a segmenter takes part in the search, "multiply", "replace" or "" for not at all.
    `adapters`: LoRAs and textual inversions of the backend, by name with their weights.
    """

    source: str = ""
    target: str = ""
    negative: str = ""
    threshold: float | None = None
    grow: int | None = None
    feather: int | None = None
    strength: float = 0.8
    quality: Quality = "normal"
    seed: int = 0
    seed_locked: bool = False
    variations: int = 1
    detail: bool = False
    matting: bool = False
    blend: bool = True
    segment: Segment = ""
    adapters: tuple[Adapter, ...] = ()

    def __post_init__(self) -> None:
        for name in ("source", "target", "negative"):
            object.__setattr__(self, name, one_line(getattr(self, name)))

    def grow_px(self, side: int, model_side: int = MODEL_SIDE, *, ground: bool = False) -> int:
        """`grow` for a picture whose larger side is `side` px, and a model of `model_side` px. The automatic one of a
        ground is 0: it would cover the edges of the things that stand on it."""
        if self.grow is not None:
            return self.grow
        return 0 if ground else automatic_px(AUTOMATIC_GROW, side, model_side)

    def feather_px(self, side: int, model_side: int = MODEL_SIDE) -> int:
        """`feather` for a picture whose larger side is `side` px, and a model of `model_side` px."""
        return automatic_px(AUTOMATIC_FEATHER, side, model_side) if self.feather is None else self.feather

    def swapped(self) -> EditInputs:
        """The other direction: what should be there is there, and the other way round."""
        return dataclasses.replace(self, source=self.target, target=self.source)

    def with_new_seed(self) -> EditInputs:
        return dataclasses.replace(self, seed=secrets.randbelow(MAX_SEED - 64))

    def within(self, capabilities: Collection[str]) -> EditInputs:
        """Without what a backend that told of these capabilities cannot do."""
        return self.without([name for name in OPTIONAL_FIELDS if name not in capabilities])

    def without(self, names: Collection[str]) -> EditInputs:
        """With the switches of these names, of `OPTIONAL_FIELDS`, off."""
        off: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(self) if field.name in names}
        return dataclasses.replace(self, **off)

    def complaint(self) -> str:
        """What keeps these words from being worked with, as a sentence; empty when nothing does."""
        source, target = self.source.strip(), self.target.strip()
        if not source:
            return tr("Write what is in the picture now, for example “a horse”.")
        if not target:
            return tr("Write what to change it to, for example “a zebra”.")
        if source.casefold() == target.casefold():
            return tr("Both texts are the same, so there is nothing to change.")
        if max(len(source), len(target), len(self.negative)) > MAX_PROMPT_CHARACTERS:
            return tr("A text is longer than {limit} characters. Shorten it.", limit=MAX_PROMPT_CHARACTERS)
        return ""

    def request(
        self, task: Task, *, side: int, model_side: int = MODEL_SIDE, model: str = "", preview: bool = True
    ) -> EditRequest:
        """The request without pixels, for a picture whose larger side is `side` px, and a model of `model_side` px."""
        return EditRequest(
            source=self.source.strip(),
            target=self.target.strip(),
            negative=self.negative.strip(),
            task=task,
            threshold=self.threshold,
            grow=self.grow_px(side, model_side),
            automatic_grow=self.grow is None and task in ("mask", "edit"),
            feather=self.feather_px(side, model_side),
            strength=self.strength,
            quality=self.quality,
            seed=self.seed,
            variations=self.variations if task == "edit" else 1,
            detail=self.detail and task == "edit",
            matting=self.matting and task == "edit",  # a mask that is shown is made from its soft map, here
            blend=None if self.blend else False,  # None: as the method does by itself, which an older backend does too
            segment=self.segment if task in ("mask", "edit") else "",
            model=model,
            adapters=self.adapters if task != "describe" else (),
            preview=preview,
        )

    def as_map(self) -> dict[str, Any]:
        """For JSON; `from_map` reads it back. The history is limited in size, so a switch of few backends stands there
        only where it is on."""
        values = dataclasses.asdict(self)
        if not self.segment:
            del values["segment"]
        return values

    @classmethod
    def from_map(cls, values: dict[str, Any]) -> EditInputs:
        """The inputs of `as_map`, also of another version: unknown names are left out. TypeError if it is no map."""
        known = {field.name for field in dataclasses.fields(cls)}
        kept = {name: value for name, value in dict(values).items() if name in known}
        if kept.get("segment") not in SEGMENTS:
            kept.pop("segment", None)
        try:
            adapters = tuple(Adapter(str(entry["name"]), float(entry["weight"])) for entry in kept.pop("adapters", ()))
        except (SchemaError, KeyError, ValueError) as error:
            raise TypeError(f"adapters are names with weights: {error}") from error
        return cls(**kept, adapters=adapters)


def describe(source: str, target: str, seed: int | None = None) -> str:
    """How an edit is named in lists: "a horse → a zebra (41)"."""
    words = f"{source.strip()} → {target.strip()}"
    return words if seed is None else f"{words} ({seed})"
