"""Transparency around a network that knows none: laid on white, worked on, taken off the white again."""

from __future__ import annotations

import numpy as np

from ..types import Pixels, Plane

_PAPER = 255.0  # white: what artists see behind a transparent layer


def composite_on_white(pixels: Pixels) -> Pixels:
    """(H, W, 3) of a picture (H, W, 3 or 4, straight alpha)."""
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return np.rint(pixels[..., :3] * alpha + _PAPER * (1 - alpha)).astype(np.uint8)


def uncomposite(pixels: Pixels, alpha: Plane) -> Pixels:
    """The straight colours that, at `alpha` (H, W), come nearest to `pixels` (H, W, 3) when laid on the paper."""
    if alpha.min(initial=255) == 255:
        return pixels
    share = np.maximum(alpha[..., None].astype(np.float32), 1) / 255
    return np.rint(np.clip((pixels - _PAPER * (1 - share)) / share, 0, 255)).astype(np.uint8)
