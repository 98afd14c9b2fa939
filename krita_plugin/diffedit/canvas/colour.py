"""From any colour space of Krita to the wire's 8-bit sRGB and back, as Krita converts a whole document, to 1 of 255.

Krita's pixels are B, G, R, A, the wire's R, G, B or R, G, B, A, all with straight alpha. A slice with a step copies at
memory speed, without numpy: 2 to 7 ms per megapixel.

Conversion goes through an empty copy of the document. `Node.setColorSpace` on a node of the document itself would
leave an undo step there, and it is coarser: up to 10/255 off for 16-bit grey, 33/255 for 16-bit Lab.
`Document.setColorSpace` is exact. To read, what the copy shows takes 0.2 s a megapixel, all of it LittleCMS in one
thread, and Qt for RGB of 16 bits a tenth: each where a sample of colours shows that it gives the same, to 1 of 255.
"""

from __future__ import annotations

import os
import random
import struct
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from types import TracebackType

from diffedit_protocol.messages import Bounds
from krita import Document, InfoObject, Node

from ..qt import QtGui
from .layers import children


def alpha_of(bgra: bytes) -> bytes:
    """The alpha plane of pixels in either order."""
    return bgra[3::4]


def bgra_to_rgba(bgra: bytes) -> bytes:
    """Swaps red and blue; the way back is the same."""
    out = bytearray(bgra)
    out[0::4], out[2::4] = bgra[2::4], bgra[0::4]
    return bytes(out)


rgba_to_bgra = bgra_to_rgba


