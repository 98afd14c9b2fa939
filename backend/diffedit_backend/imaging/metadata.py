"""What a picture file says of itself beside its samples: EXIF, XMP, copyright, texts and resolution, in and out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

ORIENTATION = 0x0112
_XMP_TEXT = "XML:com.adobe.xmp"
_ORIENTATION_IN_XMP = re.compile(rb"(tiff:Orientation(?:=[\"']|>))\d")
# Of a TIFF, whose EXIF is its own directory: what describes the picture, not how its samples are stored.
_DESCRIPTIVE = {
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Copyright,
    ExifTags.Base.ExifOffset,
    ExifTags.Base.GPSInfo,
    ExifTags.Base.Rating,
    ExifTags.Base.XPTitle,
    ExifTags.Base.XPComment,
    ExifTags.Base.XPAuthor,
    ExifTags.Base.XPKeywords,
    ExifTags.Base.XPSubject,
}
_SEGMENT = 65_000  # bytes: a segment of a JPEG holds 65 533, its own heading among them
_KEPT = {  # by format of the result
    "PNG": {"EXIF", "XMP", "texts", "resolution"},
    "JPEG": {"EXIF", "XMP", "comment", "IPTC", "resolution"},
    "MPO": {"EXIF", "XMP", "comment", "IPTC", "resolution"},
    "TIFF": {"EXIF", "XMP", "resolution"},
    "WEBP": {"EXIF", "XMP"},
    "AVIF": {"EXIF", "XMP"},
    "BMP": {"resolution"},
    "GIF": {"comment"},
    "JPEG2000": {"comment"},
}


@dataclass(frozen=True)
class Metadata:
    """EXIF without orientation and thumbnail (both would be false of an edited, upright picture), `b""` where none.

    texts: the text chunks of a PNG, keyword and text. comment: of a JPEG or GIF. iptc: the segment APP13 of a JPEG.
    dpi: across and down.
    """

    exif: bytes = b""
    xmp: bytes = b""
    texts: Mapping[str, str] = field(default_factory=dict)
    comment: bytes = b""
    iptc: bytes = b""
    dpi: tuple[float, float] | None = None

    @classmethod
    def of(cls, image: Image.Image) -> Metadata:
        """Of an image that was loaded. What cannot be read of it is left out."""
        texts = getattr(image, "text", {})
        xmp = image.info.get("xmp") or str(texts.get(_XMP_TEXT, "")).encode()
        comment = image.info.get("comment", b"")
        dpi = image.info.get("dpi")
        return cls(
            exif=_exif(image),
            xmp=_ORIENTATION_IN_XMP.sub(rb"\g<1>1", xmp if isinstance(xmp, bytes) else str(xmp).encode()),
            texts={key: str(text) for key, text in texts.items() if key not in (_XMP_TEXT, "Raw profile type exif")},
            comment=comment if isinstance(comment, bytes) else str(comment).encode(),
            iptc=next((body for name, body in getattr(image, "applist", ()) if name == "APP13"), b""),
            dpi=(float(dpi[0]), float(dpi[1])) if isinstance(dpi, tuple) and min(dpi) > 0 else None,
        )

    def with_text(self, keyword: str, text: str) -> Metadata:
        return replace(self, texts={**self.texts, keyword: text})

    @property
    def kinds(self) -> dict[str, bool]:
        """Which kinds of it there are."""
        return {
            "EXIF": bool(self.exif),
            "XMP": bool(self.xmp),
            "texts": bool(self.texts),
            "comment": bool(self.comment),
            "IPTC": bool(self.iptc),
            "resolution": self.dpi is not None,
        }

    def lost_in(self, format_: str) -> tuple[str, ...]:
        """The kinds that a file of Pillow's `format_` would not hold."""
        kept = set(_KEPT.get(format_, ()))
        if format_ == "PNG":
            kept.add("comment")  # as a text
        if format_ in ("JPEG", "MPO"):
            bodies = {"EXIF": self.exif, "XMP": self.xmp, "comment": self.comment, "IPTC": self.iptc}
            kept -= {name for name, body in bodies.items() if len(body) > _SEGMENT}
        return tuple(name for name, there in self.kinds.items() if there and name not in kept)

    def options(self, format_: str) -> dict[str, Any]:
        """The arguments of Pillow's `save` that write what the format holds."""
        kept = {name for name, there in self.kinds.items() if there} - set(self.lost_in(format_))
        options: dict[str, Any] = {}
        if "EXIF" in kept:
            options["exif"] = self.exif
        if "resolution" in kept:
            options["dpi"] = self.dpi
        if format_ == "PNG":
            options["pnginfo"] = self._png_texts()
            return options
        if "XMP" in kept and format_ == "TIFF":
            exif = Image.Exif()
            exif.load(self.exif)
            exif[ExifTags.Base.XMLPacket] = self.xmp
            options["exif"] = exif
        elif "XMP" in kept:
            options["xmp"] = self.xmp
        if "comment" in kept:
            options["comment"] = self.comment
        if "IPTC" in kept:
            options["extra"] = b"\xff\xed" + (2 + len(self.iptc)).to_bytes(2, "big") + self.iptc
        return options

    def _png_texts(self) -> PngInfo:
        info = PngInfo()
        texts = dict(self.texts)
        if self.comment:
            texts.setdefault("Comment", self.comment.decode("utf-8", "replace"))
        if self.xmp:
            info.add_itxt(_XMP_TEXT, self.xmp.decode("utf-8", "replace"))
        for keyword, text in texts.items():
            info.add_itxt(keyword, text)
        return info


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation 1 to 8; 1 where there is none, or none that can be read."""
    try:
        value = int(image.getexif().get(ORIENTATION, 1))
    except (ValueError, TypeError, SyntaxError, OSError, KeyError):
        return 1
    return value if 1 <= value <= 8 else 1


def _exif(image: Image.Image) -> bytes:
    try:
        exif = image.getexif()
        if image.format == "TIFF":
            for tag in set(exif) - _DESCRIPTIVE:
                del exif[tag]
        exif.pop(ORIENTATION, None)
        return exif.tobytes() if len(exif) else b""
    except Exception:  # struct.error, TypeError, ...: Pillow raises many for damaged EXIF, which is no reason to stop
        return b""
