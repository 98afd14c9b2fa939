"""What the protocol's tests share: an edit with its blobs."""

from __future__ import annotations

import random

import pytest
from diffedit_protocol.blobs import pack_picture, pack_plane
from diffedit_protocol.messages import EditRequest


@pytest.fixture
def edit() -> tuple[EditRequest, dict[str, bytes]]:
    """A request of 20 × 10 px with a selection, and its blobs: 600 and some 200 bytes, ten chunks of 64."""
    noise = random.Random(5)
    picture, pixels = pack_picture(noise.randbytes(600), 20, 10, 3)
    selection, plane = pack_plane(noise.randbytes(200), 20, 10)
    request = EditRequest("a horse", "a zebra", picture=picture, selection=selection)
    return request, {picture.blob: pixels, selection.blob: plane}