def bgra_to_rgb(bgra: bytes) -> bytes:
    """Drops the alpha of opaque pixels."""
    out = bytearray(len(bgra) // 4 * 3)
    out[0::3], out[1::3], out[2::3] = bgra[2::4], bgra[1::4], bgra[0::4]
    return bytes(out)


def rgba_to_rgb(rgba: bytes) -> bytes:
    """Drops the alpha of opaque pixels."""
    out = bytearray(len(rgba) // 4 * 3)
    out[0::3], out[1::3], out[2::3] = rgba[0::4], rgba[1::4], rgba[2::4]
    return bytes(out)


def rgb_to_rgba(rgb: bytes) -> bytes:
    """Opaque pixels with their alpha."""
    out = bytearray(b"\xff" * (len(rgb) // 3 * 4))
    out[0::4], out[1::4], out[2::4] = rgb[0::3], rgb[1::3], rgb[2::3]
    return bytes(out)


def rows(plane: bytes, width: int, first: int, count: int, pixel_size: int = 1) -> bytes:
    """Rows `first` to `first + count` of an image without padding."""
    row = width * pixel_size
    return plane[first * row : (first + count) * row]


def composite(below: bytes, above: bytes, width: int, height: int) -> bytes:
    """Pixels R, G, B, A with straight alpha laid over others, as one picture."""
    kind = QtGui.QImage.Format
    picture = QtGui.QImage(below, width, height, 4 * width, kind.Format_RGBA8888)
    picture = picture.convertToFormat(kind.Format_RGBA8888_Premultiplied)
    painter = QtGui.QPainter(picture)
    painter.drawImage(0, 0, QtGui.QImage(above, width, height, 4 * width, kind.Format_RGBA8888))
    painter.end()
    straight = picture.convertToFormat(kind.Format_RGBA8888)
    bits = straight.constBits()
    bits.setsize(straight.sizeInBytes())
    return bytes(bits)


# px. Converting costs some 200 ms per megapixel, Qt 20 to 40, an 8-bit sRGB copy 2. A strip should cost some 10 ms.
DIRECT_STRIP = 1 << 20
QT_STRIP = 1 << 17
CONVERTED_STRIP = 1 << 16
SAMPLED = 128  # px: the side of a sample of colours
_BGRA = QtGui.QImage.Format.Format_ARGB32  # in memory


@dataclass(frozen=True)
class Space:
    """Krita's colour model ("RGBA", "GRAYA", "CMYKA", "LABA", ...), depth ("U8", "U16", "F16", "F32") and profile."""

    model: str
    depth: str
    profile: str


SRGB8 = Space("RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc")
SRGB16 = Space("RGBA", "U16", "sRGB-elle-V2-srgbtrc.icc")


def space_of(thing: Document | Node) -> Space:
    return Space(thing.colorModel(), thing.colorDepth(), thing.colorProfile())


class Converter:
    """Pixels of colour space `source` as pixels of `target`, strip by strip. `with Converter(...) as convert:`

    `document` lends its copy only: nothing in it changes. `prepare` before that does it in short steps.
    """

    def __init__(self, document: Document, source: Space, target: Space) -> None:
        self.target = target
        self._document, self._source = document, source
        self._by_bytes = {source, target} == {SRGB8, SRGB16}
        self.strip_pixels = DIRECT_STRIP if source == target or self._by_bytes else CONVERTED_STRIP
        self._sheet = None
        self._strip: Node | None = None  # of the sheet: what is read through it
        self._profile: QtGui.QColorSpace | None = None
        self._quick = False  # what the sheet shows will do
        self._ready = source == target or self._by_bytes

    def prepare(self) -> Generator[None, None, None]:
        """Makes what is needed to convert, unless it is there. `strip_pixels` is known after that."""
        if self._ready:
            return
        try:
            yield from self._make_sheet()
            source = self._source
            if self.target == SRGB8:
                if source not in _ways:
                    _ways[source] = yield from self._compared(source)
                self._profile, self._quick = _ways[source]
            if self._profile is not None:
                self.strip_pixels = QT_STRIP
            self._ready = True
        finally:
            if not self._ready:
                self.close()

    def _make_sheet(self) -> Generator[None, None, None]:
        sheet = self._sheet = self._document.clone()
        yield
        sheet.setBatchmode(True)
        # First the size, then the layers: with the size gone, a removed layer costs no new projection.
        sheet.resizeImage(0, 0, 1, 1)
        for node in children(sheet.rootNode()):
            node.remove()
        sheet.waitForDone()
        yield
        sheet.setColorSpace(self._source.model, self._source.depth, self._source.profile)
        sheet.waitForDone()
        yield

    def __call__(self, pixels: bytes, area: Bounds) -> bytes:
        """`pixels` of `area` in the source's layout -> the same in the target's."""
        if self._by_bytes:
            return _depth_changed(pixels, self.target)
        if self._sheet is None:
            return pixels
        if self._profile is not None:
            return _read_by_qt(pixels, area, self._profile)
        return self._shown(pixels, area) if self._quick else self._converted(pixels, area)

    def _compared(self, source: Space) -> Generator[None, None, tuple[QtGui.QColorSpace | None, bool]]:
        """The profile by which Qt reads a sample of colours as Krita converts them, to 1 of 255, or None; and whether
        what the sheet shows of them is as near."""
        area = Bounds(0, 0, SAMPLED, SAMPLED)
        sample = _sample(source.depth, self._strip_node().pixelData(0, 0, 1, 1).size())
        yield
        exact = self._converted(sample, area)
        yield

        def near(read: bytes) -> bool:
            return all(abs(a - b) <= 1 for a, b in zip(read, exact, strict=True))

        if (source.model, source.depth) == ("RGBA", "U16"):
            profile = _profile_of(self._sheet)
            yield
            if profile is not None and near(_read_by_qt(sample, area, profile)):
                return profile, False
            yield
        return None, near(self._shown(sample, area))

    def _strip_node(self) -> Node:
        assert self._sheet is not None
        if self._strip is None:
            self._strip = self._sheet.createNode("strip", "paintlayer")
            self._sheet.rootNode().addChildNode(self._strip, None)
            self._sheet.waitForDone()
        return self._strip

    def _shown(self, pixels: bytes, area: Bounds) -> bytes:
        """As Krita shows them, which is in 8-bit sRGB."""
        assert self._sheet is not None
        strip = self._strip_node()
        if (self._sheet.width(), self._sheet.height()) != (area.width, area.height):
            self._sheet.resizeImage(0, 0, area.width, area.height)
            self._sheet.waitForDone()
        strip.setPixelData(pixels, 0, 0, area.width, area.height)
        self._sheet.refreshProjection()
        self._sheet.waitForDone()
        image = self._sheet.projection(0, 0, area.width, area.height).convertToFormat(_BGRA)
        return _bytes_of(image)

    def _converted(self, pixels: bytes, area: Bounds) -> bytes:
        """As a document becomes whose colour space is changed."""
        assert self._sheet is not None
        sheet = self._sheet.clone()
        try:
            node = sheet.createNode("strip", "paintlayer")
            node.setPixelData(pixels, 0, 0, area.width, area.height)
            sheet.rootNode().addChildNode(node, None)
            sheet.setColorSpace(self.target.model, self.target.depth, self.target.profile)
            sheet.waitForDone()
            return bytes(node.pixelData(0, 0, area.width, area.height))
        finally:
            discard(sheet)

    def close(self) -> None:
        if self._sheet is not None:
            discard(self._sheet)
            self._sheet = self._strip = None

    def __enter__(self) -> Converter:
        for _ in self.prepare():
            pass
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_ways: dict[Space, tuple[QtGui.QColorSpace | None, bool]] = {}  # see `Converter._compared`; once in each Krita


def _profile_of(sheet: Document) -> QtGui.QColorSpace | None:
    """The ICC profile of a document's colour space, as Qt reads it from a PNG that Krita writes; None for one that Qt
    cannot use."""
    descriptor, path = tempfile.mkstemp(suffix=".png")
    os.close(descriptor)
    copy = sheet.clone()
    try:
        copy.setBatchmode(True)
        copy.rootNode().addChildNode(copy.createNode("profile", "paintlayer"), None)
        options = InfoObject()
        options.setProperty("forceSRGB", False)  # it would convert, and
        options.setProperty("saveSRGBProfile", False)  # this would name sRGB in place of the profile
        copy.waitForDone()
        if not copy.exportImage(path, options):
            return None
        profile = QtGui.QImage(path).colorSpace()
        return profile if profile.isValid() else None
    finally:
        discard(copy)
        os.unlink(path)


def _sample(depth: str, pixel_size: int) -> bytes:
    """SAMPLED × SAMPLED px of noise; of 16 bits half is dark, where a step of the source is the largest of sRGB."""
    noise, length = random.Random(0), pixel_size * SAMPLED * SAMPLED
    if depth in ("F16", "F32"):
        code, size = ("e", 2) if depth == "F16" else ("f", 4)
        return struct.pack(f"<{length // size}{code}", *(noise.random() for _ in range(length // size)))
    if depth == "U8":
        return noise.randbytes(length)
    dark = bytearray(noise.randbytes(length // 2))
    dark[1::2] = dark[1::2].translate(bytes(value & 15 for value in range(256)))  # the upper byte: below 4096
    return noise.randbytes(length - len(dark)) + bytes(dark)


def _read_by_qt(pixels: bytes, area: Bounds, profile: QtGui.QColorSpace) -> bytes:
    """B, G, R, A of 16 bits as the same of 8 bits in sRGB."""
    kind = QtGui.QImage.Format
    image = QtGui.QImage(pixels, area.width, area.height, 8 * area.width, kind.Format_RGBX64).rgbSwapped()
    # Qt looks values up by their upper 12 bits. Where the profile's matrix mixes channels, that is up to 2 of 255 off
    # in dark colours; the mean of two that lie half a step apart is not. (A step is 16; half of it is added to round.)
    if profile.primaries() == QtGui.QColorSpace.Primaries.SRgb:
        _to_srgb(image, profile, 8)
    else:
        other = image.copy()
        _to_srgb(image, profile, 4)
        _to_srgb(other, profile, 12)
        painter = QtGui.QPainter(image)
        painter.setOpacity(0.5)
        painter.drawImage(0, 0, other)
        painter.end()
    out = bytearray(_bytes_of(image.convertToFormat(kind.Format_RGB32)))  # B, G, R, 255 in memory
    out[3::4] = pixels[7::8]
    return bytes(out)


def _to_srgb(image: QtGui.QImage, profile: QtGui.QColorSpace, added: int) -> None:
    """Converts 16 bits by a profile in place, with `added` of 65535 more in each channel."""
    painter = QtGui.QPainter(image)
    painter.setCompositionMode(QtGui.QPainter.CompositionMode.CompositionMode_Plus)
    painter.fillRect(image.rect(), QtGui.QColor.fromRgba64(added, added, added, 65535))
    painter.end()
    image.setColorSpace(profile)
    image.convertToColorSpace(QtGui.QColorSpace(QtGui.QColorSpace.NamedColorSpace.SRgb))


def _bytes_of(image: QtGui.QImage) -> bytes:
    bits = image.constBits()
    bits.setsize(image.sizeInBytes())
    return bytes(bits)


def _depth_changed(pixels: bytes, target: Space) -> bytes:
    """16 bits of sRGB to 8 and back, as Krita does it: the upper byte; a byte twice. Fifty times faster than a copy."""
    if target == SRGB8:
        return pixels[1::2]
    out = bytearray(2 * len(pixels))
    out[0::2] = out[1::2] = pixels
    return bytes(out)


def discard(copy: Document) -> None:
    """Closes a copy of a document without a question."""
    copy.setModified(False)
    copy.close()
