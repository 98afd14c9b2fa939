"""How far a job is, as one fraction and one line of words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diffedit_protocol.messages import Progress, Stage, Task

from ..translation import tr

Phase = Literal["reading", "linking", "sending", "delayed", "waiting", "working", "adding", "cancelling"]
Kind = Literal["mask", "describe", "suggest", "edit", "detailed"]  # of job, by what its stages take
# The share of a job that each stage usually takes. Only the pace of the bar depends on it.
WEIGHTS: dict[Kind, dict[str, float]] = {
    "mask": {"loading": 0.05, "encoding": 0.05, "finding": 0.9},
    "describe": {"loading": 0.3, "encoding": 0.7},
    "suggest": {"loading": 0.3, "encoding": 0.7},
    "edit": {
        "loading": 0.02,
        "encoding": 0.03,
        "finding": 0.23,
        "edges": 0.02,
        "inverting": 0.3,
        "editing": 0.35,
        "decoding": 0.05,
    },
    "detailed": {
        "loading": 0.02,
        "encoding": 0.01,
        "finding": 0.07,
        "edges": 0.02,
        "inverting": 0.08,
        "editing": 0.1,
        "decoding": 0.7,
    },
}
MINUTE = 60.0


@dataclass(frozen=True)
class Activity:
    """What is being done for one document.

    `phase`: "reading" (the layer), "linking" (there is no backend yet), "sending", "delayed" (the backend is full, and
    is asked again in `seconds_left`), "waiting" (in the queue), "working", "adding" (the layer), "cancelling".
    `fraction`: 0 to 1, None while it cannot be told. `own_mask`: the artist's mask is used, nothing is searched.
    `lacking`: the backend has not all of the picture. `waits`: for a tool that is in use. `part`: which one of how many
    in a batch. `more`: how many variations are made beside what is here already.
    """

    task: Task
    phase: Phase
    job: str = ""
    stage: Stage | Literal[""] = ""
    step: int = 0
    total: int = 0
    ahead: int = 0
    seconds_left: float | None = None
    fraction: float | None = None
    lacking: bool = False
    own_mask: bool = False
    waits: bool = False
    part: tuple[int, int] | None = None
    more: int = 0

    @property
    def share(self) -> float | None:
        """`fraction`, of a batch as a whole."""
        if self.part is None:
            return self.fraction
        return (self.part[0] - 1 + (self.fraction or 0.0)) / self.part[1]

    @property
    def title(self) -> str:
        """What is being done: "Editing · inverting 14/20 · 6 s left"."""
        names = {
            "mask": tr("Finding the mask"),
            "edit": tr("Editing"),
            "describe": tr("Describing the layer"),
            "suggest": tr("Suggesting words"),
        }
        name = tr("Using your mask") if self.own_mask else names[self.task]
        if self.more:
            name = tr("{count} more", count=self.more)
        if self.part is not None:
            name = tr("{name} {number} of {total}", name=name, number=self.part[0], total=self.part[1])
        parts = [name, self._detail()]
        if self.seconds_left is not None and self.phase == "working":
            parts.append(time_left(self.seconds_left))
        return " · ".join(part for part in parts if part)

    def _detail(self) -> str:
        if self.waits:
            return tr("waiting: finish or cancel the active tool")
        if self.phase == "waiting":
            return tr("{count} jobs ahead", count=self.ahead) if self.ahead else tr("starting")
        if self.phase == "delayed":
            seconds = max(1, round(self.seconds_left or 0.0))
            return tr("the backend is full, trying again in {seconds} s", seconds=seconds)
        if self.phase == "sending" and self.task != "suggest" and not self.lacking:
            return tr("starting")  # it may have the picture of an edit before
        if self.phase == "working":
            if not self.stage:
                return tr("starting")
            name = tr("writing") if self.task == "suggest" and self.stage == "encoding" else stage_name(self.stage)
            return f"{name} {self.step}/{self.total}" if self.total > 1 else name
        return {
            "reading": tr("reading the layer"),
            "linking": tr("waiting for the backend"),
            "sending": tr("sending the text") if self.task == "suggest" else tr("sending the picture"),
            "adding": tr("adding the layer"),
            "cancelling": tr("cancelling"),
        }[self.phase]


def stage_name(stage: str) -> str:
    names = {
        "loading": tr("loading the model"),
        "encoding": tr("reading the picture"),
        "finding": tr("finding the mask"),
        "edges": tr("refining the edges"),
        "inverting": tr("preparing"),
        "editing": tr("painting"),
        "decoding": tr("finishing the picture"),
    }
    return names.get(stage, stage)


def time_left(seconds: float) -> str:
    if seconds >= MINUTE:
        return tr("{minutes} min left", minutes=round(seconds / MINUTE))
    return tr("{seconds} s left", seconds=max(1, round(seconds)))


def fraction(kind: Kind, progress: Progress) -> float:
    """The share of the whole job that is done, 0 to 1, by the usual weight of its stages."""
    weights = WEIGHTS[kind]
    done = 0.0
    for stage, weight in weights.items():
        if stage == progress.stage:
            return min(1.0, done + weight * progress.step / max(1, progress.total))
        done += weight
    return 0.0
