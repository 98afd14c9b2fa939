"""`diffedit.json` beside a model: what its maker or its user knows and its own settings lack or have wrong."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from diffedit_protocol.errors import ModelError

FACTS_FILE = "diffedit.json"
_PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow")


@dataclass(frozen=True)
class ModelFacts:
    """Every entry is optional.

    prediction_type: "epsilon", "v_prediction", "sample" or "flow". size: px that it was made for.
    guidance: weight of the words that suits it.
    few_steps: steps that a distilled model (LCM, Turbo, Lightning, Hyper) was made for; 0: it is none.
    steps: of the default method at normal quality, where it was measured how many suffice.
    clip_skip: the text encoder's layer that is read, counted from its end: 1 is the last.
    zero_terminal_snr: whether its noise schedule ends in pure noise.
    vae: another autoencoder, a folder or a .safetensors file.
    """

    prediction_type: str | None = None
    size: int | None = None
    guidance: float | None = None
    few_steps: int | None = None
    steps: int | None = None
    clip_skip: int | None = None
    zero_terminal_snr: bool | None = None
    vae: str | None = None


def facts_file(place: Path) -> Path:
    """Where the facts of the model at `place` lie: in its folder, or for a single file in the folder of its name."""
    return (place.with_suffix("") if place.is_file() else place) / FACTS_FILE


def facts_of(place: Path) -> ModelFacts:
    """The facts of the model at `place`, none where there is no such file.

    Raises ModelError, which names the entry and its value, for a file that cannot be read or says something impossible.
    """
    file = facts_file(place)
    if not file.is_file():
        return ModelFacts()
    values = read_json(file)
    known = [field.name for field in fields(ModelFacts)]
    for name, value in values.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            advice = f"Did you mean {close[0]!r}?" if close else f"It may hold: {', '.join(known)}."
            raise ModelError(f"{file} has an entry {name!r}, which is not known. {advice}")
        if wanted := _wanted(name, value):
            raise ModelError(f"{file} says that {name!r} is {value!r}; it must be {wanted}.")
    return ModelFacts(**values)


def _wanted(name: str, value: Any) -> str:
    """What an entry must be, "" where it is that."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    whole = isinstance(value, int) and not isinstance(value, bool)
    rules: dict[str, tuple[bool, str]] = {
        "prediction_type": (value in _PREDICTIONS, f"one of {', '.join(_PREDICTIONS)}"),
        "size": (whole and value > 0, "a number of px such as 512"),
        "guidance": (number and 0 < value <= 100, "a number above 0 and up to 100"),
        "few_steps": (whole and 0 <= value <= 50, "a whole number from 0 (not distilled) to 50"),
        "steps": (whole and 4 <= value <= 100, "a whole number from 4 to 100"),
        "clip_skip": (whole and 1 <= value <= 12, "a whole number from 1 (the last layer) to 12"),
        "zero_terminal_snr": (isinstance(value, bool), "true or false"),
        "vae": (isinstance(value, str) and value != "", "a folder or a .safetensors file"),
    }
    right, wanted = rules[name]
    return "" if right else wanted


def read_json(file: Path, *, mark: bool = True) -> dict[str, Any]:
    """The object in a JSON file in UTF-8; `mark`: with or without a byte order mark.

    Raises ModelError, which says where it is damaged.
    """
    try:
        text = file.read_text(encoding="utf-8-sig" if mark else "utf-8")
        if text.startswith("\ufeff"):
            raise ModelError(f"{file} begins with a byte order mark. Save it as UTF-8 without one.")
        values = json.loads(text)
    except FileNotFoundError as error:
        raise ModelError(f"{file} is missing. Download the model again.", detail=str(error)) from error
    except json.JSONDecodeError as error:
        raise ModelError(
            f"{file} is damaged: {error.msg} in line {error.lineno}, column {error.colno}.", detail=str(error)
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{file} cannot be read: {error}.", detail=repr(error)) from error
    if not isinstance(values, dict):
        raise ModelError(f"{file} is damaged: it holds a {type(values).__name__}, not an object in braces.")
    return values
