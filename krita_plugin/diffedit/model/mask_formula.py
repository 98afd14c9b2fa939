"""The mask that an edit uses, made from its soft map without numpy: the same values, byte for byte, as the backend's.

    mask = feather(grow(soft_map >= round(255 * threshold))) * selection

`diffedit_backend.method.mask` has the formula with numpy; `tests/plugin/test_mask_formula.py` runs both. A plane is
`bytes` of width * height values, row by row. Whole planes are Python integers here, one lane of bits for a pixel, so
that a shift, an "or" or a sum of all pixels is one operation: growing takes some 20 ms a megapixel, feathering 0.2 s.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import reduce
from operator import mul, or_

STEP_PIXELS = 1 << 19  # of a large mask, grown in the five steps of `_grow_steps`: some 5 ms each
TILE, FAR = 256, 64  # px: a side of what is feathered in three steps; half of it where a feather reaches beyond FAR
INVERTED = bytes(range(255, -1, -1))
_LARGEST_SHORT_BOX = 255  # px: sums of wider boxes need lanes of 64 bits
_PRODUCTS = bytes((product + 127) // 255 for product in range(255 * 255 + 1))


def threshold_table(threshold: float) -> bytes:
    """256 entries, 0 or 255: `soft_map.translate(table)` is the hard mask; `threshold` in (0, 1)."""
    level = min(254, max(1, round(threshold * 255)))
    return bytes(level) + b"\xff" * (256 - level)


def final_mask(
    soft_map: bytes,
    width: int,
    height: int,
    threshold: float,
    grow_by: int,
    feather_by: int,
    selection: bytes | None,
) -> bytes:
    """The mask of a soft map, see above; a `selection` of None limits nothing."""
    hard = soft_map.translate(threshold_table(threshold))
    return limit(feather(grow(hard, width, height, grow_by), width, height, feather_by), selection)


def in_steps(
    soft_map: bytes,
    width: int,
    height: int,
    threshold: float,
    grow_by: int,
    feather_by: int,
) -> Generator[None, None, bytes]:
    """`final_mask` without a selection, to the byte, in steps of some 10 ms: a large mask takes seconds.

    Only what lies near an edge is blurred. (Krita reads the pen after every second step or so.)
    """
    table, parts = threshold_table(threshold), []
    for start in range(0, width * height, 4 * STEP_PIXELS):
        parts.append(soft_map[start : start + 4 * STEP_PIXELS].translate(table))
        yield
    hard = b"".join(parts)
    yield
    if grow_by:
        hard = yield from _grown_in_bands(hard, width, height, grow_by)
    mask = hard
    if feather_by:
        mask = yield from _feathered_in_tiles(hard, width, height, feather_by)
    return mask


def limit_in_steps(mask: bytes, selection: bytes) -> Generator[None, None, bytes]:
    """`limit` in short steps."""
    parts = []
    for start in range(0, len(mask), STEP_PIXELS // 4):
        end = start + STEP_PIXELS // 4
        parts.append(limit(mask[start:end], selection[start:end]))
        yield
    return b"".join(parts)


def _grown_in_bands(hard: bytes, width: int, height: int, radius: int) -> Generator[None, None, bytes]:
    """Bands of rows, each with as many above and below as can reach into it."""
    reach, count = abs(radius), max(1, STEP_PIXELS // width)
    parts = []
    for top in range(0, height, count):
        bottom = min(height, top + count)
        first, last = max(0, top - reach), min(height, bottom + reach)
        band = hard[first * width : last * width]
        if _is_even(band):
            parts.append(hard[top * width : bottom * width])
            yield
            continue
        grown = yield from _grow_steps(band, width, last - first, radius)
        parts.append(grown[(top - first) * width : (bottom - first) * width])
        yield
    return b"".join(parts)


def _feathered_in_tiles(hard: bytes, width: int, height: int, feather_by: int) -> Generator[None, None, bytes]:
    """Tiles, each with as much around it as can reach into it."""
    reach = sum(box // 2 for box in box_widths(feather_by))
    side = TILE if reach <= FAR else TILE // 2
    rows = []
    for top in range(0, height, side):
        bottom = min(height, top + side)
        first, last = max(0, top - reach), min(height, bottom + reach)
        tiles = []
        for left in range(0, width, side):
            right = min(width, left + side)
            begin, end = max(0, left - reach), min(width, right + reach)
            window = b"".join(hard[y * width + begin : y * width + end] for y in range(first, last))
            if not _is_even(window):
                window = yield from _feather_steps(window, end - begin, last - first, feather_by)
                yield
            starts = range((top - first) * (end - begin) + left - begin, len(window), end - begin)
            tiles.append([window[start : start + right - left] for start in starts[: bottom - top]])
        rows += [b"".join(parts) for parts in zip(*tiles, strict=True)]
        yield
    return b"".join(rows)


def _is_even(plane: bytes) -> bool:
    """Whether all of a mask of 0 and 255 is the same."""
    return plane.count(plane[:1]) == len(plane)


def grow(hard: bytes, width: int, height: int, radius: int) -> bytes:
    """A mask of 0 and 255 dilated by `radius` px (eroded when negative) with an octagon.

    The octagon is a sum of lines: `radius` * tan(22.5 degrees) along each axis, the rest along diagonals, a pair of
    which adds two px; one px that is left over is a step to the four neighbours.
    """
    return _at_once(_grow_steps(hard, width, height, radius))


def _at_once(steps: Generator[None, None, bytes]) -> bytes:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return bytes(end.value)


def _grow_steps(hard: bytes, width: int, height: int, radius: int) -> Generator[None, None, bytes]:
    """`grow` in five steps."""
    if radius == 0:
        return hard
    if radius < 0:
        grown = yield from _grow_steps(hard.translate(INVERTED), width, height, -radius)
        return grown.translate(INVERTED)
    radius = min(radius, width + height)
    straight = round(radius * 0.41421356)
    diagonal, rest = divmod(radius - straight, 2)
    stride = width + 2 * radius  # no pixel reaches another row through the gap
    margin = bytes(radius)
    rows = [margin + hard[start : start + width] + margin for start in range(0, width * height, width)]
    mask = int.from_bytes(bytes(radius * stride) + b"".join(rows), "little")
    for step, reach in ((1, straight), (stride, straight), (stride + 1, diagonal), (stride - 1, diagonal)):
        mask = _line(mask, step, reach)
        yield
    if rest:
        mask = _line(mask, 1, 1) | _line(mask, stride, 1)
    grown = mask.to_bytes((height + 2 * radius) * stride + radius, "little")
    first = radius * stride + radius
    return b"".join(grown[first + row * stride : first + row * stride + width] for row in range(height))


def _line(mask: int, step: int, reach: int) -> int:
    """Every pixel of the mask also at -reach to reach times `step` pixels from where it is."""
    covered = 0
    up = down = mask
    while covered < reach:
        shift = min(covered + 1, reach - covered)
        up, down = up | up << 8 * step * shift, down | down >> 8 * step * shift
        covered += shift
    return up | down


def box_widths(feather_by: int) -> tuple[int, ...]:
    """The odd widths of the boxes whose blurs, one after the other, are nearly a Gaussian of sigma = feather / 2.

    The widest two odd widths around that of three equal boxes, so many of each as come nearest to its variance
    (Kovesi, "Fast almost-Gaussian filtering", 2010); 1 px of feather is one box of 3.
    """
    if feather_by == 0:
        return ()
    smaller = int((feather_by**2 + 1) ** 0.5)
    smaller -= 1 - smaller % 2
    many = (3 * feather_by**2 - 3 * smaller**2 - 12 * smaller - 9) / (-4 * smaller - 4)
    small = min(max(0, int(many + 0.5)), 2 if smaller == 1 else 3)
    return tuple(width for width in small * (smaller,) + (3 - small) * (smaller + 2,) if width > 1)


def feather(mask: bytes, width: int, height: int, feather_by: int) -> bytes:
    """The mask with its edge blurred over about `feather_by` px to either side; borders are continued outwards."""
    return _at_once(_feather_steps(mask, width, height, feather_by))


def _feather_steps(mask: bytes, width: int, height: int, feather_by: int) -> Generator[None, None, bytes]:
    """`feather` in three steps."""
    rows = [mask[start : start + width] for start in range(0, width * height, width)]
    left, right, top, bottom = _bounds(rows)
    widths = box_widths(feather_by)
    if not widths or top == bottom:
        return mask
    reach = sum(box // 2 for box in widths)
    left, top = max(0, left - reach), max(0, top - reach)
    right, bottom = min(width, right + reach), min(height, bottom + reach)
    part = [row[left:right] for row in rows[top:bottom]]
    for number, box in enumerate(widths):
        if number:
            yield
        part = _box_down(_box_across(part, box), box)
    rows[top:bottom] = [row[:left] + blurred + row[right:] for row, blurred in zip(rows[top:bottom], part, strict=True)]
    return b"".join(rows)


def limit(mask: bytes, selection: bytes | None) -> bytes:
    """The mask times the artist's selection, soft edges and all."""
    if selection is None:
        return mask
    return bytes(map(_PRODUCTS.__getitem__, map(mul, mask, selection)))


