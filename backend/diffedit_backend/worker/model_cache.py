"""The models that a worker keeps in memory, so that going back to one costs nothing. Least recently used goes first."""

from __future__ import annotations

import gc
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..method.cache import ContentCache
from ..method.engine import DiffEditEngine
from ..method.memory import Footprint
from ..method.model import LoadedModel

log = logging.getLogger(__name__)
# Of the free memory, what models may take: an edit needs working memory, and on a CPU other programs run as well.
_SHARE_OF_FREE = 0.7


class Auxiliary(Protocol):
    """What is kept beside the models, and goes before any of them."""

    @property
    def nbytes(self) -> int: ...

    def give_up(self) -> None: ...


class AuxiliaryModels:
    """Several of them as one."""

    def __init__(self, *models: Auxiliary) -> None:
        self._models = models

    @property
    def nbytes(self) -> int:
        return sum(model.nbytes for model in self._models)

    def give_up(self) -> None:
        for model in self._models:
            model.give_up()


@dataclass(frozen=True)
class ModelSource:
    """`load`: from a name to the model. `expected`: what a model will take, 0 where unknown."""

    load: Callable[[str], LoadedModel]
    expected: Callable[[str], Footprint]


@dataclass(frozen=True)
class MemoryProbe:
    """`on_device`, `in_machine`: bytes that are free on the device, and in the machine, where offloaded models wait.
    `give_back` hands memory that nobody uses any more to the system."""

    on_device: Callable[[], int]
    in_machine: Callable[[], int]
    give_back: Callable[[], None]


class ModelCache:
    """Engines by their model's name, all with one cache, whose keys tell models apart.

    limit: bytes of the device that weights take at most, None for what its free
    memory allows; what waits in the machine's memory does not count in it. The model in use always stays, however
    large. auxiliary: counts as the models do.
    """

    def __init__(
        self,
        source: ModelSource,
        memory: MemoryProbe,
        cache_bytes: int,
        limit: int | None = None,
        auxiliary: Auxiliary | None = None,
    ) -> None:
        self._source = source
        self._memory = memory
        self._limit = limit
        self._auxiliary = auxiliary
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
        """Memory of the device that the weights take at most at one time, the auxiliary models' included."""
        kept = self._auxiliary.nbytes if self._auxiliary is not None else 0
        return kept + sum(engine.model.footprint.on_device for engine in self._engines.values())

    @property
    def waiting_nbytes(self) -> int:
        """The machine's memory that offloaded models take."""
        return sum(engine.model.footprint.waiting for engine in self._engines.values())

    def take(self, name: str) -> DiffEditEngine:
        """The engine of a model, loaded unless it is there. Raises ModelError when it cannot be loaded."""
        if name not in self._engines:
            self._make_room(self._source.expected(name))
            engine = DiffEditEngine(self._source.load(name))
            engine.cache = self.cache
            self._engines[name] = engine
        self._engines.move_to_end(name)
        if self._is_over():
            self._drop_auxiliary()
        self.make_space_for_auxiliary()
        return self._engines[name]

    def make_space_for_auxiliary(self) -> None:
        """Drop models, but not the last one, while they and the auxiliary models are over the limit together."""
        while len(self._engines) > 1 and self._is_over():
            self._drop_oldest()

    def keep_only_newest(self) -> None:
        """Give up every model but the one in use, and all that was cached: an edit needs the memory."""
        self._drop_auxiliary()
        while len(self._engines) > 1:
            self._drop_oldest()
        self.cache.clear()
        gc.collect()
        self._memory.give_back()

    def _is_over(self) -> bool:
        return self._limit is not None and self.nbytes > self._limit

    def _make_room(self, wanted: Footprint) -> None:
        if not self._fits(wanted.on_device):
            self._drop_auxiliary()
        while self._engines and not self._fits(wanted.on_device):
            self._drop_oldest()
        while self.waiting_nbytes and wanted.waiting > _SHARE_OF_FREE * self._memory.in_machine():
            self._drop(next(name for name, engine in self._engines.items() if engine.model.footprint.waiting))

    def _fits(self, wanted: int) -> bool:
        within_limit = self._limit is None or self.nbytes + wanted <= self._limit
        return within_limit and wanted <= _SHARE_OF_FREE * self._memory.on_device()

    def _drop_auxiliary(self) -> None:
        if self._auxiliary is not None and self._auxiliary.nbytes:
            self._auxiliary.give_up()
            gc.collect()
            self._memory.give_back()

    def _drop_oldest(self) -> None:
        self._drop(next(iter(self._engines)))

    def _drop(self, name: str) -> None:
        taken = self._engines.pop(name).model.footprint
        log.info("model dropped", extra={"fields": {"model": name, "bytes": taken.on_device, "waiting": taken.waiting}})
        gc.collect()  # networks hold themselves in circles
        self._memory.give_back()
