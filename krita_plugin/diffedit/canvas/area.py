"""A rectangle of the image, and how it is cut into strips that one turn of the event loop can carry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Area:
    """Left, top, width and height in px of the image; the canvas' top left is (0, 0), beyond it is negative."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def bottom(self) -> int:
        return self.y + self.height

    @property
    def empty(self) -> bool:
        return self.width <= 0 or self.height <= 0

    @property
    def pixels(self) -> int:
        """How many there are."""
        return self.width * self.height

    def __and__(self, other: Area) -> Area:
        """What both cover; empty with width and height 0."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        width, height = min(self.right, other.right) - x, min(self.bottom, other.bottom) - y
        return Area(x, y, width, height) if width > 0 and height > 0 else Area(x, y, 0, 0)

    def grown(self, px: int) -> Area:
        """With a margin of `px` on every side."""
        return Area(self.x - px, self.y - px, self.width + 2 * px, self.height + 2 * px)

    def moved(self, dx: int, dy: int) -> Area:
        return Area(self.x + dx, self.y + dy, self.width, self.height)

    def strips(self, pixels: int) -> Iterator[Area]:
        """This area from top to bottom in strips of full width and about `pixels` px each."""
        rows = max(1, pixels // max(1, self.width))
        for y in range(self.y, self.bottom, rows):
            yield Area(self.x, y, self.width, min(rows, self.bottom - y))
