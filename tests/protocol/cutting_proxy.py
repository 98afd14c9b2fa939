"""A TCP forwarder on loopback that can be cut: what is connected breaks, and all that is new, until it is mended."""

from __future__ import annotations

import contextlib
import select
import socket
import threading


class CuttingProxy:
    """Listens on `port` and forwards to `target`; counts the bytes that went to the target."""

    def __init__(self, target: int) -> None:
        self.to_target = 0
        self.to_client = 0
        self._target = target
        self._stop = threading.Event()
        self._links: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._listener.listen()
        self._open = True
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Break what is connected and break every new connection at once."""
        with self._lock:
            self._open = False
            for link in self._links:
                with contextlib.suppress(OSError):
                    link.shutdown(socket.SHUT_RDWR)
                link.close()
            self._links.clear()

    def mend(self) -> None:
        self._open = True

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            if not select.select([self._listener], [], [], 0.02)[0]:
                continue
            client, _ = self._listener.accept()
            if not self._open:
                client.close()
                continue
            target = socket.create_connection(("127.0.0.1", self._target))
            with self._lock:
                self._links += [client, target]
            threading.Thread(target=self._forward, args=(client, target, True), daemon=True).start()
            threading.Thread(target=self._forward, args=(target, client, False), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
                if up:
                    self.to_target += len(data)
                else:
                    self.to_client += len(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
