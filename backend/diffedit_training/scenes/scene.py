"""What a scene is made of, as numbers: a ground and the things on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thing:
    """One object. `x`, `y`: its centre, `scale`: its longer side, all as shares of the picture's side.

    drawing: which of the drawings of this thing, where an edition has several.
    """

    name: str
    x: float
    y: float
    scale: float
    colour: str | None = None
    degrees: int = 0
    mirrored: bool = False
    drawing: int = 0

    def box(self, size: int, margin: float = 1.1) -> tuple[int, int, int, int]:
        """The square around the thing in px (left, top, right, bottom), `margin` times its scale."""
        half = self.scale * size * margin / 2
        x, y = self.x * size, self.y * size
        return round(x - half), round(y - half), round(x + half), round(y + half)


@dataclass(frozen=True)
class Scene:
    """Everything that is to be seen: a ground and the things on it, in the order of the caption.

    style: the way of painting, one of `second.styles.STYLES`.
    """

    ground: str
    texture: int
    mirrored: bool
    light: float
    things: tuple[Thing, ...]
    style: str = "plain"
