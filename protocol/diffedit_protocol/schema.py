"""Frozen dataclasses to and from the maps that msgpack carries, checked field by field against their annotations.

A field may be annotated `int`, `float`, `str`, `bool`, another dataclass, `X | None`, `tuple[X, ...]`, `tuple[X, Y]`,
`dict[str, X]`, or `Any` (passed through). A `Literal` of texts is taken as any text: a newer peer may know further
words, and which are refused is for the dataclass to say. A field whose metadata are PAYLOAD is no part of the map: its
bytes travel as the message's second frame.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from .errors import SchemaError

T = TypeVar("T")
_short = reprlib.Repr()
_short.maxlevel, _short.maxlist, _short.maxdict, _short.maxstring, _short.maxother = 2, 4, 4, 60, 60
_shown = _short.repr  # a refused value in an error's sentence: bounded in length and in depth


PLAIN = (int, str, bool)
PAYLOAD = {"payload": True}  # metadata of the dataclass field that travels as the message's second frame


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a dataclass lies in a message: the types of its header's fields, those required, its payload field.

    `plain`: the type of each field that is a number, a text or a truth value, as most fields of a chunk's message are.
    """

    hints: dict[str, Any]
    plain: dict[str, type]
    required: tuple[str, ...]
    payload: str | None


_LAYOUTS: dict[type[Any], Layout] = {}


def layout(cls: type[Any]) -> Layout:
    """The layout of the dataclass `cls`, resolved once."""
    known = _LAYOUTS.get(cls)
    if known is None:
        resolved = typing.get_type_hints(cls)
        fields = dataclasses.fields(cls)
        header = [f for f in fields if not f.metadata.get("payload")]
        hints = {f.name: _carried(resolved[f.name]) for f in header}
        _LAYOUTS[cls] = Layout(
            hints,
            {name: hint for name, hint in hints.items() if hint in PLAIN},
            tuple(
                f.name for f in header if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
            ),
            next((f.name for f in fields if f.metadata.get("payload")), None),
        )
    return known or _LAYOUTS[cls]


def _carried(hint: Any) -> Any:
    return str if typing.get_origin(hint) is typing.Literal else hint


def to_map(value: Any) -> Any:
    """`value` as msgpack types: dataclasses become maps, tuples become lists; payload fields are left out."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if type(value) in _LAYOUTS or dataclasses.is_dataclass(type(value)):
        known = layout(type(value))
        return {
            name: getattr(value, name) if name in known.plain else to_map(getattr(value, name)) for name in known.hints
        }
    if isinstance(value, (tuple, list)):
        return [to_map(entry) for entry in value]
    if isinstance(value, dict):
        return {key: to_map(entry) for key, entry in value.items()}
    return value


def from_map(cls: type[T], fields: Any, *, lenient: bool = False, payload: Any = None) -> T:
    """The dataclass that `fields` describes; `payload`, where there is one, becomes its payload field.

    Raises SchemaError with the field's name and value when one is missing, ill-typed or, unless `lenient`, unknown.
    """
    if not isinstance(fields, Mapping):
        raise SchemaError(f"{cls.__name__} must be a map, not {type(fields).__name__}.")
    known = layout(cls)
    values = {}
    for name, value in fields.items():
        if type(value) is known.plain.get(name):
            values[name] = value
        elif name in known.hints:
            values[name] = _convert(f"{cls.__name__}.{name}", known.hints[name], value, lenient)
        elif not lenient:
            raise SchemaError(f"{cls.__name__} has no field {_shown(name)}.")
    if payload is not None and known.payload is not None:
        values[known.payload] = payload
    for name in known.required:
        if name not in values:
            raise SchemaError(f"{cls.__name__} lacks the field {name!r}.")
    return cls(**values)


def _convert(where: str, hint: Any, value: Any, lenient: bool) -> Any:
    """`value` as the type `hint`; `where` names the field in the error."""
    if hint in PLAIN and type(value) is hint:
        return value
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _convert(where, next(arg for arg in inner if arg is not type(None)), value, lenient)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_map(hint, value, lenient=lenient)
    if origin is tuple and isinstance(value, (list, tuple)):
        if inner[-1] is Ellipsis:
            return tuple(_convert(where, inner[0], entry, lenient) for entry in value)
        if len(inner) == len(value):
            return tuple(_convert(where, kind, entry, lenient) for kind, entry in zip(inner, value, strict=True))
    if origin is dict and isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _convert(f"{where}[{_shown(key)}]", inner[1], entry, lenient) for key, entry in value.items()}
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    raise SchemaError(f"{where} must be {_name(hint)}, not {_shown(value)}.")


def _name(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint)) if typing.get_origin(hint) is None else str(hint)
