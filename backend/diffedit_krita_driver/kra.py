"""Reads a saved .kra without Krita: the layer tree, and the pixels of any layer or mask, bit for bit.

A .kra is a zip with `maindoc.xml` and one file of 64 × 64 px tiles per layer ("VERSION 2", LZF-compressed). Source:
Krita's kis_tiled_data_manager.cc and kis_tile_compressor_2.cpp.
"""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SPACE = "{http://www.calligra.org/DTD/krita}"
_COMPRESSED = 1


@dataclass(frozen=True)
class KraNode:
    """A layer or mask: `kind` as in Krita ("paintlayer", ...), `offset` in px, `children` top first."""

    name: str
    kind: str
    filename: str
    colour_space: str
    offset: tuple[int, int]
    children: tuple[KraNode, ...]


class Kra:
    """`width` and `height` in px; `layers`: the top level, top first."""

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            self._files = {name: archive.read(name) for name in archive.namelist()}
        image = ElementTree.fromstring(self._files["maindoc.xml"]).find(f"{_SPACE}IMAGE")
        if image is None:
            raise ValueError(f"{path} holds no image in its maindoc.xml.")
        self._name = image.attrib["name"]
        self.width, self.height = int(image.attrib["width"]), int(image.attrib["height"])
        self.layers = _children(image)

    def nodes(self) -> list[KraNode]:
        """Every layer and mask, top first, a layer before its own children."""

        def walk(nodes: tuple[KraNode, ...]) -> list[KraNode]:
            return [found for node in nodes for found in (node, *walk(node.children))]

        return walk(self.layers)

    def node(self, name: str) -> KraNode:
        """The topmost node of that name; KeyError with the names that there are."""
        for node in self.nodes():
            if node.name == name:
                return node
        raise KeyError(f"{name!r} is none of {[node.name for node in self.nodes()]}")

    def pixels(self, node: KraNode, area: tuple[int, int, int, int] | None = None) -> NDArray[np.uint8]:
        """(H, W, bytes per pixel) uint8 over `area` (x, y, width, height in px of the image; the canvas if None).

        In Krita's own layout: 8-bit RGBA is B, G, R, A; a mask has one byte per pixel.
        """
        base = f"{self._name}/layers/{node.filename}"
        path = base if base in self._files else f"{base}.pixelselection"
        x, y, width, height = area or (0, 0, self.width, self.height)
        origin = (x - node.offset[0], y - node.offset[1])
        return _tiles(self._files[path], self._files[f"{path}.defaultpixel"], *origin, width, height)

    def merged(self) -> bytes:
        """What the picture looks like, as Krita saved it: a PNG."""
        return self._files["mergedimage.png"]


def _children(element: ElementTree.Element) -> tuple[KraNode, ...]:
    groups = [child for child in element if child.tag in (f"{_SPACE}layers", f"{_SPACE}masks")]
    return tuple(
        KraNode(
            name=child.attrib["name"],
            kind=child.attrib["nodetype"],
            filename=child.attrib["filename"],
            colour_space=child.attrib.get("colorspacename", ""),
            offset=(int(child.attrib.get("x", 0)), int(child.attrib.get("y", 0))),
            children=_children(child),
        )
        for group in groups
        for child in group
    )


def _tiles(data: bytes, default_pixel: bytes, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
    stream = io.BytesIO(data)
    header: dict[str, int] = {}
    while "DATA" not in header:
        key, value = stream.readline().split()
        header[key.decode()] = int(value)
    size, tile_width, tile_height = header["PIXELSIZE"], header["TILEWIDTH"], header["TILEHEIGHT"]
    out = np.tile(np.frombuffer(default_pixel, np.uint8), (height, width, 1))
    for _ in range(header["DATA"]):
        left, top, method, length = stream.readline().strip().split(b",")
        tile = stream.read(int(length))
        if method != b"LZF":
            raise ValueError(f"Tiles of this file are packed by {method!r}, only LZF is known.")
        wanted = tile_width * tile_height * size
        if tile[0] == _COMPRESSED:  # channel after channel
            planes = np.frombuffer(_lzf(tile[1:], wanted), np.uint8).reshape(size, tile_height, tile_width)
            pixels = planes.transpose(1, 2, 0)
        else:
            pixels = np.frombuffer(tile[1 : 1 + wanted], np.uint8).reshape(tile_height, tile_width, size)
        tile_x, tile_y = int(left), int(top)
        x0, y0 = max(tile_x, x), max(tile_y, y)
        x1, y1 = min(tile_x + tile_width, x + width), min(tile_y + tile_height, y + height)
        if x0 < x1 and y0 < y1:
            out[y0 - y : y1 - y, x0 - x : x1 - x] = pixels[y0 - tile_y : y1 - tile_y, x0 - tile_x : x1 - tile_x]
    return out


def _lzf(source: bytes, size: int) -> bytes:
    """Unpacks an LZF stream of `size` bytes: literal runs, and references to what was already written."""
    out = bytearray()
    i = 0
    while i < len(source) and len(out) < size:
        control = source[i]
        i += 1
        if control < 32:
            out += source[i : i + control + 1]
            i += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += source[i]
            i += 1
        start = len(out) - ((control & 31) << 8) - source[i] - 1
        i += 1
        for k in range(start, start + length + 2):  # one by one: a reference may reach into what it writes
            out.append(out[k])
    return bytes(out[:size])
