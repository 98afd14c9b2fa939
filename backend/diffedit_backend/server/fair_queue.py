"""Whose job is next: clients take turns, and each client's own jobs stay in order (round robin over their queues)."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """A queue of queues; the client that was served last is served last."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __iter__(self) -> Iterator[T]:
        """The entries in the order in which they will be served if none is added."""
        queues = [list(queue) for queue in self._queues.values()]
        for turn in range(max(map(len, queues), default=0)):
            for queue in queues:
                if turn < len(queue):
                    yield queue[turn]

    def add(self, client: str, entry: T) -> None:
        self._queues.setdefault(client, deque()).append(entry)

    def next(self) -> T:
        """Take the next entry. Raises IndexError when there is none."""
        if not self._queues:
            raise IndexError("No one waits.")
        client, queue = self._queues.popitem(last=False)
        entry = queue.popleft()
        if queue:
            self._queues[client] = queue
        return entry

    def take(self, client: str, entry: T) -> None:
        """Serve this entry now, though others may be before it; its client is then served last."""
        self.remove(client, entry)
        if client in self._queues:
            self._queues.move_to_end(client)

    def put_back(self, client: str, entry: T) -> None:
        """An entry that was taken was not served after all: it and its client are next."""
        self._queues.setdefault(client, deque()).appendleft(entry)
        self._queues.move_to_end(client, last=False)

    def remove(self, client: str, entry: T) -> None:
        """Take an entry out of turn. Raises ValueError when it does not wait."""
        queue = self._queues.get(client, deque())
        queue.remove(entry)
        if not queue:
            del self._queues[client]
