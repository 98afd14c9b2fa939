"""sha256 of bytes while they still come in, by a thread of its own: hashlib lets other threads run meanwhile.

The one who receives touches memory for the first time when it writes there, which costs as much as the hash (1.5 to
2 µs for a page of 4 KiB in a virtual machine); with two threads a blob takes the longer of both and not their sum.
"""

from __future__ import annotations

import hashlib
import queue
import threading

AT_ONCE_BYTES = 128 * 1024  # hashed in less time than a thread takes to start
IDLE_SECONDS = 1.0  # without bytes, after which the thread ends: a download that is given up leaves none behind


class BackgroundHash:
    """`update` returns at once; the bytes must stay as they are until `hexdigest`, which waits for the thread."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._waiting: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """How many updates the thread has not come to."""
        return self._waiting.qsize()

    def update(self, data: memoryview) -> None:
        """Hash `data` next."""
        if self.thread is None and len(data) < AT_ONCE_BYTES:
            self._hash.update(data)
            return
        self._waiting.put(data)
        if self.thread is None or not self.thread.is_alive():
            self.thread = threading.Thread(target=self._work, name="sha256", daemon=True)
            self.thread.start()

    def hexdigest(self) -> str:
        """The hash of everything so far. Afterwards nothing can be added."""
        self._waiting.put(None)
        if self.thread is not None:
            self.thread.join()
        while not self._waiting.empty():  # the thread had just ended, having waited for long
            self._take(self._waiting.get())
        return self._hash.hexdigest()

    def _work(self) -> None:
        try:
            while self._take(self._waiting.get(timeout=IDLE_SECONDS)):
                pass
        except queue.Empty:
            return

    def _take(self, data: memoryview | None) -> bool:
        """Whether there was something to hash, not the end."""
        if data is not None:
            self._hash.update(data)
        return data is not None
