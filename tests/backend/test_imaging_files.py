"""Picture files of every kind, in and out."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from diffedit_backend.imaging.deep import is_cut_to_8_bits, write_deep_png
from diffedit_backend.imaging.files import PictureFile, Samples, lay_in, read_picture, read_plane
from diffedit_backend.imaging.results import format_for, write_picture
from diffedit_protocol.errors import BadInputError
from PIL import Image, ImageCms

SIZE = (24, 18)  # width, height


def noise(channels: int, deep: bool = False) -> np.ndarray:
    shape = (SIZE[1], SIZE[0], channels)
    rng = np.random.default_rng(channels)
    return rng.integers(0, 65536, shape, dtype=np.uint16) if deep else rng.integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, mode: str) -> Path:
    if mode == "1":
        image = Image.fromarray(noise(1)[..., 0]).convert("1")
    elif mode == "P":
        image = Image.fromarray(noise(3)).quantize(16)
    elif mode == "I;16":
        image = Image.fromarray(noise(1, deep=True)[..., 0])
    else:
        image = Image.fromarray(np.squeeze(noise(len(mode)))).convert(mode)
    image.save(path)
    return path


def half_mask() -> np.ndarray:
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    mask[:, 12:] = 255
    mask[:, 12] = 128
    return mask


def write(path: Path, file: PictureFile, samples: Samples) -> None:
    write_picture(path, format_for(path, file), file, samples)


def write_deep(path: Path, samples: np.ndarray) -> None:
    with path.open("wb") as stream:
        write_deep_png(stream, samples)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_file_of_any_mode_keeps_its_samples_outside_of_the_mask(tmp_path, mode):
    file = read_picture(save(tmp_path / "in.png", mode))
    assert file.pixels.shape[2] == (4 if mode in ("LA", "RGBA") else 3)
    edited = np.full_like(file.pixels, 77)
    write(tmp_path / "out.png", file, lay_in(file, edited, half_mask()))
    result = read_picture(tmp_path / "out.png")
    assert result.samples.dtype == file.samples.dtype
    assert np.array_equal(result.samples[:, :12], file.samples[:, :12])
    colours = 1 if file.is_grey else 3
    assert (result.samples[:, 13:, :colours] == 77 * (257 if mode == "I;16" else 1)).all()
    assert np.array_equal(result.samples[..., colours:], file.samples[..., colours:])


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bit_colour_keeps_every_bit_outside_of_the_mask(tmp_path, channels):
    samples = noise(channels, deep=True)
    write_deep(tmp_path / "in.png", samples)
    file = read_picture(tmp_path / "in.png")
    assert np.array_equal(file.samples, samples)
    write(tmp_path / "out.png", file, lay_in(file, np.zeros_like(file.pixels), half_mask()))
    assert np.array_equal(read_picture(tmp_path / "out.png").samples[:, :12], samples[:, :12])
    with Image.open(tmp_path / "out.png") as image:  # another reader understands the file as well
        assert image.size == SIZE


@pytest.mark.parametrize("row_filter", range(5))
def test_every_row_filter_of_png_is_undone(tmp_path, row_filter):
    """The filters are applied here by the specification's own formulas."""
    samples = noise(3, deep=True)
    write_deep(tmp_path / "plain.png", samples)
    raw = samples.astype(">u2").view(np.uint8).reshape(SIZE[1], -1).astype(int)
    lines = b""
    for y in range(SIZE[1]):
        line = bytearray([row_filter])
        for x in range(raw.shape[1]):
            a = raw[y, x - 6] if x >= 6 else 0
            b = raw[y - 1, x] if y else 0
            c = raw[y - 1, x - 6] if x >= 6 and y else 0
            p = a + b - c
            nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            line.append(int(raw[y, x] - (0, a, b, (a + b) // 2, nearest)[row_filter]) & 255)
        lines += bytes(line)
    data = (tmp_path / "plain.png").read_bytes()
    body = zlib.compress(lines)
    chunk = struct.pack(">I", len(body)) + b"IDAT" + body + struct.pack(">I", zlib.crc32(b"IDAT" + body))
    (tmp_path / "filtered.png").write_bytes(data[:33] + chunk + data[-12:])
    assert np.array_equal(read_picture(tmp_path / "filtered.png").samples, samples)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_photo_is_worked_on_upright(tmp_path, orientation):
    from PIL import ImageOps

    image = Image.fromarray(noise(3))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "in.png", exif=exif)
    with Image.open(tmp_path / "in.png") as stored:
        upright = np.asarray(ImageOps.exif_transpose(stored))
    file = read_picture(tmp_path / "in.png")
    assert np.array_equal(file.samples, upright)
    write(tmp_path / "out.png", file, file.samples)
    with Image.open(tmp_path / "out.png") as written:
        assert 0x0112 not in written.getexif()


def test_a_profile_is_respected_on_the_way_in_and_out(tmp_path):
    """A linear profile: its middle grey of 128 is much lighter in sRGB."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(np.full((SIZE[1], SIZE[0], 3), 128, np.uint8))
    image.save(tmp_path / "srgb.png", icc_profile=lab)
    file = read_picture(tmp_path / "srgb.png")
    assert file.profile is not None
    assert file.profile.data == lab
    assert np.abs(file.pixels.astype(int) - 128).max() <= 1
    write(tmp_path / "out.png", file, file.samples)
    with Image.open(tmp_path / "out.png") as written:
        assert written.info["icc_profile"] == lab
    image.save(tmp_path / "xyz.png", icc_profile=profile)
    assert np.array_equal(read_picture(tmp_path / "xyz.png").pixels, np.asarray(image))


def test_transparency_of_a_palette_becomes_alpha(tmp_path):
    image = Image.fromarray(noise(3)).quantize(8)
    image.save(tmp_path / "in.png", transparency=0)
    file = read_picture(tmp_path / "in.png")
    assert file.samples.shape[2] == 4
    assert np.array_equal(file.samples[..., 3] == 0, np.asarray(image) == 0)


def test_a_picture_in_cmyk_is_converted_and_that_is_reported(tmp_path):
    Image.fromarray(noise(3)).convert("CMYK").save(tmp_path / "in.tif")
    assert "CMYK" in read_picture(tmp_path / "in.tif").remarks[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "There is no file"),
        (b"", "is empty"),
        (b"a text, no picture", "is no picture"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "no picture|damaged"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(tmp_path, content, says):
    path = tmp_path / "in.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInputError, match=says):
        read_picture(path)


def test_a_picture_that_ends_too_soon_is_refused_in_words(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(noise(3)).save(buffer, "PNG")
    (tmp_path / "in.png").write_bytes(buffer.getvalue()[:300])
    with pytest.raises(BadInputError, match="damaged"):
        read_picture(tmp_path / "in.png")


def test_a_mask_file_of_another_size_is_refused(tmp_path):
    path = save(tmp_path / "mask.png", "L")
    assert read_plane(path, *SIZE).shape == (SIZE[1], SIZE[0])
    with pytest.raises(BadInputError, match="must be 10 × 10 px"):
        read_plane(path, 10, 10)


def chunked(path: Path, kind: bytes, body: bytes) -> None:
    """Put a chunk into a PNG, behind its header."""
    data = path.read_bytes()
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(data[:33] + chunk + data[33:])


@pytest.mark.parametrize("width", range(64, 100))
def test_an_8_bit_bmp_of_any_width_is_read_whatever_digits_its_stride_has(tmp_path, width):
    pixels = np.random.default_rng(width).integers(0, 256, (3, width, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.bmp")
    assert np.array_equal(read_picture(tmp_path / "in.bmp").samples, pixels)


@pytest.mark.parametrize("ending", ["tga", "tif", "ppm", "pcx", "sgi", "dds", "qoi", "png", "webp"])
@pytest.mark.parametrize("width", [16, 72, 116, 160])
def test_a_16_in_a_width_or_a_stride_makes_no_16_bit_picture_of_any_format(tmp_path, ending, width):
    pixels = np.random.default_rng(width).integers(0, 256, (16, width, 3), np.uint8)
    options = {"lossless": True} if ending == "webp" else {}
    Image.fromarray(pixels).save(tmp_path / f"in.{ending}", **options)
    assert np.array_equal(read_picture(tmp_path / f"in.{ending}").samples[..., :3], pixels)


def test_a_bmp_of_16_bits_a_pixel_is_one_of_8_bits_a_channel(tmp_path):
    """5 bits each of red, green and blue: written here by the format's own layout."""
    header = b"BM" + struct.pack("<IHHI", 14 + 40 + 8, 0, 0, 54)
    info = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 0, 4, 2835, 2835, 0, 0)
    (tmp_path / "in.bmp").write_bytes(header + info + struct.pack("<HHI", 0b11111, 0b11111 << 10, 0)[:8])
    assert read_picture(tmp_path / "in.bmp").samples[0].tolist() == [[0, 0, 255], [255, 0, 0]]


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_a_16_bit_tiff_in_colour_keeps_every_bit(tmp_path, compression, channels, byteorder):
    import tifffile  # comes with scikit-image

    samples = noise(channels, deep=True)
    more = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    tifffile.imwrite(
        tmp_path / "in.tif", samples, photometric="rgb", compression=compression, byteorder=byteorder, **more
    )
    assert np.array_equal(read_picture(tmp_path / "in.tif").samples, samples)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_an_interlaced_16_bit_png_is_read(tmp_path, channels):
    """Adam7, written here by the specification: seven smaller pictures, one after the other."""
    samples = noise(channels, deep=True)
    write_deep(tmp_path / "in.png", samples)
    lines = b""
    for left, top, across, down in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        part = samples[top::down, left::across]
        if part.size:
            lines += b"".join(b"\0" + row.astype(">u2").tobytes() for row in part)
    data = bytearray((tmp_path / "in.png").read_bytes())
    data[28] = 1
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    body = zlib.compress(lines)
    chunk = struct.pack(">I", len(body)) + b"IDAT" + body + struct.pack(">I", zlib.crc32(b"IDAT" + body))
    (tmp_path / "in.png").write_bytes(bytes(data[:33]) + chunk + bytes(data[-12:]))
    assert np.array_equal(read_picture(tmp_path / "in.png").samples, samples)


def test_the_transparent_colour_of_a_16_bit_png_becomes_alpha(tmp_path):
    samples = noise(3, deep=True)
    write_deep(tmp_path / "in.png", samples)
    chunked(tmp_path / "in.png", b"tRNS", samples[2, 3].astype(">u2").tobytes())
    file = read_picture(tmp_path / "in.png")
    assert file.samples.shape[2] == 4
    assert np.argwhere(file.samples[..., 3] == 0).tolist() == [[2, 3]]
    assert np.array_equal(file.samples[..., :3], samples)


@pytest.mark.parametrize("largest", [65535, 1023])
def test_a_ppm_of_more_than_8_bits_is_not_cut_in_silence(tmp_path, largest):
    (tmp_path / "in.ppm").write_bytes(f"P6 2 1 {largest} ".encode() + bytes(12))
    with pytest.raises(BadInputError, match="16-bit colours"):
        read_picture(tmp_path / "in.ppm")


@pytest.mark.parametrize("data", [b"\0\0\1\0not a profile", b"", b"x" * 4000])
def test_a_broken_profile_is_told_and_the_colours_are_taken_for_srgb(tmp_path, data):
    pixels = noise(3)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    chunked(tmp_path / "in.png", b"iCCP", b"ICC\0\0" + zlib.compress(data))
    file = read_picture(tmp_path / "in.png")
    assert np.array_equal(file.pixels, pixels)
    assert file.profile is None
    assert [bool(data)] == [
        "The colour profile of 'in.png' is damaged; its colours are taken for sRGB." in file.remarks
    ]


def test_a_profile_whose_curves_are_cut_off_is_told_as_damaged(tmp_path):
    whole = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    cut = struct.pack(">I", 300) + whole[4:300]
    Image.fromarray(noise(3)).save(tmp_path / "in.png", icc_profile=cut)
    assert "is damaged" in read_picture(tmp_path / "in.png").remarks[0]


def grey_profile(gamma: float) -> bytes:
    """An ICC profile (version 2, ICC.1:2001-04) of greys with one curve."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    text = b"desc" + bytes(4) + struct.pack(">I", 2) + b"g\0" + bytes(78) + bytes(2)
    tags = [(b"desc", text), (b"wtpt", white), (b"kTRC", curve)]
    place, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags:
        table += name + struct.pack(">II", place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = place + len(body)
    header = struct.pack(">I4sI", size, bytes(4), 0x02400000) + b"mntrGRAYXYZ " + bytes(12) + b"acsp" + bytes(28)
    header += struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + body


def test_the_profile_of_a_grey_picture_is_respected_on_the_way_in_and_out(tmp_path):
    """Gamma 1: its middle grey is a light one in sRGB (188), and comes back as it was."""
    Image.fromarray(np.full((SIZE[1], SIZE[0]), 128, np.uint8)).save(tmp_path / "in.png", icc_profile=grey_profile(1.0))
    file = read_picture(tmp_path / "in.png")
    assert abs(int(file.pixels[0, 0, 0]) - 188) <= 1
    assert file.remarks == ()
    samples = lay_in(file, np.full_like(file.pixels, 188), half_mask())
    assert np.array_equal(samples[:, :12], file.samples[:, :12])
    assert np.abs(samples[:, 13:].astype(int) - 128).max() <= 1
    write(tmp_path / "out.png", file, samples)
    again = read_picture(tmp_path / "out.png")
    assert again.profile == file.profile


def test_a_cmyk_picture_is_converted_by_its_own_profile(tmp_path, monkeypatch):
    seen = []
    from diffedit_backend.imaging import files
    from diffedit_backend.imaging.profiles import Profile

    class Stand(Profile):
        def to_srgb(self, image):
            seen.append(image.mode)
            return image.convert("RGB")

    Image.fromarray(noise(3)).convert("CMYK").save(tmp_path / "in.tif", icc_profile=b"a profile of a press")
    monkeypatch.setattr(files.Profile, "of", lambda data: Stand(data, "CMYK"))
    assert read_picture(tmp_path / "in.tif").samples.shape[2] == 3
    assert seen == ["CMYK"]


def test_a_picture_in_lab_is_converted_and_that_is_reported(tmp_path):
    rgb = Image.new("RGB", SIZE, (200, 40, 90))
    lab = ImageCms.profileToProfile(
        rgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    lab.save(tmp_path / "in.tif")
    file = read_picture(tmp_path / "in.tif")
    assert np.abs(file.samples[0, 0].astype(int) - (200, 40, 90)).max() <= 3
    assert "LAB" in file.remarks[0]


@pytest.mark.parametrize("ending", ["gif", "png", "tif", "webp", "mpo"])
def test_pictures_beyond_the_first_are_told(tmp_path, ending):
    frames = [Image.new("RGB", SIZE, colour) for colour in ("red", "blue", "green")]
    frames[0].save(tmp_path / f"in.{ending}", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / f"in.{ending}").remarks == (
        f"'in.{ending}' holds 3 pictures (frames or pages); the first is edited, the result holds no other.",
    )


@pytest.mark.parametrize(
    ("ending", "name", "anchor", "offset", "value"),
    [("avif", "AVIF", b"av1C", 6, 0x40), ("jp2", "JPEG2000", b"\xff\x4f\xff\x51", 42, 15)],
)
def test_bits_that_are_cut_to_8_are_known_by_the_files_own_header(tmp_path, ending, name, anchor, offset, value):
    """No encoder at hand writes such files, so one of 8 bits gets the header of one of 10 or 16."""
    Image.fromarray(noise(3)).save(tmp_path / f"in.{ending}")
    data = bytearray((tmp_path / f"in.{ending}").read_bytes())
    assert not is_cut_to_8_bits(name, bytes(data))
    assert read_picture(tmp_path / f"in.{ending}").remarks == ()
    data[data.index(anchor) + offset] |= value
    assert is_cut_to_8_bits(name, bytes(data))
    assert not is_cut_to_8_bits("PNG", bytes(data))
    assert not is_cut_to_8_bits(name, b"")


def test_bits_that_are_cut_to_8_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("diffedit_backend.imaging.files.is_cut_to_8_bits", lambda name, data: name == "AVIF")
    Image.fromarray(noise(3)).save(tmp_path / "in.avif")
    Image.fromarray(noise(3)).save(tmp_path / "in.png")
    assert read_picture(tmp_path / "in.avif").remarks == (
        "'in.avif' has more than 8 bits per channel, of which 8 are read.",
    )
    assert read_picture(tmp_path / "in.png").remarks == ()