def _bounds(rows: list[bytes]) -> tuple[int, int, int, int]:
    """Left, right, top and bottom of what is not 0, the second and the last exclusive; all 0 for nothing."""
    filled = [index for index, row in enumerate(rows) if row.count(0) < len(row)]
    if not filled:
        return 0, 0, 0, 0
    columns = reduce(or_, (int.from_bytes(rows[index], "little") for index in filled))
    left = (columns & -columns).bit_length() - 1 >> 3
    return left, (columns.bit_length() + 7) // 8, filled[0], filled[-1] + 1


def _box_across(rows: list[bytes], box: int) -> list[bytes]:
    """The mean of the `box` px around each pixel along its row."""
    reach, width = box // 2, len(rows[0])
    padded = b"".join(row[:1] * reach + row + row[-1:] * reach for row in rows)
    means, stride = _means(padded, 1, box), width + 2 * reach
    return [means[start : start + width] for start in range(0, len(rows) * stride, stride)]


def _box_down(rows: list[bytes], box: int) -> list[bytes]:
    """The mean of the `box` px around each pixel along its column."""
    reach, width = box // 2, len(rows[0])
    means = _means(b"".join(rows[:1] * reach + rows + rows[-1:] * reach), width, box)
    return [means[start : start + width] for start in range(0, len(rows) * width, width)]


def _means(values: bytes, step: int, box: int) -> bytes:
    """For each value the mean of it and the next `box` - 1 that are `step` apart, halves rounded up.

    The sum times 2^s / box, rounded, divided by 2^s: one product for all lanes.
    """
    lane, scale = (4, 16) if box <= _LARGEST_SHORT_BOX else (8, 32)
    lanes = bytearray(lane * len(values))
    lanes[::lane] = values
    some, count = int.from_bytes(lanes, "little"), 1  # sums of `count` values
    total, offset, rest = 0, 0, box
    while rest:
        if rest & 1:
            total += some >> 8 * lane * step * offset
            offset += count
        rest >>= 1
        if rest:
            some, count = some + (some >> 8 * lane * step * count), 2 * count
    half = int.from_bytes((1 << scale - 1).to_bytes(lane, "little") * len(values), "little")
    scaled = total * round((1 << scale) / box) + half
    return scaled.to_bytes(lane * len(values), "little")[scale // 8 :: lane]
