"""What was computed once and may be asked for again, by content, within a budget of bytes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol, TypeVar, cast


class Sized(Protocol):
    """Anything that tells its size; a tensor, an array, a TextCondition."""

    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=Sized)


class ContentCache:
    """Least recently used goes first. Keys must hold everything that the value depends on."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._entries: OrderedDict[tuple[object, ...], Sized] = OrderedDict()

    def get(self, key: tuple[object, ...], compute: Callable[[], T]) -> T:
        """The value of `key`, computed at its first use. A value larger than the whole budget is not kept."""
        if key in self._entries:
            self._entries.move_to_end(key)
            return cast(T, self._entries[key])
        value = compute()
        if value.nbytes <= self.max_bytes:
            self._entries[key] = value
            self.used_bytes += value.nbytes
            while self.used_bytes > self.max_bytes:
                _, evicted = self._entries.popitem(last=False)
                self.used_bytes -= evicted.nbytes
        return value

    def __contains__(self, key: tuple[object, ...]) -> bool:
        return key in self._entries

    def clear(self) -> None:
        """Forget everything, for instance to make room on the device."""
        self._entries.clear()
        self.used_bytes = 0


def digest(*parts: bytes | memoryview) -> str:
    """A short name for contents. BLAKE2b is quick, and a picture is hashed at every edit."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(part)
    return state.hexdigest()
