"""Puts the pictures into the manual: `python krita_plugin/make_manual.py` writes `diffedit/Manual.html`.

Krita shows the manual without a base address, so that pictures beside it are not found: they stand in it as data.
"""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "manual" / "manual.html"
MANUAL = HERE / "diffedit" / "Manual.html"


def manual() -> str:
    """The manual's text with its pictures in it. FileNotFoundError names a picture that is missing."""
    return re.sub(r'src="([^"]+\.png)"', lambda found: f'src="{_data(found[1])}"', SOURCE.read_text(encoding="utf-8"))


def _data(name: str) -> str:
    picture = (SOURCE.parent / name).read_bytes()
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


if __name__ == "__main__":
    MANUAL.write_text(manual(), encoding="utf-8")
    sys.exit(0)
