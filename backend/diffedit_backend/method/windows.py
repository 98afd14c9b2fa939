"""Latents larger than the model was made for: predicted in overlapping windows whose predictions are blended.

MultiDiffusion (arXiv 2302.08113), with weights that fall towards a window's borders as in Mixture of Diffusers
(arXiv 2302.02412). Every step of a solver sees one prediction, so no seam can form between windows that disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from .inversion import Predict

OVERLAP = 0.5  # of a window's side: at a quarter, a window's border could be told in smooth skies


@dataclass(frozen=True)
class Window:
    """A rectangle of latent cells: its first row and column, its rows and columns."""

    top: int
    left: int
    height: int
    width: int

    def of(self, x: Tensor) -> Tensor:
        """The part of x (..., h, w) in the window, a view."""
        return x[..., self.top : self.top + self.height, self.left : self.left + self.width]


def windows_over(wanted: Tensor, side: int) -> tuple[Window, ...]:
    """Windows over wanted (h, w), evenly spread, which see every cell that is > 0; those that see none are left out.

    A window is `side` cells high and wide, or as the latents where those are smaller, and overlaps its neighbours by
    half or more.
    """
    height, width = (min(side, length) for length in wanted.shape)
    places = product(_starts(wanted.shape[0], height), _starts(wanted.shape[1], width))
    windows = (Window(top, left, height, width) for top, left in places)
    return tuple(window for window in windows if bool((window.of(wanted) > 0).any()))


def _starts(length: int, side: int) -> list[int]:
    stride = max(1, round(side * (1 - OVERLAP)))
    gaps = -(-(length - side) // stride)
    return [round(index * (length - side) / max(1, gaps)) for index in range(gaps + 1)]


def in_windows(predict: Predict, windows: tuple[Window, ...]) -> Predict:
    """`predict` for latents of any size: asked about all windows (of one size) as one batch, its answers blended.

    Cells that no window sees get a prediction of 0, so they must be put back from a background after every step.
    """

    def predict_blended(x: Tensor, level: Any) -> Tensor:
        parts = predict(torch.cat([window.of(x) for window in windows]), level).chunk(len(windows))
        share = _weights(windows[0]).to(parts[0])
        total = torch.zeros_like(x, dtype=share.dtype)
        weight = torch.zeros(x.shape[-2:], dtype=share.dtype, device=x.device)
        for window, part in zip(windows, parts, strict=True):
            window.of(total).add_(part * share)
            window.of(weight).add_(share)
        return total / weight.clamp(min=torch.finfo(weight.dtype).tiny)

    return predict_blended


def _weights(window: Window) -> Tensor:
    """(height, width): a pyramid, highest in the middle and above 0 everywhere."""
    rows, columns = (
        1 - (torch.arange(length) - (length - 1) / 2).abs() / (length / 2) for length in (window.height, window.width)
    )
    return torch.minimum(rows[:, None], columns[None, :])
