"""Picture files of every kind, in and out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from diffedit_backend.imaging.files import lay_in, read_picture, read_plane, write_picture
from diffedit_backend.imaging.png16 import read_png16, write_png16
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


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_file_of_any_mode_keeps_its_samples_outside_of_the_mask(tmp_path, mode):
    file = read_picture(save(tmp_path / "in.png", mode))
    assert file.pixels.shape[2] == (4 if mode in ("LA", "RGBA") else 3)
    edited = np.full_like(file.pixels, 77)
    write_picture(tmp_path / "out.png", file, lay_in(file, edited, half_mask()))
    result = read_picture(tmp_path / "out.png")
    assert result.samples.dtype == file.samples.dtype
    assert np.array_equal(result.samples[:, :12], file.samples[:, :12])
    colours = 1 if file.is_grey else 3
    assert (result.samples[:, 13:, :colours] == 77 * (257 if mode == "I;16" else 1)).all()
    assert np.array_equal(result.samples[..., colours:], file.samples[..., colours:])


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bit_colour_keeps_every_bit_outside_of_the_mask(tmp_path, channels):
    samples = noise(channels, deep=True)
    write_png16(tmp_path / "in.png", samples)
    file = read_picture(tmp_path / "in.png")
    assert np.array_equal(file.samples, samples)
    write_picture(tmp_path / "out.png", file, lay_in(file, np.zeros_like(file.pixels), half_mask()))
    assert np.array_equal(read_picture(tmp_path / "out.png").samples[:, :12], samples[:, :12])
    with Image.open(tmp_path / "out.png") as image:  # another reader understands the file as well
        assert image.size == SIZE


@pytest.mark.parametrize("row_filter", range(5))
def test_every_row_filter_of_png_is_undone(tmp_path, row_filter):
    """The filters are applied here by the specification's own formulas."""
    import struct
    import zlib

    samples = noise(3, deep=True)
    write_png16(tmp_path / "plain.png", samples)
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
    assert np.array_equal(read_png16(tmp_path / "filtered.png"), samples)


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
    write_picture(tmp_path / "out.png", file, file.samples)
    with Image.open(tmp_path / "out.png") as written:
        assert 0x0112 not in written.getexif()


def test_a_profile_is_respected_on_the_way_in_and_out(tmp_path):
    """A linear profile: its middle grey of 128 is much lighter in sRGB."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(np.full((SIZE[1], SIZE[0], 3), 128, np.uint8))
    image.save(tmp_path / "srgb.png", icc_profile=lab)
    file = read_picture(tmp_path / "srgb.png")
    assert file.profile == lab
    assert np.abs(file.pixels.astype(int) - 128).max() <= 1
    write_picture(tmp_path / "out.png", file, file.samples)
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


def test_a_picture_in_cmyk_is_converted_and_that_is_said(tmp_path):
    Image.fromarray(noise(3)).convert("CMYK").save(tmp_path / "in.tif")
    assert "CMYK" in read_picture(tmp_path / "in.tif").remark


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


def test_a_result_is_not_written_where_the_format_would_lose_it(tmp_path):
    rgba, deep = (read_picture(save(tmp_path / f"{name}.png", mode)) for name, mode in (("a", "RGBA"), ("b", "I;16")))
    with pytest.raises(BadInputError, match="JPEG holds neither"):
        write_picture(tmp_path / "out.jpg", rgba, rgba.samples)
    with pytest.raises(BadInputError, match="16 bits per channel is written as PNG"):
        write_picture(tmp_path / "out.webp", deep, deep.samples)
    with pytest.raises(BadInputError, match="does not end in a picture format"):
        write_picture(tmp_path / "out.xyz", rgba, rgba.samples)


def test_a_mask_file_of_another_size_is_refused(tmp_path):
    path = save(tmp_path / "mask.png", "L")
    assert read_plane(path, *SIZE).shape == (SIZE[1], SIZE[0])
    with pytest.raises(BadInputError, match="must be 10 × 10 px"):
        read_plane(path, 10, 10)
