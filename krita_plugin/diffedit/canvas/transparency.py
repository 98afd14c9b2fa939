"""A result whose layer has a transparency mask: the artist paints on the mask, and more or less of it shows."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Iterator

from krita import Document, Krita, Node

from .layers import children

_NO_TILES = "VERSION 2\nTILEWIDTH 64\nTILEHEIGHT 64\nPIXELSIZE 1\nDATA 0\n"
_MAINDOC = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE DOC PUBLIC '-//KDE//DTD krita 2.0//EN' 'http://www.calligra.org/DTD/krita-2.0.dtd'>
<DOC xmlns="http://www.calligra.org/DTD/krita" editor="Krita" kritaVersion="5.1.5" syntaxVersion="2.0">
 <IMAGE name="mask" mime="application/x-kra" width="1" height="1" x-res="72" y-res="72" colorspacename="RGBA"

        profile="sRGB-elle-V2-srgbtrc.icc">
  <layers>
   <layer nodetype="grouplayer" name="group" filename="layer1" visible="1" locked="0" x="0" y="0" opacity="255"
          compositeop="normal" passthrough="0" channelflags="" collapsed="0" colorlabel="0">
    <masks>
     <mask nodetype="transparencymask" name="mask" filename="mask1" visible="1" locked="0" x="0" y="0" colorlabel="0"/>
    </masks>
   </layer>
  </layers>
 </IMAGE>
</DOC>
"""


def transparency_mask(document: Document, name: str) -> Node:
    """A transparency mask of no layer yet. Where nothing is set, Krita 5.1 shows its layer, 5.2 hides it."""
    if hasattr(document, "createTransparencyMask"):  # Krita 5.2
        return document.createTransparencyMask(name)
    # Krita 5.1 makes one that crashes when it is saved: its selection is missing. One read from a file is whole.
    with _template() as template:
        mask = children(children(template.rootNode())[0])[0].duplicate()
    mask.setName(name)
    return mask


def opened(pixels: bytes, mask: bytes) -> tuple[bytes, bytes]:
    """RGBA `pixels` whose alpha holds the soft `mask`, and what the transparency mask of its layer must be.

    Over an opaque source the whole layer becomes opaque, so that white on the mask shows more of it, also beyond its
    edge. Over a source with an alpha of its own the alpha stays as it is, and the mask is hard: the product is the
    same.
    """
    if pixels[3::4] != mask:
        return pixels, mask.translate(b"\x00" + 255 * b"\xff")
    out = bytearray(pixels)
    out[3::4] = b"\xff" * len(mask)
    return bytes(out), mask


@contextlib.contextmanager
def _template() -> Iterator[Document]:
    """A document of 1 × 1 px with a group and its transparency mask, opened without a view."""
    descriptor, path = tempfile.mkstemp(suffix=".kra")
    os.close(descriptor)
    try:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("mimetype", "application/x-krita")
            archive.writestr("maindoc.xml", _MAINDOC)
            archive.writestr("mask/layers/mask1.pixelselection", _NO_TILES)
            archive.writestr("mask/layers/mask1.pixelselection.defaultpixel", b"\xff")
        template = Krita.instance().openDocument(path)
        try:
            yield template
        finally:
            template.setModified(False)
            template.close()
    finally:
        os.unlink(path)
