"""Result files: every format of Pillow gives back what it was given, tells what it changes, or is refused."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffedit_backend.imaging import results
from diffedit_backend.imaging.files import PictureFile, read_picture
from diffedit_backend.imaging.results import (
    ResultFormat,
    check_destination,
    encode_picture,
    fingerprint,
    format_for,
    replacing,
    write_picture,
)
from diffedit_protocol.errors import BadInputError
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

Image.init()
ENDINGS = sorted(ending for ending, kind in Image.registered_extensions().items() if kind in Image.SAVE)
MODES = ("L", "LA", "RGB", "RGBA", "I;16")
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><dc:rights>(c) An Artist</dc:rights></x:xmpmeta>'


def picture_of(folder: Path, mode: str, side: int = 24) -> PictureFile:
    """Noise, with colours under every alpha; 16-bit samples whose low bytes matter."""
    rng = np.random.default_rng(len(mode))
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (side, side), np.uint16))
    else:
        shape = (side, side) if mode == "L" else (side, side, len(mode))
        pixels = rng.integers(0, 256, shape, np.uint8)
        if mode.endswith("A"):
            pixels[..., -1] = np.where(pixels[..., -1] < 128, 0, pixels[..., -1])
        image = Image.fromarray(pixels)
    image.save(folder / f"source-{len(mode)}.png")
    return read_picture(folder / f"source-{len(mode)}.png")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("mode", MODES)
def test_a_result_is_exact_or_says_that_it_is_not_or_is_refused(tmp_path: Path, mode: str, ending: str) -> None:
    file = picture_of(tmp_path, mode)
    path = tmp_path / f"result{ending}"
    try:
        format_ = format_for(path, file)
    except BadInputError as error:
        refusal = error.sentence
    else:
        refusal = ""
        write_picture(path, format_, file, file.samples)
        check_is_held(path, format_, file)
    assert not refusal or "Name the result 'result.png'." in refusal


def check_is_held(path: Path, format_: ResultFormat, file: PictureFile) -> None:
    """Whether the file at `path` has the samples of `file`, or its format says that it has not."""
    again = read_picture(path)
    if not format_.exact:
        assert f"{path.suffix} changes every pixel a little" in " ".join(format_.remarks(path))
        assert again.size == file.size
    elif again.is_grey == file.is_grey:
        assert again.samples.dtype == file.samples.dtype
        assert np.array_equal(again.samples, file.samples)
    else:  # written in colour: equal greys
        assert np.array_equal(again.samples, np.repeat(file.samples, 3, axis=2))


def test_the_formats_that_artists_use_are_not_refused(tmp_path: Path) -> None:
    file = picture_of(tmp_path, "RGB")
    for ending in (".png", ".tif", ".tiff", ".webp", ".jpg", ".jpeg", ".jpe", ".jfif", ".avif", ".bmp", ".tga", ".jp2"):
        assert format_for(Path(f"a{ending}"), file).exact is (ending not in (".jpg", ".jpeg", ".jpe", ".jfif", ".avif"))


@pytest.mark.parametrize(
    ("name", "mode", "sentence"),
    [
        ("a.jpg", "RGBA", r"\.jpg does not hold transparency. Name the result 'a\.png'\."),
        ("a.bmp", "RGBA", r"\.bmp does not hold transparency"),
        ("a.gif", "RGB", r"'a\.gif' does not end in a picture format that results are written in"),
        ("a.ico", "RGB", r"'a\.ico' does not end in a picture format"),
        ("a", "RGB", r"'a' does not end in a picture format"),
        ("a.webp", "I;16", r"\.webp does not hold these 16 bits per channel"),
        ("a.jpg", "I;16", r"\.jpg does not hold these 16 bits"),
    ],
)
def test_a_format_that_would_lose_something_is_refused_with_the_name_to_give(
    tmp_path: Path, name: str, mode: str, sentence: str
) -> None:
    with pytest.raises(BadInputError, match=sentence):
        format_for(Path(name), picture_of(tmp_path, mode))


def test_a_picture_that_is_longer_than_the_format_allows_is_refused(tmp_path: Path) -> None:
    Image.new("L", (16_384, 8)).save(tmp_path / "a.png")
    with pytest.raises(BadInputError, match="at most 16383 px a side, not 16384 × 8"):
        format_for(Path("a.webp"), read_picture(tmp_path / "a.png"))


def described(folder: Path, ending: str) -> Path:
    """A picture that says much of itself."""
    exif = Image.Exif()
    exif[ExifTags.Base.Copyright] = "An Artist"
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2024:05:01 12:00:00"
    options: dict[str, Any] = {"exif": exif.tobytes(), "dpi": (300, 300)}
    if ending == "png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_text("Author", "An Artist")
        options["pnginfo"].add_itxt("Title", "Früher")
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    elif ending != "tif":
        options["xmp"] = XMP
    if ending == "jpg":
        options["comment"] = b"made by hand"
    Image.new("RGB", (24, 16), "red").save(folder / f"in.{ending}", **options)
    return folder / f"in.{ending}"


@pytest.mark.parametrize("target", ["png", "tif", "webp", "jpg", "avif"])
@pytest.mark.parametrize("source", ["png", "tif", "webp", "jpg", "avif"])
def test_exif_copyright_xmp_texts_and_resolution_are_kept_or_told(tmp_path: Path, source: str, target: str) -> None:
    file = read_picture(described(tmp_path, source))
    path = tmp_path / f"out.{target}"
    format_ = format_for(path, file)
    write_picture(path, format_, file, file.samples)
    with Image.open(path) as image:
        image.load()
        exif = image.getexif()
        assert exif[ExifTags.Base.Copyright] == "An Artist"
        assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] == "2024:05:01 12:00:00"
        assert exif.get(ExifTags.Base.Orientation, 1) == 1
        xmp = image.info.get("xmp", b"")
        assert (b"(c) An Artist" in (xmp if isinstance(xmp, bytes) else xmp.encode())) == (source != "tif")
        if target in ("png", "tif", "jpg") and source in ("png", "tif", "jpg"):
            assert [round(float(dpi)) for dpi in image.info["dpi"]] == [300, 300]
        if source == target == "png":
            assert (image.text["Author"], image.text["Title"]) == ("An Artist", "Früher")
        if source == "jpg" and target in ("png", "jpg"):
            assert (
                image.text["Comment"] == "made by hand" if target == "png" else image.info["comment"] == b"made by hand"
            )
    reported = " ".join(format_.remarks(path))
    assert ("texts" in reported) == (source == "png" and target != "png")
    assert ("comment" in reported) == (source == "jpg" and target not in ("png", "jpg"))


def test_a_16_bit_png_keeps_what_it_says_of_itself_too(tmp_path: Path) -> None:
    file = read_picture(described(tmp_path, "png"))
    deep = file.samples.astype(np.uint16) * 257 + 3
    with (tmp_path / "out.png").open("wb") as stream:
        encode_picture(stream, format_for(tmp_path / "out.png", file), file, deep, '{"seed": 1}')
    again = read_picture(tmp_path / "out.png")
    assert np.array_equal(again.samples, deep)
    assert (again.metadata.exif, again.metadata.xmp, again.metadata.dpi) == (
        file.metadata.exif,
        file.metadata.xmp,
        file.metadata.dpi,
    )
    assert again.metadata.texts == {**file.metadata.texts, "DiffEdit": '{"seed": 1}'}


def test_a_profile_that_the_format_does_not_hold_is_reported(tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (8, 8)).save(tmp_path / "in.png", icc_profile=profile)
    file = read_picture(tmp_path / "in.png")
    assert format_for(Path("a.png"), file).lost == ()
    assert format_for(Path("a.bmp"), file).remarks(Path("a.bmp")) == (
        "'a.bmp' does not hold the picture's colour profile; a .png does.",
    )


def test_the_thumbnail_of_the_picture_before_the_edit_does_not_stay_in_the_result(tmp_path: Path) -> None:
    """EXIF's second directory may hold one, written here by the format's own layout."""
    first = struct.pack("<HHHIIH", 1, 0x8298, 2, 4, 0x00432E41, 0)[:-2] + struct.pack("<I", 26)
    second = struct.pack("<H", 1) + struct.pack("<HHIHH", 0x0103, 3, 1, 6, 0) + struct.pack("<I", 0) + b"OLD PICTURE"
    Image.new("RGB", (8, 8)).save(
        tmp_path / "in.jpg", exif=b"Exif\0\0" + struct.pack("<2sHI", b"II", 42, 8) + first + second
    )
    file = read_picture(tmp_path / "in.jpg")
    write_picture(tmp_path / "out.jpg", format_for(tmp_path / "out.jpg", file), file, file.samples)
    assert b"OLD PICTURE" in (tmp_path / "in.jpg").read_bytes()
    assert b"OLD PICTURE" not in (tmp_path / "out.jpg").read_bytes()


def test_damaged_exif_stops_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "in.png")
    data = (tmp_path / "in.png").read_bytes()
    body = b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    (tmp_path / "in.png").write_bytes(data[:33] + chunk + data[33:])
    assert read_picture(tmp_path / "in.png").size == (8, 8)


def test_a_write_that_fails_in_the_middle_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"before")

    def half(path: Path) -> None:
        with replacing(path) as stream:
            stream.write(b"half of it")
            raise OSError(28, "No space left on device")

    with pytest.raises(BadInputError, match=r"could not be written: No space left on device\. Nothing was replaced\."):
        half(path)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_full_disk_is_a_sentence_and_leaves_no_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results.os, "fsync", full)
    file = picture_of(tmp_path, "RGB")
    there = os.listdir(tmp_path)
    with pytest.raises(BadInputError, match="No space left on device"):
        write_picture(tmp_path / "out.png", format_for(tmp_path / "out.png", file), file, file.samples)
    assert os.listdir(tmp_path) == there


def test_a_write_follows_a_link_and_keeps_the_rights_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(b"before")
    (tmp_path / "real.png").chmod(0o640)
    (tmp_path / "link.png").symlink_to("real.png")
    with replacing(tmp_path / "link.png") as stream:
        stream.write(b"after")
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").read_bytes() == b"after"
    assert (tmp_path / "real.png").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("none/a.png", "There is no folder 'none' for 'a.png'"), ("folder", "'folder' is a folder. Name a file.")],
)
def test_a_place_that_cannot_be_written_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInputError, match=sentence):
        check_destination(Path(name), 1)


def test_too_little_room_is_told_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_free_bytes", lambda folder: 2 << 20)
    check_destination(tmp_path / "a.png", 2 << 20)
    with pytest.raises(BadInputError, match="needs some 9 MiB, but 2 MiB are free there"):
        check_destination(tmp_path / "a.png", 9 << 20)


def test_a_place_without_the_right_to_write_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results.os, "access", lambda path, mode: False)
    with pytest.raises(BadInputError, match=r"may not be written\. Name another place\."):
        check_destination(tmp_path / "a.png", 1)


def test_a_fingerprint_knows_samples_by_value_shape_and_depth() -> None:
    zeros = np.zeros((4, 6, 1), np.uint8)
    others = [zeros + np.uint8(1), zeros.reshape(6, 4, 1), zeros.reshape(2, 6, 1, 2)[..., 0].copy().astype(np.uint16)]
    assert len({fingerprint(samples) for samples in (zeros, *others)}) == 4
    assert fingerprint(zeros) == fingerprint(zeros.copy())


def test_the_iptc_data_of_a_jpeg_stays_in_a_jpeg_and_its_loss_elsewhere_is_told(tmp_path: Path) -> None:
    """Photoshop's segment APP13, with the copyright notice (2:116) of IPTC-IIM."""
    notice = b"\x1c\x02\x74\x00\x09An Artist"
    body = b"Photoshop 3.0\x00" + b"8BIM\x04\x04\x00\x00" + struct.pack(">I", len(notice)) + notice
    segment = b"\xff\xed" + struct.pack(">H", 2 + len(body)) + body
    Image.new("RGB", (8, 8)).save(tmp_path / "in.jpg", extra=segment)
    file = read_picture(tmp_path / "in.jpg")
    write_picture(tmp_path / "out.jpg", format_for(tmp_path / "out.jpg", file), file, file.samples)
    assert segment in (tmp_path / "out.jpg").read_bytes()
    for name in ("a.webp", "a.png"):
        sentence = f"'{name}' does not hold the picture's IPTC."
        assert format_for(Path(name), file).remarks(Path(name)) == (sentence,)
