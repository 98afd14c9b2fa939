"""How fast a link is, as far as it was seen, and what follows: chunk size, chunks in flight, encoding.

Chunks bound how long a cancel waits behind pixels: with a fifth of a second in flight it takes effect at once to a
person, while a fast link still has enough to do. Loopback takes everything raw: any encoding costs more than it saves.
"""

from __future__ import annotations

from .encodings import ChunkEncoding, PreviewEncoding
from .replies import KIB, MIB, Limits

SMALLEST_CHUNK = 256 * KIB
LARGEST_CHUNK = MIB
LOOPBACK_WINDOW = 8
PARTS = 4  # of a blob on loopback, so that the one end hashes what it has while the other still sends
SMALLEST_WINDOW = 2  # one chunk on the wire while the other is being answered
IN_FLIGHT_SECONDS = 0.2
CHUNK_SECONDS = 0.1
RAW_FROM = 12_500_000  # bytes per second (100 Mbit/s): above it packing takes longer than sending
NEAR_SECONDS = 0.005  # a round trip under this is a local network, taken to be fast until it was measured
WEIGHT = 0.3  # of a new measurement in the running mean


class LinkSpeed:
    """Round trip and throughput of one link. `loopback`: the other side is on this machine."""

    def __init__(self, loopback: bool) -> None:
        self.loopback = loopback
        self.round_trip: float | None = None
        self.bytes_per_second: float | None = None

    def saw_round_trip(self, seconds: float) -> None:
        """A small request was answered after `seconds`; the shortest is kept, since others waited behind something."""
        self.round_trip = seconds if self.round_trip is None else min(self.round_trip, seconds)

    def saw_transfer(self, size: int, seconds: float) -> None:
        """`size` bytes (as they went over the wire) took `seconds`."""
        rate = size / max(seconds, 1e-6)
        known = self.bytes_per_second
        self.bytes_per_second = rate if known is None else known + WEIGHT * (rate - known)

    @property
    def slow(self) -> bool:
        """Whether packing pixels pays."""
        if self.loopback:
            return False
        if self.bytes_per_second is None:
            return self.round_trip is None or self.round_trip > NEAR_SECONDS
        return self.bytes_per_second < RAW_FROM

    def chunk_bytes(self, limits: Limits, blob_bytes: int | None = None) -> int:
        """Bytes of the next chunk, before encoding; `blob_bytes`: of the whole blob, where that is known."""
        if self.loopback:
            wanted = LARGEST_CHUNK if blob_bytes is None else -(-blob_bytes // PARTS)
        else:
            wanted = int((self.bytes_per_second or 0) * CHUNK_SECONDS)
        return min(max(SMALLEST_CHUNK, min(wanted, LARGEST_CHUNK)), limits.chunk_bytes)

    def window(self, limits: Limits) -> int:
        """How many chunks may be in flight."""
        if self.loopback:
            wanted = LOOPBACK_WINDOW
        else:
            wanted = int((self.bytes_per_second or 0) * IN_FLIGHT_SECONDS / self.chunk_bytes(limits))
        return min(max(SMALLEST_WINDOW, wanted), limits.window)

    def encoding(self, channels: int | None) -> ChunkEncoding:
        """How a chunk travels: of pixels with 3 or 4 `channels`, or of data that is packed already (None)."""
        if not self.slow:
            return "raw"
        return "delta3" if channels == 3 else "delta4" if channels == 4 else "raw"

    @property
    def previews(self) -> PreviewEncoding:
        """How previews travel."""
        return "zlib" if self.slow else "raw"


class TransferMeter:
    """Measures one transfer by its answers: bytes that arrived between the first answer and the latest."""

    SHORTEST = 0.02  # seconds: below, the clock and the scheduler are measured instead

    def __init__(self) -> None:
        self._since: float | None = None
        self._size = 0

    def answered(self, speed: LinkSpeed, size: int, now: float) -> None:
        """A chunk that took `size` bytes on the wire was answered at `now`; tells `speed` every now and then."""
        if self._since is None:
            self._since = now
            return
        self._size += size
        if now - self._since >= self.SHORTEST:
            speed.saw_transfer(self._size, now - self._since)
            self._since, self._size = now, 0
