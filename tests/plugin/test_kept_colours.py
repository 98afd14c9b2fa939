"""Where an edit kept the colour that was sent: the share of the edit in each px, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from diffedit.model.kept_colours import CHANGED, KEPT, changed_share, multiplied


@pytest.mark.parametrize("channels", [3, 4])
def test_the_share_of_the_edit_grows_with_the_largest_difference_of_a_channel(channels: int) -> None:
    rng = np.random.default_rng(3)
    sent = rng.integers(0, 256, (37, 53, channels), np.uint8)
    step = rng.integers(-20, 21, (37, 53, 3))
    step[:10] //= 8
    edit = np.full((37, 53, 4), 77, np.uint8)
    edit[..., :3] = np.clip(sent[..., :3] + step, 0, 255)
    share = np.frombuffer(changed_share(sent.tobytes(), channels, edit.tobytes(), 53, 37), np.uint8).reshape(37, 53)
    largest = np.abs(edit[..., :3].astype(int) - sent[..., :3]).max(-1)
    wanted = np.clip((largest - KEPT) / (CHANGED - KEPT), 0, 1) * 255
    assert np.abs(share - wanted).max() <= 1
    assert (share[largest <= KEPT] == 0).all()
    assert (share[largest >= CHANGED] == 255).all()
    assert {0, 255} < set(share.ravel().tolist())


def test_two_planes_are_multiplied() -> None:
    rng = np.random.default_rng(4)
    one, two = (rng.integers(0, 256, (9, 31), np.uint8) for _ in range(2))
    one[0], two[0] = 255, 0
    product = np.frombuffer(multiplied(one.tobytes(), two.tobytes(), 31, 9), np.uint8).reshape(9, 31)
    assert np.abs(product - one.astype(float) * two / 255).max() <= 1
    assert (product[0] == 0).all()
