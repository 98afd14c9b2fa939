"""Makes the pictures of this folder from the packages that SOURCE.md names: `python collect.py DEBIAN NPM`.

DEBIAN is a folder into which the Debian packages were unpacked (dpkg -x), NPM one with the npm packages in its
node_modules. Run once, by hand; it is no part of the program. Drawings are cropped to what is visible and brought to at
most 256 px, photographs of grounds to at most 384 px, both as WebP.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
ICON_SETS = {"noto", "noto-v1", "twemoji"}
DRAWING, GROUND = 256, 384  # px, longer side
QUALITY = 85


def main(debian: Path, npm: Path) -> None:
    share = debian / "usr/share"
    folders = {
        "tuxpaint": share / "tuxpaint/stamps",
        "openclipart": share / "openclipart/svg",
        "gimp": share / "gimp/2.0/patterns",
        "krita": share / "krita/patterns",
        "fluent-3d": npm / "node_modules/@lobehub/fluent-emoji-3d/assets",
        "fluent-flat": npm / "node_modules/@lobehub/fluent-emoji-flat/assets",
        "skimage": _skimage(),
    }
    suffixes = {"fluent-3d": ".webp", "fluent-flat": ".svg"}
    wanted: dict[str, tuple[str, int]] = {}
    for kind, longest in (("drawings", DRAWING), ("grounds", GROUND)):
        (HERE / kind).mkdir(exist_ok=True)
        for name, sources in json.loads((HERE / f"{kind}.json").read_text()).items():
            for number, source in enumerate(sources):
                wanted[f"{kind}/{name}-{number}.webp"] = (source, longest)
    jobs: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as scratch:
        files: dict[str, Path] = {}
        for number, (target, (source, _)) in enumerate(wanted.items()):
            origin, _, name = source.partition(":")
            file = Path() if origin in ICON_SETS else folders[origin] / (name + suffixes.get(origin, ""))
            if origin in ICON_SETS or file.suffix == ".svg":
                files[target] = Path(scratch) / f"{number}.png"
                job = {"set": origin, "name": name} if origin in ICON_SETS else {"svg": str(file.resolve())}
                jobs.append({**job, "out": str(files[target])})
            else:
                files[target] = file
        (Path(scratch) / "jobs.json").write_text(json.dumps(jobs))
        script = npm / "rasterise.mjs"  # node looks for packages beside the script
        script.write_text((HERE / "rasterise.mjs").read_text())
        subprocess.run(["node", script.name, f"{scratch}/jobs.json"], cwd=npm, check=True)
        for target, (_, longest) in wanted.items():
            picture = _pattern(files[target]) if files[target].suffix == ".pat" else Image.open(files[target])
            _small(picture, longest, cut_out=target.startswith("drawings")).save(HERE / target, quality=QUALITY)


def _small(picture: Image.Image, longest: int, cut_out: bool) -> Image.Image:
    if cut_out:
        picture = picture.convert("RGBA")
        picture = picture.crop(picture.getchannel("A").point(lambda a: 255 if a > 40 else 0).getbbox())
    else:
        picture = picture.convert("RGB")
    scale = min(1.0, longest / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS) if scale < 1 else picture


def _pattern(file: Path) -> Image.Image:
    """A pattern in GIMP's format: six 32 bit numbers (size of the header, version, width, height, bytes), pixels."""
    data = file.read_bytes()
    header, _, width, height, depth, _ = struct.unpack(">6I", data[:24])
    pixels: Any = np.frombuffer(data, np.uint8, width * height * depth, header).reshape(height, width, depth)
    return Image.fromarray(pixels[..., 0] if depth == 1 else pixels[..., :3].copy())


def _skimage() -> Path:
    import skimage

    return Path(skimage.__file__).parent / "data"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
