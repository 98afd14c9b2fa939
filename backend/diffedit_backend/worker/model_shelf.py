"""The models that a worker keeps in memory, so that going back to one costs nothing. Least recently used goes first."""

from __future__ import annotations

import gc
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from ..diffedit.cache import ContentCache
from ..diffedit.engine import DiffEditEngine
from ..models.loaded import LoadedModel

log = logging.getLogger(__name__)
# Of the free memory, what models may take: an edit needs working memory, and on a CPU other programs run as well.
_SHARE_OF_FREE = 0.7


class Guest(Protocol):
    """What is kept beside the models, and goes before any of them."""

    @property
    def nbytes(self) -> int: ...

    def give_up(self) -> None: ...


class Guests:
    """Several guests as one."""

    def __init__(self, *guests: Guest) -> None:
        self._guests = guests

    @property
    def nbytes(self) -> int:
        return sum(guest.nbytes for guest in self._guests)

    def give_up(self) -> None:
        for guest in self._guests:
            guest.give_up()


class ModelShelf:
    """Engines by their model's name, all with one cache, whose keys tell models apart.

    load: from a name to the model. expected: bytes that a model will take, 0 where unknown. free: bytes that are free
    where models are kept. give_back: hands memory that nobody uses any more to the system. limit: bytes of weights that
    are kept at most, None for what the free memory allows. The model in use always stays, however large. guest: counts
    as the models do.
    """

    def __init__(
        self,
        load: Callable[[str], LoadedModel],
        expected: Callable[[str], int],
        free: Callable[[], int],
        give_back: Callable[[], None],
        cache_bytes: int,
        limit: int | None = None,
        guest: Guest | None = None,
    ) -> None:
        self._load = load
        self._expected = expected
        self._free = free
        self._give_back = give_back
        self._limit = limit
        self._guest = guest
        self._engines: OrderedDict[str, DiffEditEngine] = OrderedDict()
        self.cache = ContentCache(cache_bytes)

    def __contains__(self, name: str) -> bool:
        return name in self._engines

    @property
    def names(self) -> tuple[str, ...]:
        """The models that are in memory, the one that was used last at the end."""
        return tuple(self._engines)

    @property
    def nbytes(self) -> int:
        """Memory of the weights that are kept, the guest's included."""
        kept = self._guest.nbytes if self._guest is not None else 0
        return kept + sum(engine.model.nbytes for engine in self._engines.values())

    def take(self, name: str) -> DiffEditEngine:
        """The engine of a model, loaded unless it is there. Raises ModelError when it cannot be loaded."""
        if name not in self._engines:
            self._make_room(self._expected(name))
            engine = DiffEditEngine(self._load(name))
            engine.cache = self.cache
            self._engines[name] = engine
        self._engines.move_to_end(name)
        if self._is_over():
            self._drop_guest()
        self.make_room_for_guest()
        return self._engines[name]

    def make_room_for_guest(self) -> None:
        """Drop models, but not the last one, while guest and models are over the limit together."""
        while len(self._engines) > 1 and self._is_over():
            self._drop_oldest()

    def keep_only_newest(self) -> None:
        """Give up the guest, every model but the one in use, and all that was cached: an edit needs the memory."""
        self._drop_guest()
        while len(self._engines) > 1:
            self._drop_oldest()
        self.cache.clear()
        gc.collect()
        self._give_back()

    def _is_over(self) -> bool:
        return self._limit is not None and self.nbytes > self._limit

    def _make_room(self, wanted: int) -> None:
        if not self._fits(wanted):
            self._drop_guest()
        while self._engines and not self._fits(wanted):
            self._drop_oldest()

    def _fits(self, wanted: int) -> bool:
        within_limit = self._limit is None or self.nbytes + wanted <= self._limit
        return within_limit and wanted <= _SHARE_OF_FREE * self._free()

    def _drop_guest(self) -> None:
        if self._guest is not None and self._guest.nbytes:
            self._guest.give_up()
            gc.collect()
            self._give_back()

    def _drop_oldest(self) -> None:
        name, engine = self._engines.popitem(last=False)
        log.info("model dropped", extra={"fields": {"model": name, "bytes": engine.model.nbytes}})
        del engine
        gc.collect()  # networks hold themselves in circles
        self._give_back()
